"""One door to all shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pennytrace._usage import anthropic, bedrock, cohere, gemini, native, openai
from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import ByType, Screen, count
from pennytrace._usage.usage import FIELD_NAMES, Usage, usage_from

if TYPE_CHECKING:
    from collections.abc import Callable

    Reader = Callable[[object], Answer | None]

__all__ = ["Answer", "read", "read_given"]

_NEVER = (str, bytes, bytearray, int, float, bool, type(None))
# Each knows its shape by names that the ones before it do not have.
_READERS: tuple[Reader, ...] = (cohere.read, bedrock.read, gemini.read, native.read, openai.read, openai.read_event)
# Objects of these packages have one shape, so that a stream's many chunks need not be asked for the others.
_PACKAGE_READERS: dict[str, tuple[Reader, ...]] = {
    "openai": (openai.read,),
    "litellm": (openai.read,),
    "mistralai": (openai.read, openai.read_event),
    "groq": (openai.read,),
    "anthropic": (),
    "google": (gemini.read,),
    "vertexai": (gemini.read,),
    "cohere": (cohere.read,),
    "ollama": (native.read,),
}
_NO_ANSWERS = frozenset({"numpy", "torch", "pandas", "polars", "scipy", "jax", "jaxlib", "tensorflow", "PIL"})
"""Packages whose values are arrays, frames and images."""


_screen = Screen(
    frozenset(
        {
            *("usage", "message", "result", "response", "delta", "data", "x_groq"),  # OpenAI, Anthropic, Mistral, Groq
            *("usage_metadata", "usageMetadata", "embeddings", "predictions"),  # Google
            *("metadata", "ResponseMetadata", "amazon-bedrock-invocationMetrics"),  # Bedrock, and two of its bodies
            *("inputTextTokenCount", "generation_token_count"),
            *("meta", "prompt_eval_count", "eval_count", "meta_info", "details"),  # Cohere, Ollama, SGLang, TGI
        }
    )
)
"""Every shape below has one of these fields; tests hold the readers to it."""


def _readers(kind: type) -> tuple[bool, tuple[Reader, ...]]:
    """Whether Anthropic's reader comes first, and the others, for values of this type."""
    package = kind.__module__.partition(".")[0]
    if issubclass(kind, _NEVER) or package in _NO_ANSWERS:
        return False, ()
    if issubclass(kind, list):
        return False, (native.read,)
    return package == "anthropic" or package not in _PACKAGE_READERS, _PACKAGE_READERS.get(package, _READERS)


_readers_by_type = ByType(_readers)


def read(value: object, previous: Usage | None = None) -> Answer | None:
    """The answer in a response, chunk or event of a known shape, else None.

    `previous` is what the same stream has shown so far.
    """
    is_anthropics, readers = _readers_by_type[type(value)]
    if not (is_anthropics or readers) or not _screen.may_tell(_first(value)):
        return None
    if is_anthropics:
        found = anthropic.read(value, previous or Usage())
        if found is not None:
            return found
    for reader in readers:
        found = reader(value)
        if found is not None:
            return found
    return None


def _first(value: object) -> object:
    """What a list is judged by: a batch of answers has one in front."""
    return (value[0] if value else None) if isinstance(value, list) else value


def read_given(value: object, previous: Usage | None = None) -> Answer | None:
    """Like `read`, for a value that the caller says is usage: bare usage objects count too."""
    if isinstance(value, Answer):
        return value
    if isinstance(value, Usage):
        return _stated(value)
    answer = read(value, previous)
    if answer is not None or isinstance(value, _NEVER):
        return answer
    usage = (
        _canonical(value)
        or anthropic.read_usage(value)
        or cohere.read_usage(value)
        or bedrock.read_usage(value)
        or gemini.read_usage(value)
        or openai.read_usage(value)
    )
    return None if usage is None else _stated(usage)


def _stated(usage: Usage) -> Answer:
    """Rows without tokens are a prediction of a classic model."""
    is_prediction = usage.rows is not None and usage.input_tokens is None and usage.output_tokens is None
    return Answer(usage=usage, operation="predict" if is_prediction else None)


def _canonical(value: object) -> Usage | None:
    """A mapping in our own vocabulary: it says so by a name that no provider uses."""
    if not isinstance(value, Mapping) or not any(name in value for name in FIELD_NAMES[2:]):
        return None
    return usage_from({name: count(value, name) for name in FIELD_NAMES})
