"""Build OTLP export requests from plain values, for replayed and generated traffic.

The SDK is not used here: it stamps spans with the time at which they happen, and this traffic has times
of its own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Scalar = str | bool | int | float

SERVER = Span.SPAN_KIND_SERVER
CLIENT = Span.SPAN_KIND_CLIENT
INTERNAL = Span.SPAN_KIND_INTERNAL

_SCOPE = "pennytrace.replay"


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One span. Times are nanoseconds since 1970; parent_span_id is empty for a root."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Scalar]
    error: bool = False


@dataclass(frozen=True, slots=True)
class GaugePoint:
    """One reading of a gauge. Times are nanoseconds since 1970."""

    metric: str
    unit: str
    time_ns: int
    value: float
    attributes: Mapping[str, Scalar]


@dataclass(slots=True)
class IdSource:
    """Random trace and span ids from a seed, so that a replay of the same file makes the same ids."""

    seed: str
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - ids must repeat, not resist guessing

    def trace_id(self) -> bytes:
        """Sixteen bytes, never all zero."""
        return self._random.randbytes(15) + b"\x01"

    def span_id(self) -> bytes:
        """Eight bytes, never all zero."""
        return self._random.randbytes(7) + b"\x01"


def trace_request(resource: Mapping[str, Scalar], spans: Iterable[SpanRow]) -> ExportTraceServiceRequest:
    """One export request with one resource."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.extend(_key_values(resource))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = _SCOPE
    for row in spans:
        scope_spans.spans.add(
            trace_id=row.trace_id,
            span_id=row.span_id,
            parent_span_id=row.parent_span_id,
            name=row.name,
            kind=row.kind,
            start_time_unix_nano=row.start_ns,
            end_time_unix_nano=row.end_ns,
            attributes=_key_values(row.attributes),
            status=Status(code=Status.STATUS_CODE_ERROR) if row.error else None,
        )
    return request


def gauge_request(resource: Mapping[str, Scalar], points: Iterable[GaugePoint]) -> ExportMetricsServiceRequest:
    """One export request with the given readings, one metric per name."""
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    resource_metrics.resource.attributes.extend(_key_values(resource))
    scope_metrics = resource_metrics.scope_metrics.add()
    scope_metrics.scope.name = _SCOPE
    by_name = {}
    for point in points:
        if point.metric not in by_name:
            by_name[point.metric] = scope_metrics.metrics.add(name=point.metric, unit=point.unit)
        by_name[point.metric].gauge.data_points.add(
            time_unix_nano=point.time_ns, as_double=point.value, attributes=_key_values(point.attributes)
        )
    return request


def _key_values(attributes: Mapping[str, Scalar]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: Scalar) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
