"""Google's Gemini API and Vertex AI: responses, stream chunks and embeddings, in the JSON's names or the SDK's.

`promptTokenCount` includes cached content; thoughts stand beside the candidates and tool-use prompts beside the
prompt, so both are added. Chunks repeat running totals.
https://ai.google.dev/api/generate-content#UsageMetadata
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import field, first_count, has, items, text, total
from pennytrace._usage.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

_CAMEL = {"tool_use_prompt": "toolUsePrompt", "cached_content": "cachedContent"}
_PROVIDER = "gcp.gen_ai"
"""Either API: only Vertex AI says which traffic type it was."""


def read(value: object) -> Answer | None:
    """The answer in a response or chunk, or None when the shape is another."""
    usage = field(value, "usage_metadata") or field(value, "usageMetadata")
    if usage is None:
        return _embeddings(value)
    counts = read_usage(usage)
    if counts is None:
        return None
    response_id = text(value, "response_id") or text(value, "responseId")
    is_vertex = has(usage, "traffic_type") or has(usage, "trafficType")
    return Answer(
        usage=counts,
        # Chunks of old versions have no id: then the newest total is that of whatever came before.
        key=response_id,
        model=text(value, "model_version") or text(value, "modelVersion"),
        response_id=response_id,
        provider="gcp.vertex_ai" if is_vertex else _PROVIDER,
        operation="generate_content",
    )


def read_usage(usage: object) -> Usage | None:
    """A bare `usageMetadata`; None when it has none of its counts."""
    prompt, tools = _count(usage, "prompt"), _count(usage, "tool_use_prompt")
    candidates, thoughts = _count(usage, "candidates"), _count(usage, "thoughts")
    found = Usage(
        input_tokens=None if prompt is None else total(prompt, tools),
        output_tokens=total(candidates, thoughts),
        cache_read_tokens=_count(usage, "cached_content"),
        reasoning_tokens=thoughts,
    )
    return found if found.known else None


def _count(usage: object, name: str) -> int | None:
    return first_count(usage, (f"{name}_token_count",), (f"{_CAMEL.get(name, name)}TokenCount",))


def _embeddings(value: object) -> Answer | None:
    embeddings = items(value, "embeddings") or [field(item, "embeddings") for item in items(value, "predictions")]
    counted = _tokens(embeddings)
    if counted is None:
        return None
    provider = "gcp.vertex_ai" if items(value, "predictions") else _PROVIDER
    return Answer(usage=Usage(input_tokens=counted), key=value, provider=provider, operation="embeddings")


def _tokens(embeddings: Sequence[object]) -> int | None:
    """The sum over all texts; None unless each of them is counted."""
    statistics = [field(item, "statistics") for item in embeddings]
    counts = [first_count(item, ("token_count",), ("tokenCount",)) for item in statistics]
    return None if None in counts else total(*counts)
