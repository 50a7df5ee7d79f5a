"""From a metrics request to rows of `metric_points`.

Decoded here and not by the engine: docs/decisions/0001-metrics-are-decoded-in-python.md has the measurement.
Exemplars are not kept.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl

from collector import attributes
from collector.decoded_rows import TIME, DecodedBody, Schema, resource_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        ExponentialHistogramDataPoint,
        HistogramDataPoint,
        Metric,
        NumberDataPoint,
        SummaryDataPoint,
    )

    from collector.content import ContentFilter
    from collector.window import Window

TEMPORALITY = {0: "unspecified", 1: "delta", 2: "cumulative"}
SCHEMA: Schema = {
    "time": TIME,
    "start_time": TIME,
    "service": pl.String,
    "resource": pl.String,
    "tenant": pl.String,
    "scope": pl.String,
    "metric": pl.String,
    "unit": pl.String,
    "kind": pl.String,
    "temporality": pl.String,
    "is_monotonic": pl.Boolean,
    "flags": pl.UInt32,
    "attributes": pl.Map(pl.String, pl.String),
    "value": pl.Float64,
    "value_int": pl.Int64,
    "count": pl.UInt64,
    "sum": pl.Float64,
    "min": pl.Float64,
    "max": pl.Float64,
    "bounds": pl.List(pl.Float64),
    "buckets": pl.List(pl.UInt64),
    "scale": pl.Int32,
    "zero_count": pl.UInt64,
    "zero_threshold": pl.Float64,
    "positive_offset": pl.Int32,
    "negative_offset": pl.Int32,
    "negative_buckets": pl.List(pl.UInt64),
    "quantiles": pl.List(pl.Float64),
    "quantile_values": pl.List(pl.Float64),
    "received_at": TIME,
}


def decode(request: ExportMetricsServiceRequest, window: Window, tenant: str, content: ContentFilter) -> DecodedBody:
    """The data points of `request` whose times are sound, without the content that is not kept."""
    dropped = sum(content.strip_metrics(resource_metrics) for resource_metrics in request.resource_metrics)
    rejected: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    for row in _points(request, tenant):
        reason = _fault(row, window)
        if reason:
            rejected[reason] += 1
        else:
            rows.append({**row, "received_at": window.received_ns})
    return DecodedBody(tuple(rows), request.ByteSize(), rejected, dropped)


def _fault(row: Mapping[str, Any], window: Window) -> str | None:
    if not window.oldest_ns <= row["time"] <= window.newest_ns:
        return "time_outside_window"
    # Zero is unknown, and a counter may have started long ago.
    if row["start_time"] > window.newest_ns:
        return "start_time_outside_window"
    return None


def _points(request: ExportMetricsServiceRequest, tenant: str) -> Iterator[dict[str, object]]:
    for resource_metrics in request.resource_metrics:
        source = resource_columns(resource_metrics.resource, tenant)
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_metrics.scope.name
            for metric in scope_metrics.metrics:
                for point in _metric_points(metric):
                    yield {**source, "scope": scope, **point}


def _metric_points(metric: Metric) -> Iterator[dict[str, object]]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data: Any = getattr(metric, kind)
    about: dict[str, object] = {
        "metric": metric.name,
        "unit": metric.unit,
        "kind": kind,
        "temporality": TEMPORALITY.get(getattr(data, "aggregation_temporality", 0), "unspecified"),
        "is_monotonic": getattr(data, "is_monotonic", False),
    }
    for point in data.data_points:
        yield {**about, **_shared(point), **VALUES[kind](point)}


def _shared(point: Any) -> dict[str, object]:  # noqa: ANN401 (four message types that have these fields)
    return {
        "time": point.time_unix_nano,
        "start_time": point.start_time_unix_nano,
        "flags": point.flags,
        "attributes": {each.key: attributes.text(each.value) for each in point.attributes},
    }


def _number(point: NumberDataPoint) -> dict[str, object]:
    which = point.WhichOneof("value")
    if which == "as_int":
        return {"value": float(point.as_int), "value_int": point.as_int}
    return {"value": point.as_double} if which else {}


def _statistics(point: HistogramDataPoint | ExponentialHistogramDataPoint) -> dict[str, object]:
    return {
        "count": point.count,
        "sum": point.sum if point.HasField("sum") else None,
        "min": point.min if point.HasField("min") else None,
        "max": point.max if point.HasField("max") else None,
    }


def _histogram(point: HistogramDataPoint) -> dict[str, object]:
    return {
        **_statistics(point),
        "bounds": list(point.explicit_bounds),
        "buckets": list(point.bucket_counts),
    }


def _exponential_histogram(point: ExponentialHistogramDataPoint) -> dict[str, object]:
    return {
        **_statistics(point),
        "scale": point.scale,
        "zero_count": point.zero_count,
        "zero_threshold": point.zero_threshold,
        "positive_offset": point.positive.offset,
        "buckets": list(point.positive.bucket_counts),
        "negative_offset": point.negative.offset,
        "negative_buckets": list(point.negative.bucket_counts),
    }


def _summary(point: SummaryDataPoint) -> dict[str, object]:
    return {
        "count": point.count,
        "sum": point.sum,
        "quantiles": [each.quantile for each in point.quantile_values],
        "quantile_values": [each.value for each in point.quantile_values],
    }


VALUES: Mapping[str, Callable[[Any], dict[str, object]]] = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential_histogram,
    "summary": _summary,
}
