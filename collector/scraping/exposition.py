"""Prometheus exposition text as OTLP metrics: every sample that is sound, under its own name.

Counters become cumulative monotonic sums, histograms and summaries the OTLP points of that name, everything else
gauges. A `_created` sample becomes the start time of its series. Exemplars are not kept.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Sample

OPENMETRICS = "application/openmetrics-text"
ACCEPT = f"{OPENMETRICS};version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
# A full page of the longest lines takes some seconds.
LINE_MAX = 16 * 1024
LINES_MAX = 250_000
STARTS = {"counter", "histogram", "summary"}

Labels = frozenset[tuple[str, str]]


@dataclass(slots=True)
class Exposition:
    """What one page said; `skipped` counts the series that contradict themselves."""

    metrics: list[Metric] = field(default_factory=list[Metric])
    samples: int = 0
    skipped: int = 0


def parse(content: str, content_type: str) -> list[Family]:
    """The families of a page. Raises ValueError when it is not in the format that its content type names."""
    _require_bounds(content)
    is_openmetrics = content_type.partition(";")[0].strip().lower() == OPENMETRICS
    read = openmetrics_parser if is_openmetrics else parser
    try:
        families = list(read.text_string_to_metric_families(content))
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        # The parsers let other errors than ValueError out of lines that they did not foresee.
        raise ValueError(f"expected {'OpenMetrics' if is_openmetrics else 'Prometheus'} text, got {error}") from error
    return families if is_openmetrics else _with_own_names(families, content)


def _require_bounds(content: str) -> None:
    """The parsers take time with the square of a line's length, and some hundred bytes of memory a sample."""
    if content.count("\n") > LINES_MAX:
        raise ValueError(f"expected at most {LINES_MAX} lines, got {content.count(chr(10))}")
    if (longest := max(map(len, content.split("\n")))) > LINE_MAX:
        raise ValueError(f"expected lines of at most {LINE_MAX} characters, got one of {longest}")


def convert(families: Iterable[Family], time_ns: int) -> Exposition:
    """The samples as OTLP; `time_ns` is the time of those that bring none.

    Raises ValueError when the bound of a bucket or a quantile is not a number.
    """
    families = list(families)
    page = _Page(time_ns, _start_times(families, time_ns))
    for family in families:
        page.add(family)
    return page.result


class _Page:
    def __init__(self, time_ns: int, starts: Mapping[tuple[str, Labels], int]) -> None:
        self._time_ns = time_ns
        self._starts = starts
        self._metrics: dict[tuple[str, str], Metric] = {}
        self.result = Exposition()

    def add(self, family: Family) -> None:
        self.result.samples += len(family.samples)
        if family.type in {"histogram", "summary"}:
            self._add_distributions(family)
            return
        for sample in family.samples:
            if not self._is_start(family, sample):
                self._add_number(family, sample)

    def _is_start(self, family: Family, sample: Sample) -> bool:
        if family.type == "counter":
            return sample.name == f"{family.name}_created"
        base = sample.name.removesuffix("_created")
        return base != sample.name and (base, _labels(sample)) in self._starts

    def _add_number(self, family: Family, sample: Sample) -> None:
        metric = self._metric(family, sample.name)
        points = metric.sum.data_points if family.type == "counter" else metric.gauge.data_points
        points.append(
            NumberDataPoint(
                as_double=sample.value,
                time_unix_nano=self._time(sample),
                start_time_unix_nano=self._start(family, _labels(sample)),
                attributes=attributes(sample.labels),
            )
        )

    def _add_distributions(self, family: Family) -> None:
        own, point_of = ("le", _histogram) if family.type == "histogram" else ("quantile", _summary)
        series: defaultdict[Labels, list[Sample]] = defaultdict(list)
        for sample in family.samples:
            series[_labels(sample, without=own)].append(sample)
        for labels, samples in series.items():
            point = point_of(family.name, samples)
            if point is None:
                self.result.skipped += 1
                continue
            point.time_unix_nano = self._time(samples[0])
            point.start_time_unix_nano = self._start(family, labels)
            point.attributes.extend(attributes(dict(sorted(labels))))
            metric = self._metric(family, family.name)
            if isinstance(point, HistogramDataPoint):
                metric.histogram.data_points.append(point)
            else:
                metric.summary.data_points.append(point)

    def _metric(self, family: Family, name: str) -> Metric:
        key = (name, family.type)
        if key not in self._metrics:
            metric = Metric(name=name, description=family.documentation, unit=family.unit)
            if family.type == "counter":
                metric.sum.is_monotonic = True
                metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
            if family.type == "histogram":
                metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
            self._metrics[key] = metric
            self.result.metrics.append(metric)
        return self._metrics[key]

    def _time(self, sample: Sample) -> int:
        return _nanoseconds(float(sample.timestamp)) if sample.timestamp is not None else self._time_ns

    def _start(self, family: Family, labels: Labels) -> int:
        return self._starts.get((family.name, labels), 0) if family.type in STARTS else 0


def attributes(labels: Mapping[str, str]) -> list[KeyValue]:
    """Labels as attributes; an empty label is the same as none."""
    found: list[KeyValue] = []
    for name, value in labels.items():
        if value:
            attribute = KeyValue(key=name)
            attribute.value.string_value = value
            found.append(attribute)
    return found


def _with_own_names(families: list[Family], content: str) -> list[Family]:
    """Counters as the page calls them: the parser puts _total behind the names of those that lack it."""
    names = set(re.findall(r"^[^\s{#]+", content, re.MULTILINE))
    for family in families:
        if family.type == "counter" and f"{family.name}_total" not in names:
            family.samples = [
                each._replace(name=family.name) if each.name == f"{family.name}_total" else each
                for each in family.samples
            ]
    return families


def _start_times(families: Iterable[Family], time_ns: int) -> dict[tuple[str, Labels], int]:
    """When series started, by family and labels. OpenMetrics has it in the family, the older text in a gauge."""
    families = list(families)
    names = {family.name for family in families if family.type in STARTS}
    created = {
        (sample.name.removesuffix("_created"), _labels(sample)): sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith("_created") and (family.type != "counter" or sample.name == f"{family.name}_created")
    }
    # One that lies ahead is a clock that differs: unknown.
    return {
        (name, labels): _nanoseconds(value)
        for (name, labels), value in created.items()
        if name in names and math.isfinite(value) and value > 0 and _nanoseconds(value) <= time_ns
    }


def _labels(sample: Sample, without: str = "") -> Labels:
    return frozenset((name, value) for name, value in sample.labels.items() if name != without)


def _nanoseconds(seconds: float) -> int:
    if not (math.isfinite(seconds) and 0 <= seconds < 2**33):
        return 0  # no time that is ever accepted
    return round(seconds * 1e6) * 1000  # a double of today's time is good to the microsecond


def _histogram(name: str, samples: list[Sample]) -> HistogramDataPoint | None:
    """The point of one series; None when its buckets are not a rising sequence of whole numbers."""
    values = {sample.name: float(sample.value) for sample in samples}
    buckets = sorted(
        (float(each.labels.get("le", "")), float(each.value)) for each in samples if each.name == f"{name}_bucket"
    )
    count = values.get(f"{name}_count", buckets[-1][1] if buckets else None)
    if count is None:
        return None
    finite = [(bound, value) for bound, value in buckets if not math.isinf(bound)]
    cumulative = [0.0, *(value for _, value in finite), count]
    if not all(value.is_integer() and 0 <= value < 2**63 for value in cumulative) or cumulative != sorted(cumulative):
        return None
    point = HistogramDataPoint(count=int(count), explicit_bounds=[bound for bound, _ in finite])
    if buckets:
        steps = itertools.pairwise(cumulative)
        point.bucket_counts.extend(int(after) - int(before) for before, after in steps)
    if f"{name}_sum" in values:
        point.sum = values[f"{name}_sum"]
    return point


def _summary(name: str, samples: list[Sample]) -> SummaryDataPoint | None:
    values = {sample.name: float(sample.value) for sample in samples}
    count = values.get(f"{name}_count", 0.0)
    if not (count.is_integer() and 0 <= count < 2**63):
        return None
    point = SummaryDataPoint(count=int(count), sum=values.get(f"{name}_sum", 0.0))
    for sample in samples:
        if "quantile" in sample.labels:
            point.quantile_values.add(quantile=float(sample.labels["quantile"]), value=sample.value)
    return point
