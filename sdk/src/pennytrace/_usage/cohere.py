"""Cohere: chat, embed and their streams, versions 1 and 2 of the API.

`billed_units` are what is paid for and stand above `tokens`, which count Cohere's own prompt too.
https://docs.cohere.com/reference/chat
"""

from __future__ import annotations

from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import count, field, has, text
from pennytrace._usage.usage import Usage

_ENDS = {"message-end": "delta", "stream-end": "response"}


def read(value: object) -> Answer | None:
    """The answer in a response or in a stream's last event, or None when the shape is another."""
    kind = text(value, "type") or text(value, "event_type") or ""
    response = field(value, _ENDS[kind]) if kind in _ENDS else value
    usage = field(response, "meta") or field(response, "usage")
    counts = read_usage(usage) if usage is not None else None
    if counts is None:
        return None
    # A v2 stream names its id in its first event only, which has no usage.
    response_id = text(response, "generation_id") or text(response, "id") or text(value, "id")
    is_embedding = has(response, "embeddings")
    return Answer(
        usage=counts,
        key=response_id or usage,
        response_id=response_id,
        provider="cohere",
        operation="embeddings" if is_embedding else "chat",
    )


def read_usage(usage: object) -> Usage | None:
    """A bare `usage` or `meta`; None when it has neither billed units nor tokens."""
    told = field(usage, "billed_units") or field(usage, "tokens")
    input_tokens = count(told, "input_tokens")
    cached = count(usage, "cached_tokens")
    found = Usage(
        input_tokens=input_tokens,
        output_tokens=count(told, "output_tokens"),
        # Counted in `tokens`: where fewer are billed, which of them were cached is not told.
        cache_read_tokens=cached if cached is not None and cached <= (input_tokens or 0) else None,
    )
    return found if input_tokens is not None or found.output_tokens is not None else None
