"""Attribute names that go on the wire: OpenTelemetry's GenAI and hardware conventions, and Pennytrace's own.

The GenAI names left the `opentelemetry-semantic-conventions` package for the semantic-conventions-genai
repository, so they are written down here.
"""

from typing import Final

SCOPE: Final = "pennytrace"

SPAN_KIND: Final = "pennytrace.span.kind"
KIND_REQUEST: Final = "request"
KIND_CACHE: Final = "cache"
KIND_GPU: Final = "gpu"
ENDPOINT: Final = "pennytrace.endpoint"
TENANT: Final = "pennytrace.tenant"
VARIANT: Final = "pennytrace.variant"
MODEL_VERSION: Final = "pennytrace.model.version"
RESPONSE_CACHE_HIT: Final = "pennytrace.response_cache.hit"
LEVER: Final = "pennytrace.lever"
PROMPT_FINGERPRINT: Final = "pennytrace.prompt.fingerprint"
STREAM_ABANDONED: Final = "pennytrace.stream.abandoned"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
SERVICE_TIER: Final = "openai.response.service_tier"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"

INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
CACHE_WRITE_1H_TOKENS: Final = "pennytrace.usage.cache_write_1h.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
ROWS: Final = "pennytrace.usage.rows"

TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 # no password
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
"""This and the one above are what dashboards still read; those below are their successors in the conventions."""
INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"
INFERENCE_OPERATIONS: Final = frozenset({"chat", "generate_content", "text_completion"})
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 # no password
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 # no password
TOKEN_COUNTERS: Final = {
    INPUT_TOKENS: "gen_ai.client.inference.usage.input_tokens",
    OUTPUT_TOKENS: "gen_ai.client.inference.usage.output_tokens",
    CACHE_READ_TOKENS: "gen_ai.client.inference.usage.cache_read.input_tokens",
    CACHE_WRITE_TOKENS: "gen_ai.client.inference.usage.cache_write.input_tokens",
    REASONING_TOKENS: "gen_ai.client.inference.usage.reasoning.output_tokens",
}
SPANS_PROCESSED: Final = "otel.sdk.processor.span.processed"
SPANS_EXPORTED: Final = "otel.sdk.exporter.span.exported"

HARDWARE_ID: Final = "hw.id"
HARDWARE_NAME: Final = "hw.name"
HARDWARE_TYPE: Final = "hw.type"
HARDWARE_UTILIZATION: Final = "hw.gpu.utilization"
HARDWARE_MEMORY: Final = "hw.gpu.memory.usage"
HARDWARE_ENERGY: Final = "hw.energy"
PROCESS_ID: Final = "process.pid"
GPU_UTILIZATION: Final = "pennytrace.gpu.utilization"
GPU_MEMORY_BYTES: Final = "pennytrace.gpu.memory_bytes"
GPU_ENERGY_JOULES: Final = "pennytrace.gpu.energy_joules"
GPU_SECONDS: Final = "pennytrace.gpu.seconds"
