"""Usage that an SDK hides in a model's answer, taken out before the answer is dropped.

What is found becomes one attribute, USAGE_KEY, with JSON: the provider's usage object under the name of its shape
(numbers only, otherwise as the provider wrote it), and model, id and service_tier of the answer where it has them.
How a shape counts is for the ledger to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

USAGE_KEY = "pennytrace.content.usage"

# Attributes that may hold a model's answer, for spans that say no usage elsewhere.
ANSWER_KEYS = frozenset(
    {
        "ai.response.object",
        "braintrust.output",
        "braintrust.output_json",
        "gcp.vertex.agent.llm_response",
        "gen_ai.completion",
        "gen_ai.completion.0.content",
        "gen_ai.content.completion",
        "gen_ai.output.messages",
        "genkit:output",
        "http.response.body",
        "http.response.body.content",
        "http.response.body.text",
        "langfuse.observation.output",
        "mlflow.spanOutputs",
        "output",
        "output.value",
        "response_data",
        "traceloop.entity.output",
    }
)

# An answer is read once, by a C parser; past this it is more likely a document than an answer.
ANSWER_BYTES_MAX = 4 << 20
_TEXT_CHARS_MAX, _DEPTH_MAX = 200, 3

# Where answers stand: as they are, in wrappers, as LangChain serialises a result or a message.
_PATHS: tuple[tuple[str | int, ...], ...] = (
    (),
    ("response",),
    ("body",),
    ("result",),
    ("message",),
    ("llm_output",),
    ("response_metadata",),
    ("kwargs",),
    ("kwargs", "response_metadata"),
    ("generations", 0, 0, "message"),
    ("generations", 0, 0, "message", "kwargs"),
)
_USAGE_NAMES = ("usage", "token_usage", "tokenUsage", "usage_metadata", "usageMetadata")
_TEXT_NAMES = {
    "model": ("model", "model_name", "modelVersion", "model_version"),
    "id": ("id", "responseId", "response_id"),
    "service_tier": ("service_tier",),
}

_Object = dict[str, object]


def find_usage(answer: str) -> bytes | None:
    """USAGE_KEY's value for an attribute that holds an answer as JSON; None when there is no usage in it."""
    if len(answer) > ANSWER_BYTES_MAX or "oken" not in answer:
        return None
    for document in _objects(_parsed(answer)):
        for path in _PATHS:
            node = _at(document, path)
            found = _described(node, document) if node else None
            if found:
                return orjson.dumps(found)
    return None


def _described(node: _Object, document: _Object) -> _Object | None:
    usage = next((node[name] for name in _USAGE_NAMES if _is_object(node.get(name))), None)
    counts = _numbers(cast("_Object", usage or {}))
    shape = _shape(counts, node)
    if shape is None:
        return None
    texts = {name: _text(node, names) or _text(document, names) for name, names in _TEXT_NAMES.items()}
    return {shape: counts, **{name: text for name, text in texts.items() if text}}


def _shape(usage: _Object, node: _Object) -> str | None:
    """Whose way of counting a usage object follows; None when it is no model's usage."""
    if {"cache_read_input_tokens", "cache_creation_input_tokens"} & usage.keys() or node.get("type") == "message":
        return "anthropic" if "input_tokens" in usage else None
    if {"promptTokenCount", "prompt_token_count"} & usage.keys():
        return "gemini"
    if {"input_token_details", "output_token_details"} & usage.keys():
        return "langchain"
    if {"prompt_tokens", "input_tokens"} & usage.keys():
        return "openai"
    return "bedrock" if "inputTokens" in usage else None


def _parsed(text: str) -> object:
    """The document in `text`; some SDKs write JSON into a JSON string."""
    document: object = text
    for _ in range(2):
        if isinstance(document, str):
            try:
                document = orjson.loads(document)
            except orjson.JSONDecodeError:
                return None
    return document


def _objects(document: object) -> Iterator[_Object]:
    """What may be an answer: an object, the only one of a list, or the chunks of a stream, last first."""
    if _is_object(document):
        yield cast("_Object", document)
    elif isinstance(document, list):
        items = [cast("_Object", item) for item in cast("list[object]", document) if _is_object(item)]
        if len(items) == 1 or all(_is_chunk(item) for item in items):
            yield from reversed(items)


def _is_chunk(item: _Object) -> bool:
    kind = item.get("object")
    return isinstance(kind, str) and kind.endswith(".chunk")


def _at(document: _Object, path: tuple[str | int, ...]) -> _Object | None:
    node: object = document
    for step in path:
        if isinstance(step, str):
            node = node.get(step) if isinstance(node, dict) else None
        else:
            items = cast("list[object]", node) if isinstance(node, list) else []
            node = items[step] if len(items) == 1 else None
    return cast("_Object", node) if _is_object(node) else None


def _numbers(node: _Object, depth: int = 0) -> _Object:
    """The counts of a usage object and of the objects in it; no text."""
    kept: _Object = {}
    for name, value in node.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            kept[name] = value
        elif _is_object(value) and depth < _DEPTH_MAX:
            kept[name] = _numbers(cast("_Object", value), depth + 1)
    return kept


def _text(node: _Object, names: tuple[str, ...]) -> str | None:
    values = (node.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and 0 < len(value) <= _TEXT_CHARS_MAX), None)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)
