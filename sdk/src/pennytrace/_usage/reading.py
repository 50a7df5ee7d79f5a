"""One door to all shapes."""

from __future__ import annotations

from collections.abc import Mapping

from pennytrace._usage import anthropic, openai
from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import count
from pennytrace._usage.usage import FIELD_NAMES, Usage, usage_from

__all__ = ["Answer", "read", "read_given"]

_NEVER = (str, bytes, bytearray, int, float, bool, type(None))


def read(value: object, previous: Usage | None = None) -> Answer | None:
    """The answer in a response, chunk or event of a known shape, else None.

    `previous` is what the same stream has shown so far.
    """
    if isinstance(value, _NEVER):
        return None
    return anthropic.read(value, previous or Usage()) or openai.read(value)


def read_given(value: object, previous: Usage | None = None) -> Answer | None:
    """Like `read`, for a value that the caller says is usage: bare usage objects count too."""
    if isinstance(value, Usage):
        return Answer(usage=value)
    answer = read(value, previous)
    if answer is not None or isinstance(value, _NEVER):
        return answer
    usage = _canonical(value) or anthropic.read_usage(value) or openai.read_usage(value)
    return Answer(usage=usage) if usage is not None else None


def _canonical(value: object) -> Usage | None:
    """A mapping in our own vocabulary: it says so by a name that no provider uses."""
    if not isinstance(value, Mapping) or not any(name in value for name in FIELD_NAMES[2:]):
        return None
    return usage_from({name: count(value, name) for name in FIELD_NAMES})
