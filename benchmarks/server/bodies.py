"""Requests whose spans can be counted afterwards: every trace id of a body begins with its own eight bytes."""

from __future__ import annotations

import os
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

# Eight bytes that stand in every trace id of a template; replacing them makes spans that were never seen.
MARKER = b"\x00MARKER\x00"
SPANS_A_TRACE = 5


def template(spans: int, start_ns: int | None = None) -> bytes:
    """One request of typical model calls with 12 attributes each."""
    request, start_ns = ExportTraceServiceRequest(), start_ns or time.time_ns()
    resource_spans = request.resource_spans.add()
    for key in ("service.name", "service.version", "deployment.environment.name", "host.name"):
        resource_spans.resource.attributes.add(key=key).value.string_value = f"some-{key}"
    scope_spans = resource_spans.scope_spans.add()
    for position in range(spans):
        span = scope_spans.spans.add(
            trace_id=MARKER + (position // SPANS_A_TRACE).to_bytes(8, "big"),
            span_id=os.urandom(8),
            name="chat",
            kind=3,
            start_time_unix_nano=start_ns + position,
            end_time_unix_nano=start_ns + position + 10**9,
        )
        for key in ("operation.name", "provider.name", "request.model", "response.model", "response.id", "tier"):
            span.attributes.add(key=f"gen_ai.{key}").value.string_value = f"{key}-{position % 7}"
        for number in range(4):
            span.attributes.add(key=f"gen_ai.usage.kind_{number}_tokens").value.int_value = position * number
        span.attributes.add(key="pennytrace.endpoint").value.string_value = f"/chat/{position % 5}"
        span.attributes.add(key="gen_ai.response.time_to_first_chunk").value.double_value = position / 7
    return request.SerializeToString()


def fresh(body: bytes) -> bytes:
    """The same request with trace ids of its own."""
    return keyed(body)[1]


def keyed(body: bytes) -> tuple[bytes, bytes]:
    """The key of a body, with which its trace ids begin, and the body."""
    key = os.urandom(8)
    return key, body.replace(MARKER, key)
