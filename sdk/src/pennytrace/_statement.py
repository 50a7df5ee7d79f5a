"""Counts as a user states them: the span attributes that they will be, which is all that most calls ever need."""

from __future__ import annotations

from typing import Any

from pennytrace import _names as names
from pennytrace._usage import Answer, Usage

Statement = tuple[str | None, str | None, dict[str, Any]]
"""Model and provider, and the attributes: the response's id and the counts that are known."""


def statement(usage: Usage, model: str | None, provider: str | None, response_id: str | None) -> Statement:
    """What was said, ready to be written."""
    told = {names.RESPONSE_ID: response_id} if response_id else {}
    return model, provider, {**told, **usage.attributes()}


def as_answer(said: Statement) -> Answer:
    """The same as an `Answer`, to compare or merge with others."""
    model, provider, attributes = said
    response_id = attributes.get(names.RESPONSE_ID)
    written, one_hour = attributes.get(names.CACHE_WRITE_TOKENS), attributes.get(names.CACHE_WRITE_1H_TOKENS)
    usage = Usage(
        input_tokens=attributes.get(names.INPUT_TOKENS),
        output_tokens=attributes.get(names.OUTPUT_TOKENS),
        cache_read_tokens=attributes.get(names.CACHE_READ_TOKENS),
        cache_write_5m_tokens=None if written is None else written - (one_hour or 0),
        cache_write_1h_tokens=one_hour,
        reasoning_tokens=attributes.get(names.REASONING_TOKENS),
        rows=attributes.get(names.ROWS),
    )
    return Answer(usage=usage, key=response_id, model=model, provider=provider, response_id=response_id)
