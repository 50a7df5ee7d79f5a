"""Anthropic Messages: whole messages, `message_start` and `message_delta` events, batch results, bare usage objects.

Anthropic's `input_tokens` leaves out what was read from and written to the prompt cache; here all input
is `input_tokens + cache_read_input_tokens + cache_creation_input_tokens`.
https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance
"""

from __future__ import annotations

from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import count, field, has, text, total
from pennytrace._usage.usage import Usage

_CACHE_FIELDS = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation")
# Clouds that serve the same API put their name into the id.
_PROVIDER_BY_ID = {"msg_bdrk_": "aws.bedrock", "msg_vrtx_": "gcp.vertex_ai"}


def read(value: object, previous: Usage) -> Answer | None:
    """The answer in a message or stream event, or None when the shape is another."""
    match text(value, "type"):
        case "message" if has(value, "usage"):
            return _message(value)
        case "message_start" if has(value, "message"):
            return _message(field(value, "message"))
        case "message_delta" if has(value, "usage"):
            return Answer(usage=_delta_usage(field(value, "usage"), previous), operation="chat")
        case None if text(field(value, "result"), "type") == "succeeded":
            return _message(field(field(value, "result"), "message"))
        case _:
            return None


def read_usage(usage: object) -> Usage | None:
    """A bare usage object, known by its cache fields; None when it has none of them, or OpenAI's names too."""
    if has(usage, "prompt_tokens") or not any(has(usage, name) for name in _CACHE_FIELDS):
        return None
    return _usage(usage)


def _message(message: object) -> Answer:
    response_id = text(message, "id")
    usage = field(message, "usage")
    return Answer(
        usage=_usage(usage),
        key=response_id or usage,
        model=text(message, "model"),
        response_id=response_id,
        provider=_PROVIDER_BY_ID.get((response_id or "")[:9], "anthropic"),
        operation="chat",
        tier=text(usage, "service_tier"),
    )


def _usage(usage: object) -> Usage:
    fresh = count(usage, "input_tokens")
    read_tokens = count(usage, "cache_read_input_tokens")
    written = _written(usage)
    five_minutes, one_hour = _split(usage, written)
    return Usage(
        input_tokens=None if fresh is None else fresh + (read_tokens or 0) + (written or 0),
        output_tokens=count(usage, "output_tokens"),
        cache_read_tokens=read_tokens,
        cache_write_5m_tokens=five_minutes,
        cache_write_1h_tokens=one_hour,
    )


def _written(usage: object) -> int | None:
    told = count(usage, "cache_creation_input_tokens")
    if told is not None:
        return told
    return total(*(count(usage, "cache_creation", f"ephemeral_{ttl}_input_tokens") for ttl in ("5m", "1h")))


def _split(usage: object, written: int | None) -> tuple[int | None, int | None]:
    one_hour = count(usage, "cache_creation", "ephemeral_1h_input_tokens")
    if written is None or one_hour is None:
        return written, None
    return max(written - one_hour, 0), one_hour


def _delta_usage(usage: object, previous: Usage) -> Usage:
    """Running totals. Deltas lack the 5m/1h split, so that of `message_start` stands; old ones have output only."""
    now = _usage(usage)
    if now.cache_read_tokens is None or now.cache_write_5m_tokens is None:
        return Usage(output_tokens=now.output_tokens)
    one_hour = now.cache_write_1h_tokens if now.cache_write_1h_tokens is not None else previous.cache_write_1h_tokens
    return Usage(
        input_tokens=now.input_tokens,
        output_tokens=now.output_tokens,
        cache_read_tokens=now.cache_read_tokens,
        cache_write_5m_tokens=max((now.cache_write_tokens or 0) - (one_hour or 0), 0),
        cache_write_1h_tokens=one_hour,
    )
