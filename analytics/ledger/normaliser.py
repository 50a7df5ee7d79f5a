"""One table says under which attribute each SDK sends a canonical field, in order of preference.

`model_spans_query` turns it into storage/queries/model_spans.sql, which is checked in; a test says that it is
up to date. Write it anew with `python -m analytics.ledger`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

QUERY_NAME = "model_spans"
# A year: a longer duration is a fault of the sender, and its end would lie past the end of time.
_DURATION_NS_MAX = 365 * 86_400 * 10**9


@dataclass(frozen=True)
class Attribute:
    """A span attribute that holds the value itself."""

    key: str

    def to_sql(self) -> str:
        """Expression for the value as text, '' where absent."""
        return f"a[{_quoted(self.key)}]"


@dataclass(frozen=True)
class Json:
    """A value inside an attribute that holds JSON text."""

    key: str
    path: tuple[str, ...]

    def to_sql(self) -> str:
        """Expression for the value as text, '' where absent."""
        path = ", ".join(map(_quoted, self.path))
        return f"JSONExtractRaw(a[{_quoted(self.key)}], {path})"


@dataclass(frozen=True)
class Repr:
    """A number inside an attribute that holds the text form of a Python object."""

    key: str
    name: str

    def to_sql(self) -> str:
        """Expression for the value as text, '' where absent."""
        pattern = rf"\b{self.name}[\x27\x22]?\s*[:=]\s*(\d+)".replace("\\", "\\\\")
        return f"extract(a[{_quoted(self.key)}], '{pattern}')"


@dataclass(frozen=True)
class Resource:
    """An attribute of the resource that made the span."""

    key: str

    def to_sql(self) -> str:
        """Expression for the value as text, '' where absent."""
        return f"JSONExtractString(resource, {_quoted(self.key)})"


@dataclass(frozen=True)
class JsonSum:
    """The sum of those of several counts in JSON text that are there."""

    key: str
    paths: tuple[tuple[str, ...], ...]

    def to_sql(self) -> str:
        """Expression for the value as text, '' where all are absent."""
        texts = [Json(self.key, path).to_sql() for path in self.paths]
        total = " + ".join(f"toUInt64OrZero({text})" for text in texts)
        return f"if(concat({', '.join(texts)}) = '', '', toString({total}))"


Source = Attribute | Json | JsonSum | Repr | Resource


def _attributes(*keys: str) -> tuple[Source, ...]:
    return tuple(Attribute(key) for key in keys)


def _details(*names: str) -> tuple[Source, ...]:
    """Dotted paths inside Langfuse's and Logfire's JSON of what the provider returned."""
    return tuple(
        Json(key, tuple(name.split(".")))
        for key in ("langfuse.observation.usage_details", "gen_ai.usage.raw")
        for name in names
    )


_LITELLM_BLOB = "metadata.usage_object"
_AI_SDK_ANTHROPIC = ("ai.response.providerMetadata", "anthropic", "usage")


def _ai_sdk(*path: str) -> tuple[Source, ...]:
    key, *start = _AI_SDK_ANTHROPIC
    return (Json(key, (*start, *path)),)


# What the collector found in a model's answer (collector/content/usage.py), under the shape of the provider's usage.
_CONTENT = "pennytrace.content.usage"


def _content(*paths: str) -> tuple[Source, ...]:
    return tuple(Json(_CONTENT, tuple(path.split("."))) for path in paths)


def _gemini(*names: str) -> tuple[Source, ...]:
    """The sum of Gemini's counts of these names, as its API and as its Python SDK spell them."""
    snake = ["".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name) for name in names]
    return tuple(JsonSum(_CONTENT, tuple(("gemini", name) for name in spelled)) for spelled in (names, snake))


TEXT_FIELDS: dict[str, tuple[Source, ...]] = {
    "pennytrace_kind": _attributes("pennytrace.span.kind"),
    "operation": _attributes(
        "gen_ai.operation.name",
        "openinference.span.kind",
        "llm.request.type",
        "langfuse.observation.type",
        "ai.operationId",
        "traceloop.span.kind",
        "mlflow.spanType",
    ),
    "provider": _attributes(
        "gen_ai.provider.name",
        "gen_ai.system",
        "llm.provider",
        "llm.system",
        "ai.model.provider",
        "mlflow.llm.provider",
    ),
    "response_model": (
        *_attributes(
            "gen_ai.response.model", "llm.response.model_name", "langfuse.observation.model.name", "ai.response.model"
        ),
        *_content("model"),
    ),
    "request_model": _attributes(
        "gen_ai.request.model",
        "llm.request.model_name",
        "llm.model_name",
        "embedding.model_name",
        "ai.model.id",
        "litellm.provider.model",
        "mlflow.llm.model",
    ),
    "response_id": (
        *_attributes("gen_ai.response.id", "ai.response.id", "llm.response.id"),
        *_content("id"),
        *_attributes("gen_ai.request.id", "litellm.call_id"),
    ),
    "tier": (
        *_attributes(
            "openai.response.service_tier",
            "gen_ai.openai.response.service_tier",
            "anthropic.response.service_tier",
            "gen_ai.response.service_tier",
        ),
        *_content("service_tier"),
    ),
    "endpoint": _attributes("pennytrace.endpoint"),
    "route": _attributes("http.route"),
    "sent_tenant": _attributes("pennytrace.tenant"),
    "variant": _attributes("pennytrace.variant"),
    "model_version": _attributes("pennytrace.model.version"),
    "sent_error_type": _attributes("error.type"),
    "is_stream": _attributes("gen_ai.request.stream", "gen_ai.request.is_stream", "llm.is_streaming"),
    "sent_cache_hit": _attributes("pennytrace.response_cache.hit"),
    "gpu_id": _attributes("hw.id"),
    "gpu_model": _attributes("hw.name", "hw.model"),
    "service_version": (Resource("service.version"),),
    "environment": (Resource("deployment.environment.name"), Resource("deployment.environment")),
    "replica": (Resource("service.instance.id"), Resource("host.name")),
    "sdk": (Attribute("telemetry.sdk.name"), Resource("telemetry.sdk.name")),
}

COUNT_FIELDS: dict[str, tuple[Source, ...]] = {
    "sent_input": (
        *_attributes(
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.prompt_tokens",
            "llm.token_count.prompt",
            "llm.usage.prompt_tokens",
            "ai.usage.inputTokens",
            "ai.usage.promptTokens",
            "llm.token.counts.prompt",
            "ai.usage.tokens",
        ),
        Json("mlflow.chat.tokenUsage", ("input_tokens",)),
        *_details("prompt_tokens", "input_tokens", "input"),
        *_content("openai.prompt_tokens", "openai.input_tokens", "anthropic.input_tokens"),
        *_content("langchain.input_tokens", "bedrock.inputTokens"),
        *_gemini("promptTokenCount", "toolUsePromptTokenCount"),
    ),
    "sent_output": (
        *_attributes(
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
            "llm.usage.completion_tokens",
            "ai.usage.outputTokens",
            "ai.usage.completionTokens",
            "llm.token.counts.completion",
        ),
        Json("mlflow.chat.tokenUsage", ("output_tokens",)),
        *_details("completion_tokens", "output_tokens", "output"),
        *_content("openai.completion_tokens", "openai.output_tokens", "anthropic.output_tokens"),
        *_content("langchain.output_tokens", "bedrock.outputTokens"),
        *_gemini("candidatesTokenCount", "thoughtsTokenCount"),
    ),
    "cache_read": (
        *_attributes(
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "llm.token_count.prompt_details.cache_read",
            "llm.token_count.prompt_details.cache_input",
            "llm.usage.cache_read_input_tokens",
            "gen_ai.usage.input_tokens.cached",
            "gen_ai.usage.cached_tokens",
            "gen_ai.usage.prompt_tokens_details.cached_tokens",
            "gen_ai.usage.details.cache_read_tokens",
            "gen_ai.usage.details.cache_read_input_tokens",
            "ai.usage.cachedInputTokens",
            "ai.usage.inputTokenDetails.cacheReadTokens",
        ),
        *_ai_sdk("cache_read_input_tokens"),
        *_details(
            "prompt_tokens_details.cached_tokens",
            "input_tokens_details.cached_tokens",
            "cache_read_input_tokens",
            "input_cache_read",
        ),
        Json("mlflow.chat.tokenUsage", ("cache_read_input_tokens",)),
        Repr(_LITELLM_BLOB, "cached_tokens"),
        *_content(
            "openai.prompt_tokens_details.cached_tokens",
            "openai.input_tokens_details.cached_tokens",
            "openai.prompt_cache_hit_tokens",
            "anthropic.cache_read_input_tokens",
            "langchain.input_token_details.cache_read",
            "bedrock.cacheReadInputTokens",
        ),
        *_gemini("cachedContentTokenCount"),
    ),
    "cache_write": (
        *_attributes(
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "llm.token_count.prompt_details.cache_write",
            "llm.usage.cache_creation_input_tokens",
            "gen_ai.usage.input_tokens.cache_write",
            "gen_ai.usage.prompt_tokens_details.cache_creation_tokens",
            "gen_ai.usage.details.cache_write_tokens",
            "gen_ai.usage.details.cache_creation_input_tokens",
            "ai.usage.inputTokenDetails.cacheWriteTokens",
        ),
        *_ai_sdk("cache_creation_input_tokens"),
        *_details("cache_creation_input_tokens", "input_cache_creation"),
        Json("mlflow.chat.tokenUsage", ("cache_creation_input_tokens",)),
        Repr(_LITELLM_BLOB, "cache_creation_input_tokens"),
        *_content(
            "anthropic.cache_creation_input_tokens",
            "langchain.input_token_details.cache_creation",
            "bedrock.cacheWriteInputTokens",
        ),
    ),
    "cache_write_1h": (
        *_attributes(
            "pennytrace.usage.cache_write_1h.input_tokens",
            "anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
        ),
        *_ai_sdk("cache_creation", "ephemeral_1h_input_tokens"),
        *_details("cache_creation.ephemeral_1h_input_tokens"),
        Repr(_LITELLM_BLOB, "ephemeral_1h_input_tokens"),
        *_content("anthropic.cache_creation.ephemeral_1h_input_tokens"),
    ),
    "reasoning": (
        *_attributes(
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "llm.usage.reasoning_tokens",
            "llm.token_count.completion_details.reasoning",
            "gen_ai.usage.output_tokens.reasoning",
            "gen_ai.usage.completion_tokens_details.reasoning_tokens",
            "gen_ai.usage.details.reasoning_tokens",
            "ai.usage.reasoningTokens",
            "ai.usage.outputTokenDetails.reasoningTokens",
        ),
        *_details(
            "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens", "output_reasoning"
        ),
        Repr(_LITELLM_BLOB, "reasoning_tokens"),
        *_content(
            "openai.completion_tokens_details.reasoning_tokens",
            "openai.output_tokens_details.reasoning_tokens",
            "langchain.output_token_details.reasoning",
        ),
        *_gemini("thoughtsTokenCount"),
    ),
    "sent_total": _attributes(
        "gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total", "ai.usage.totalTokens"
    ),
    # Input as two SDKs and two providers count it, without cached tokens; equal to sent_input where it was read.
    "ai_sdk_exclusive_input": _ai_sdk("input_tokens"),
    "langfuse_exclusive_input": (Json("langfuse.observation.usage_details", ("input",)),),
    "provider_exclusive_input": _content("anthropic.input_tokens", "bedrock.inputTokens"),
}

MEASURE_FIELDS: dict[str, tuple[Source, ...]] = {
    "gpu_utilization": _attributes("pennytrace.gpu.utilization"),
    "gpu_memory_bytes": _attributes("pennytrace.gpu.memory_bytes"),
    "sent_gpu_energy_joules": _attributes("pennytrace.gpu.energy_joules"),
    "sent_gpu_seconds": _attributes("pennytrace.gpu.seconds"),
}


def _quoted(text: str) -> str:
    return f"'{text}'"


def _first_present(sources: tuple[Source, ...]) -> str:
    """Text of the first source that is present, else ''. Some SDKs send text as JSON, quotes included."""
    expressions = [source.to_sql() for source in sources]
    if len(expressions) == 1:
        return expressions[0]
    tests = "".join(f"\n    {expression} != '', {expression}," for expression in expressions[:-1])
    return f"multiIf({tests}\n    {expressions[-1]})"


def _text(sources: tuple[Source, ...]) -> str:
    return f"trim(BOTH '\"' FROM {_first_present(sources)})"


def _number(sources: tuple[Source, ...]) -> str:
    return f"toFloat64OrNull({_text(sources)})"


def _measure(sources: tuple[Source, ...]) -> str:
    """A reading; text such as nan and inf is none."""
    return f"if(isFinite({_number(sources)}), {_number(sources)}, NULL)"


def _count(sources: tuple[Source, ...]) -> str:
    """Token counts arrive as ints, as doubles such as 3.0 and as text."""
    return f"accurateCastOrNull({_number(sources)}, 'UInt64')"


def model_spans_query() -> str:
    """Text of storage/queries/model_spans.sql."""
    columns = [
        *(f"  {_text(sources)} AS {name}" for name, sources in TEXT_FIELDS.items()),
        *(f"  {_count(sources)} AS {name}" for name, sources in COUNT_FIELDS.items()),
        *(f"  {_measure(sources)} AS {name}" for name, sources in MEASURE_FIELDS.items()),
    ]
    return _TEMPLATE.format(columns=",\n".join(columns), duration_ns_max=_DURATION_NS_MAX)


# trace_key tells apart what two tenants sent under one trace id: neither inherits from the other.
# scope is a raw OTLP InstrumentationScope, whose first field is its name.
_TEMPLATE = """\
-- Generated by `python -m analytics.ledger` from the table in that module: edit the table.
-- What every span of a time range says, under canonical names; absent counts are NULL.
WITH attributes AS a
SELECT
  cityHash64(tenant, trace_id) AS trace_key,
  reinterpretAsUInt64(span_id) AS span_key,
  reinterpretAsUInt64(parent_span_id) AS parent_key,
  trace_id,
  span_id,
  started_at,
  toUnixTimestamp64Nano(started_at) AS start_ns,
  least(duration_ns, {duration_ns_max}) AS duration_ns,
  name,
  service,
  tenant AS key_tenant,
  CAST(status_code = 2 AS Bool) AS is_error,
  if(startsWith(scope, '\\n'), substring(scope, 3, reinterpretAsUInt8(substring(scope, 2, 1))), '') AS scope_name,
{columns}
FROM spans FINAL
WHERE started_at >= {{since:DateTime64(9)}} AND started_at < {{until:DateTime64(9)}}
"""


def query_path() -> Path:
    """Where the generated query is kept in a source checkout."""
    return Path(__file__).parents[2] / "storage" / "queries" / f"{QUERY_NAME}.sql"
