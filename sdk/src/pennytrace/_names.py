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

HARDWARE_ID: Final = "hw.id"
HARDWARE_NAME: Final = "hw.name"
GPU_UTILIZATION: Final = "pennytrace.gpu.utilization"
GPU_MEMORY_BYTES: Final = "pennytrace.gpu.memory_bytes"
GPU_ENERGY_JOULES: Final = "pennytrace.gpu.energy_joules"
GPU_SECONDS: Final = "pennytrace.gpu.seconds"
