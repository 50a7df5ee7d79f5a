"""Names that SDKs have for one thing: providers and operations."""

from __future__ import annotations

from typing import Literal

import polars as pl

# Older and vendors' names of a provider, and the OpenTelemetry name that the ledger keeps.
_PROVIDER_ALIASES = {
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "gemini": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "moonshot": "moonshot_ai",
}
# Names with a dot that are whole names; elsewhere a dot begins an API's name, as in openai.chat.
_DOTTED_PREFIXES = ("aws.", "azure.", "gcp.", "ibm.")

_MODEL_OPERATIONS = frozenset(
    {
        "chat",
        "chat_model",
        "completion",
        "completions",
        "text_completion",
        "generate_content",
        "generate",
        "generation",
        "llm",
        "llm_request",
        "embedding",
        "embeddings",
        "rerank",
        "reranker",
        "responses",
        "image_generation",
        "predict",
        "speech",
        "transcription",
    }
)
# The AI SDK's own spans: ai.generateText wraps ai.generateText.doGenerate, which is the call.
_MODEL_OPERATION_SUFFIXES = (".dogenerate", ".dostream", ".doembed")

Role = Literal["model", "other", "unknown"]


def canonical_provider(name: str) -> str:
    """The OpenTelemetry name of a provider; a name that nobody knows stays as it is, in lower case."""
    lowered = name.strip().lower()
    alias = _PROVIDER_ALIASES.get(lowered)
    if alias or lowered.startswith(_DOTTED_PREFIXES):
        return alias or lowered
    head = lowered.partition(".")[0]
    return _PROVIDER_ALIASES.get(head, head)


def operation_role(operation: str) -> Role:
    """Whether spans of an operation are calls of a model, something else (agents, chains, tools), or unsaid."""
    lowered = operation.lower()
    if not lowered:
        return "unknown"
    is_model = lowered in _MODEL_OPERATIONS or lowered.endswith(_MODEL_OPERATION_SUFFIXES)
    return "model" if is_model else "other"


def translated(column: pl.Series, names: dict[str, str]) -> pl.Series:
    """The column with every value replaced by what `names` says of it."""
    return column.replace_strict(names, default="", return_dtype=pl.String)


def with_vocabulary(spans: pl.DataFrame) -> pl.DataFrame:
    """Spans with canonical provider and the role of their operation."""
    providers = {name: canonical_provider(name) for name in spans["provider"].unique()}
    roles: dict[str, str] = {name: operation_role(name) for name in spans["operation"].unique()}
    return spans.with_columns(
        translated(spans["provider"], providers).alias("provider"),
        translated(spans["operation"], roles).alias("role"),
        pl.coalesce(_known("response_model"), _known("request_model"), pl.lit("")).alias("model"),
    )


def _known(name: str) -> pl.Expr:
    return pl.when(pl.col(name) != "").then(pl.col(name))
