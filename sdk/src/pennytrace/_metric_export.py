"""Metrics through OpenTelemetry's metrics SDK and its OTLP exporter; imported once there is something to send.

The stock provider, periodic reader and exporter do the work. In between stands an exporter that adds what
`Measures` counted, since the SDK has no door for what is added up already.
"""
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false
# An exporter's temporality has no public name.

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource

from pennytrace import _names as names
from pennytrace._measures import OVERFLOW, Distribution, Labels, Measures

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from pennytrace._exporter import MetricTarget

_log = logging.getLogger("pennytrace")


def open_provider(target: MetricTarget, interval_s: float, resource: Resource, measures: Measures) -> MeterProvider:
    """A running meter provider. Its resource has the process id: no two workers of a replica write the same series."""
    exporter = _MeasuresToo(_official(target), measures)
    reader = PeriodicExportingMetricReader(exporter, interval_s * 1000, target.timeout_s * 1000)
    of_this = resource.merge(Resource({names.PROCESS_ID: os.getpid()}))
    return MeterProvider([reader], of_this, shutdown_on_exit=False)


def _official(target: MetricTarget) -> MetricExporter:
    headers = None if target.headers is None else dict(target.headers)
    if target.protocol == "grpc":
        from grpc import Compression as GrpcCompression
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        packing = {True: GrpcCompression.Gzip, False: GrpcCompression.NoCompression, None: None}[target.compress]
        insecure = target.url.startswith("http://")
        return GrpcExporter(target.url, insecure, None, headers, target.timeout_s, packing)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

    packed = {True: Compression.Gzip, False: Compression.NoCompression, None: None}[target.compress]
    return HttpExporter(target.url, headers=headers, timeout=target.timeout_s, compression=packed)


class _MeasuresToo(MetricExporter):
    """OpenTelemetry's exporter, with our measures beside what its SDK collected. Silent in a forked child."""

    def __init__(self, official: MetricExporter, measures: Measures) -> None:
        super().__init__(official._preferred_temporality, official._preferred_aggregation)
        self._official = official
        self._measures = measures
        self._pid = os.getpid()
        self._since_ns = time_ns()
        self._in_outage = False
        self._is_delta = (official._preferred_temporality or {}).get(Histogram) is AggregationTemporality.DELTA

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:  # noqa: ANN401 # OpenTelemetry's signature
        if os.getpid() != self._pid:
            return MetricExportResult.SUCCESS
        (collected,) = metrics_data.resource_metrics
        (by_us,) = collected.scope_metrics  # two of one scope would be one of them to the encoder
        whole = replace(collected, scope_metrics=[replace(by_us, metrics=[*by_us.metrics, *self._taken()])])
        with _only_ours_speak():
            result = self._official.export(MetricsData([whole]), timeout_millis)
        self._tell(result is MetricExportResult.SUCCESS)
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._official.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:  # noqa: ANN401 # as above
        with _only_ours_speak():
            self._official.shutdown(timeout_millis)

    def _taken(self) -> list[Metric]:
        now_ns = time_ns()
        with self._measures.lock:
            found = _metrics(self._measures, self._since_ns, now_ns, is_delta=self._is_delta)
            if self._is_delta:
                self._measures.clear()
                self._since_ns = now_ns
        return found

    def _tell(self, delivered: bool) -> None:
        if not delivered and not self._in_outage:
            _log.warning("The backend does not take metrics; spans are not affected, and metrics=False ends this")
        self._in_outage = not delivered


@contextmanager
def _only_ours_speak() -> Generator[None]:
    """Keep the exporter's own log lines of this thread, one and more each interval, out of the application's log."""
    ours = threading.get_ident()

    def is_of_others(_: logging.LogRecord) -> bool:
        return threading.get_ident() != ours

    loggers = [
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.metric_exporter"),
        logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter"),
    ]
    for logger in loggers:
        logger.addFilter(is_of_others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_of_others)


def _metrics(measures: Measures, since_ns: int, now_ns: int, *, is_delta: bool) -> list[Metric]:
    """The measures as OpenTelemetry's data; a metric without points is left out."""
    temporality = AggregationTemporality.DELTA if is_delta else AggregationTemporality.CUMULATIVE
    tokens = [
        _point({**dict(labels), names.TOKEN_TYPE: kind}, found, since_ns, now_ns)
        for labels, both in measures.tokens.items()
        for kind, found in (("input", both.input), ("output", both.output))
        if found.count
    ]
    durations = [
        (dict(labels), _point(dict(labels), found, since_ns, now_ns)) for labels, found in measures.seconds.items()
    ]
    inference = [point for labels, point in durations if labels.get(names.OPERATION) in names.INFERENCE_OPERATIONS]
    histograms = [
        (names.TOKEN_USAGE, "Number of input and output tokens used.", "{token}", tokens),
        (names.OPERATION_DURATION, "GenAI operation duration.", "s", [point for _, point in durations]),
        (names.INFERENCE_DURATION, "GenAI inference duration.", "s", inference),
    ]
    found = [
        Metric(name, description, unit, HistogramData(points, temporality))
        for name, description, unit, points in histograms
        if points
    ]
    for attribute, name in names.TOKEN_COUNTERS.items():
        sums = {labels: both.sums[attribute] for labels, both in measures.tokens.items() if attribute in both.sums}
        if sums:
            points = [NumberDataPoint(_modal(labels), since_ns, now_ns, total) for labels, total in sums.items()]
            found.append(Metric(name, "Tokens used.", "{token}", Sum(points, temporality, is_monotonic=True)))
    return found


def _modal(labels: Labels) -> Mapping[str, str | bool]:
    """Providers seldom break usage down by modality."""
    told = dict(labels)
    return told if told == OVERFLOW else {**told, names.TOKEN_MODALITY: "unknown"}


def _point(labels: Mapping[str, str | bool], found: Distribution, since_ns: int, now_ns: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=since_ns,
        time_unix_nano=now_ns,
        count=found.count,
        sum=found.total,
        bucket_counts=list(found.buckets),
        explicit_bounds=found.bounds,
        min=found.least,
        max=found.most,
    )
