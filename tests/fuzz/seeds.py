"""Sound requests of every signal and encoding: what is mutated."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EXAMPLES = Path(__file__).parents[1] / "interop" / "otlp_examples"
PROTOBUF, JSON = "application/x-protobuf", "application/json"
SERVICE = "fuzzed"


@dataclass(frozen=True)
class Seed:
    """One sound body."""

    signal: str
    content_type: str
    body: bytes


def seeds(now_ns: int) -> list[Seed]:
    """Bodies whose times are around `now_ns`, and the protocol's own examples."""
    messages = {"traces": spans(now_ns, SERVICE, 4), "metrics": metrics(now_ns), "logs": logs(now_ns)}
    found = [
        seed
        for signal, message in messages.items()
        for seed in (
            Seed(signal, PROTOBUF, message.SerializeToString()),
            Seed(signal, JSON, as_otlp_json(message)),
        )
    ]
    return [
        *found,
        *(Seed(signal, JSON, (EXAMPLES / f"{name}.json").read_bytes()) for name, signal in EXAMPLE_SIGNALS.items()),
    ]


EXAMPLE_SIGNALS = {"trace": "traces", "metrics": "metrics", "logs": "logs", "events": "logs"}


def spans(now_ns: int, service: str, count: int) -> ExportTraceServiceRequest:
    """Spans that use every field."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add(schema_url="https://opentelemetry.io/schemas/1.37.0")
    resource_spans.resource.attributes.add(key="service.name").value.string_value = service
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name, scope_spans.scope.version = "fuzz", "1"
    for position in range(count):
        span = scope_spans.spans.add(
            trace_id=os.urandom(16),
            span_id=os.urandom(8),
            parent_span_id=os.urandom(8),
            trace_state="a=b",
            flags=257,
            name="chat",
            kind=3,
            start_time_unix_nano=now_ns + position,
            end_time_unix_nano=now_ns + position + 10**9,
        )
        span.status.message, span.status.code = "late", 2
        span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 12
        span.attributes.add(key="gen_ai.request.model").value.string_value = "größer"
        span.attributes.add(key="gen_ai.response.time_to_first_chunk").value.double_value = 0.25
        span.attributes.add(key="gen_ai.request.stream").value.bool_value = True
        span.attributes.add(key="raw").value.bytes_value = b"\x00\xff"
        span.attributes.add(key="list").value.array_value.values.add().string_value = "stop"
        span.attributes.add(key="map").value.kvlist_value.values.add(key="k").value.int_value = 1
        span.events.add(time_unix_nano=now_ns, name="first token").attributes.add(key="a").value.int_value = 1
        span.links.add(trace_id=os.urandom(16), span_id=os.urandom(8), trace_state="c=d")
    return request


def metrics(now_ns: int) -> ExportMetricsServiceRequest:
    """One data point of every kind."""
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    resource_metrics.resource.attributes.add(key="service.name").value.string_value = SERVICE
    family = resource_metrics.scope_metrics.add().metrics
    at = {"time_unix_nano": now_ns, "start_time_unix_nano": now_ns - 10**9}
    family.add(name="gauge", unit="1").gauge.data_points.add(**at, as_double=0.5)
    counter = family.add(name="sum").sum
    counter.is_monotonic, counter.aggregation_temporality = True, 2
    counter.data_points.add(**at, as_int=3).attributes.add(key="a").value.string_value = "b"
    family.add(name="histogram").histogram.data_points.add(
        **at, count=3, sum=2.5, bucket_counts=[1, 2], explicit_bounds=[1.0]
    )
    point = family.add(name="exponential").exponential_histogram.data_points.add(**at, count=3, scale=2, zero_count=1)
    point.positive.offset = -1
    point.positive.bucket_counts.extend([1, 1])
    summary = family.add(name="summary").summary.data_points.add(**at, count=3, sum=2.5)
    summary.quantile_values.add(quantile=0.5, value=1.0)
    return request


def logs(now_ns: int) -> ExportLogsServiceRequest:
    """One record."""
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.add(key="service.name").value.string_value = SERVICE
    record = resource_logs.scope_logs.add().log_records.add(time_unix_nano=now_ns, severity_number=9)
    record.body.string_value = "hello"
    record.trace_id, record.span_id = os.urandom(16), os.urandom(8)
    return request


def as_otlp_json(message: ExportTraceServiceRequest | ExportMetricsServiceRequest | ExportLogsServiceRequest) -> bytes:
    """The message as OTLP writes JSON: the usual mapping, but for ids in hex."""
    document = json_format.MessageToJson(message)
    for identifier in ids(message):
        document = document.replace(base64.b64encode(identifier).decode(), identifier.hex())
    return document.encode()


def ids(message: object) -> list[bytes]:
    """Every trace and span id in a message."""
    found: list[bytes] = []
    for descriptor, value in getattr(message, "ListFields", list)():
        if descriptor.name in {"trace_id", "span_id", "parent_span_id"}:
            found.append(value)
        elif descriptor.message_type:
            for part in [value] if hasattr(value, "ListFields") else value:
                found += ids(part)
    return found
