"""OpenAI and what is compatible with it: chat and text completions, responses, embeddings, and their streams.

Azure, Mistral, DeepSeek, xAI, Groq, Moonshot, OpenRouter, LiteLLM, vLLM, SGLang and TGI speak this shape, with
counts of their own beside it. Input and output counts are inclusive of cached and reasoning tokens; where a
sender's total only adds up with the reasoning tokens besides (xAI), they are added to the output. The provider
is left open unless a field that only one of them has proves it.
https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

from pennytrace._usage import anthropic
from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import Screen, count, field, first_count, has, text
from pennytrace._usage.usage import Usage

_OPERATIONS = {
    "chat.completion": "chat",
    "chat.completion.chunk": "chat",
    "text_completion": "text_completion",
    "response": "chat",
    "list": "embeddings",
}
_CHUNK = "chat.completion.chunk"
_CACHED = (
    ("prompt_token_details", "cached_tokens"),
    ("cache_read_input_tokens",),
    ("prompt_cache_hit_tokens",),
    ("num_cached_tokens",),
    ("cached_tokens",),
)
_more = Screen(frozenset({path[0] for path in _CACHED} | {"cache_creation_input_tokens", "reasoning_tokens"}))
_tells_provider = Screen(frozenset({"x_groq", "prompt_filter_results", "_hidden_params"}))
# LiteLLM's names of providers, where OpenTelemetry has others.
_LITELLM_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}


def read(value: object) -> Answer | None:
    """The answer in a response, stream chunk or stream event, or None when the shape is another."""
    if (text(value, "type") or "").startswith("response."):
        value = field(value, "response")
    usage = field(value, "usage") or field(field(value, "x_groq"), "usage")
    if usage is None:
        return None
    counts = _completions(usage) if has(usage, "prompt_tokens") else anthropic.read_usage(usage) or _responses(usage)
    if not counts.known:
        return None
    kind = text(value, "object") or ""
    response_id = text(value, "id")
    return Answer(
        usage=counts,
        key=response_id or (None if kind == _CHUNK else usage),
        model=text(value, "model"),
        response_id=response_id,
        provider=_provider(value),
        operation=_OPERATIONS.get(kind),
        tier=text(value, "service_tier"),
    )


def read_event(value: object) -> Answer | None:
    """The answer in an event that holds a stream chunk as `data`, as Mistral's client gives them."""
    chunk = field(value, "data")
    return read(chunk) if has(chunk, "usage") else None


def read_usage(usage: object) -> Usage | None:
    """A bare usage object in either dialect; None when it has neither's counts."""
    dialect = _completions if has(usage, "prompt_tokens") else _responses
    found = dialect(usage)
    return found if found.known else None


def _provider(value: object) -> str | None:
    """Groq and Azure put fields of their own into the answer; LiteLLM names the provider beside it."""
    if not _tells_provider.may_tell(value):
        return None
    if has(value, "x_groq"):
        return "groq"
    if has(value, "prompt_filter_results"):
        return "azure.ai.openai"
    named = text(field(value, "_hidden_params"), "custom_llm_provider")
    return None if named is None else _LITELLM_PROVIDERS.get(named, named)


def _completions(usage: object) -> Usage:
    details = field(usage, "prompt_tokens_details")
    has_more = _more.may_tell(usage)
    written, one_hour = (None, None) if details is None and not has_more else _written(usage, details)
    reasoning = count(usage, "completion_tokens_details", "reasoning_tokens")
    cached = None if details is None else count(details, "cached_tokens")
    if has_more:
        reasoning = count(usage, "reasoning_tokens") if reasoning is None else reasoning
        cached = first_count(usage, *_CACHED) if cached is None else cached
    return Usage(
        input_tokens=count(usage, "prompt_tokens"),
        output_tokens=_output(usage, reasoning),
        cache_read_tokens=cached,
        cache_write_5m_tokens=written if written is None or one_hour is None else max(written - one_hour, 0),
        cache_write_1h_tokens=one_hour,
        reasoning_tokens=reasoning,
    )


def _output(usage: object, reasoning: int | None) -> int | None:
    output = count(usage, "completion_tokens")
    if output is None or not reasoning:
        return output
    adds_up_besides = count(usage, "total_tokens") == (count(usage, "prompt_tokens") or 0) + output + reasoning
    return output + reasoning if adds_up_besides else output


def _written(usage: object, details: object) -> tuple[int | None, int | None]:
    """Cache writes in all, and those for an hour, as LiteLLM and OpenRouter tell them."""
    written = None
    if details is not None:
        written = first_count(details, ("cache_write_tokens",), ("cache_creation_tokens",))
    if written is None:
        written = count(usage, "cache_creation_input_tokens")
    if written is None:
        return None, None
    return written, count(details, "cache_creation_token_details", "ephemeral_1h_input_tokens")


def _responses(usage: object) -> Usage:
    return Usage(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cache_read_tokens=first_count(
            usage, ("input_tokens_details", "cached_tokens"), ("input_token_details", "cached_tokens")
        ),
        cache_write_5m_tokens=count(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count(usage, "output_tokens_details", "reasoning_tokens"),
    )
