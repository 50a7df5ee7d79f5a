"""OpenAI and what is compatible with it: chat and text completions, responses, embeddings, and their streams.

Input and output counts are inclusive of cached and reasoning tokens. The provider is left open, since a
dozen of them speak this shape.
"""

from __future__ import annotations

from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import count, field, has, text
from pennytrace._usage.usage import Usage

_OPERATIONS = {
    "chat.completion": "chat",
    "chat.completion.chunk": "chat",
    "text_completion": "text_completion",
    "response": "chat",
    "list": "embeddings",
}
_CHUNK = "chat.completion.chunk"


def read(value: object) -> Answer | None:
    """The answer in a response, stream chunk or stream event, or None when the shape is another."""
    if (text(value, "type") or "").startswith("response."):
        value = field(value, "response")
    usage = field(value, "usage")
    counts = read_usage(usage)
    if counts is None:
        return None
    kind = text(value, "object") or ""
    response_id = text(value, "id")
    return Answer(
        usage=counts,
        key=response_id or (None if kind == _CHUNK else usage),
        model=text(value, "model"),
        response_id=response_id,
        operation=_OPERATIONS.get(kind),
        tier=text(value, "service_tier"),
    )


def read_usage(usage: object) -> Usage | None:
    """A bare usage object in either dialect; None when it has neither's counts."""
    dialect = _completions if has(usage, "prompt_tokens") else _responses
    found = dialect(usage)
    return found if found.known else None


def _completions(usage: object) -> Usage:
    return Usage(
        input_tokens=count(usage, "prompt_tokens"),
        output_tokens=count(usage, "completion_tokens"),
        cache_read_tokens=count(usage, "prompt_tokens_details", "cached_tokens"),
        cache_write_5m_tokens=count(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count(usage, "completion_tokens_details", "reasoning_tokens"),
    )


def _responses(usage: object) -> Usage:
    return Usage(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cache_read_tokens=count(usage, "input_tokens_details", "cached_tokens"),
        cache_write_5m_tokens=count(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count(usage, "output_tokens_details", "reasoning_tokens"),
    )
