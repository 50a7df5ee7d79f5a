"""OTLP requests to send, and what is in the store afterwards."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector import CollectorSettings
from collector.content import ContentFilter

if TYPE_CHECKING:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from storage import Store

NOW = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
SECOND_NS, DAY_NS = 10**9, 86_400 * 10**9
# For tests of something else than content.
KEEPS_CONTENT = ContentFilter(CollectorSettings(keep_message_content=True))


def name_service(resource: Resource, service: str) -> None:
    resource.attributes.add(key="service.name").value.string_value = service


def trace_request(spans: int = 1, service: str = "shop", start_ns: int = NOW_NS) -> ExportTraceServiceRequest:
    """One ResourceSpans with sound spans of random ids."""
    request = ExportTraceServiceRequest()
    add_spans(request, spans, service, start_ns)
    return request


def add_spans(
    request: ExportTraceServiceRequest, spans: int, service: str = "shop", start_ns: int = NOW_NS
) -> list[Span]:
    resource_spans = request.resource_spans.add()
    name_service(resource_spans.resource, service)
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "tests"
    return [
        scope_spans.spans.add(
            trace_id=os.urandom(16),
            span_id=os.urandom(8),
            name="chat",
            kind=3,
            start_time_unix_nano=start_ns + position,
            end_time_unix_nano=start_ns + position + SECOND_NS,
        )
        for position in range(spans)
    ]


def only_span(request: ExportTraceServiceRequest) -> Span:
    return request.resource_spans[0].scope_spans[0].spans[0]


def gauge_request(value: float = 0.5, service: str = "shop", time_ns: int = NOW_NS) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    name_service(resource_metrics.resource, service)
    metric = resource_metrics.scope_metrics.add().metrics.add(name="hw.gpu.utilization", unit="1")
    point = metric.gauge.data_points.add(time_unix_nano=time_ns, as_double=value)
    point.attributes.add(key="hw.id").value.string_value = "GPU-0"
    return request


def refused_by_engine(request: ExportTraceServiceRequest) -> bytes:
    """The request with its first span's name sent once more as a number.

    The official parser keeps that as an unknown field; the engine knows the field and fails on it.
    """
    span = only_span(request)
    odd = span.SerializeToString() + bytes((5 << 3, 7))
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].ParseFromString(odd)
    return request.SerializeToString()


def span_ids(store: Store, service: str = "shop") -> set[str]:
    """Ids of the service's spans."""
    rows = store.frame_of(
        "SELECT lower(hex(span_id)) AS span_id FROM spans FINAL WHERE service = {service:String}", {"service": service}
    )
    return set(rows["span_id"])


def sent_ids(*requests: ExportTraceServiceRequest) -> set[str]:
    return {
        span.span_id.hex()
        for request in requests
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    }


def span_rows(store: Store, service: str = "shop") -> list[dict[str, object]]:
    """The service's spans with text ids."""
    return store.frame_of(
        "SELECT * REPLACE (lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id, "
        "lower(hex(parent_span_id)) AS parent_span_id), CAST(attribute_types, 'Array(String)') AS types "
        "FROM spans FINAL WHERE service = {service:String} ORDER BY started_at",
        {"service": service},
    ).to_dicts()
