"""What finished model calls add up to: tokens and seconds by OpenTelemetry's GenAI labels.

Counted from spans in the export thread, at about a microsecond a call: a measurement of OpenTelemetry's own
histogram costs some thirty, and a call has three of them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pennytrace import _names as names
from pennytrace._span import LightSpan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from pennytrace._shape import Shape

TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
SECONDS_BOUNDS: Final = tuple(2**power / 100 for power in range(14))
"""Both are the buckets that the GenAI conventions prescribe; each one's upper bound belongs to it."""
SERIES_MAX: Final = 1_000
"""Distinct labels; calls with more of them share one series, as OpenTelemetry's cardinality limit has it."""
SHAPES_MAX: Final = 2_048
"""Span shapes whose series are at hand; more of them start again."""
LABELS: Final = (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.RESPONSE_MODEL)
OVERFLOW: Final = {"otel.metric.overflow": True}

Labels = tuple[tuple[str, str | bool], ...]


class Distribution:
    """A histogram with explicit bounds."""

    __slots__ = ("bounds", "buckets", "count", "least", "most", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.count = 0
        self.total: float = 0
        self.least = float("inf")
        self.most = float("-inf")

    def add(self, value: float) -> None:
        """Count one value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value


class Tokens:
    """Tokens of the calls with the same labels: input and output call by call, and sums of each kind."""

    __slots__ = ("input", "output", "sums")

    def __init__(self) -> None:
        self.input = Distribution(TOKEN_BOUNDS)
        self.output = Distribution(TOKEN_BOUNDS)
        self.sums: dict[str, int] = {}

    def add(self, counts: Mapping[str, Any]) -> None:
        """Count one call's usage attributes; what is unknown is not there, and adds nothing."""
        sums = self.sums
        for name in counts:
            if name in names.TOKEN_COUNTERS:
                number = counts[name]
                sums[name] = sums.get(name, 0) + number
                if name == names.INPUT_TOKENS:
                    self.input.add(number)
                elif name == names.OUTPUT_TOKENS:
                    self.output.add(number)


class Measures:
    """The series of one process. Hold `lock` to add or to read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Start from nothing."""
        self.tokens: dict[Labels, Tokens] = {}
        self.seconds: dict[Labels, Distribution] = {}
        self._by_shape: dict[tuple[Shape, str | None], tuple[Tokens, Distribution]] = {}

    def add(self, spans: Iterable[ReadableSpan]) -> None:
        """Count the model calls among these spans."""
        for span in spans:
            if type(span) is LightSpan and not span.is_stock and span.shape.labels:
                tokens, seconds = self._of_shape(span.shape, span.failure.kind if span.failure else None)
                seconds.add((span.ended_ns - span.started_ns) / 1e9)
                if span.more is not None:
                    tokens.add(span.more)
            elif (call := model_call(span)) is not None:
                tokens, seconds = self._of_labels(call.attributes, call.error)
                seconds.add(call.seconds)
                tokens.add(call.attributes)

    def _of_shape(self, shape: Shape, error: str | None) -> tuple[Tokens, Distribution]:
        found = self._by_shape.get((shape, error))
        if found is None:
            if len(self._by_shape) >= SHAPES_MAX:
                self._by_shape.clear()
            found = self._by_shape[shape, error] = self._of_labels(shape.labels, error)
        return found

    def _of_labels(self, told: Mapping[str, Any], error: str | None) -> tuple[Tokens, Distribution]:
        labels: Labels = tuple((name, told[name]) for name in LABELS if name in told)
        failed: Labels = (*labels, (names.ERROR_TYPE, error)) if error else labels
        if labels not in self.tokens and len(self.tokens) >= SERIES_MAX:
            labels = tuple(OVERFLOW.items())
        if failed not in self.seconds and len(self.seconds) >= SERIES_MAX:
            failed = tuple(OVERFLOW.items())
        if labels not in self.tokens:
            self.tokens[labels] = Tokens()
        if failed not in self.seconds:
            self.seconds[failed] = Distribution(SECONDS_BOUNDS)
        return self.tokens[labels], self.seconds[failed]


class ModelCall(NamedTuple):
    """A finished model call: its span's attributes, and how long it took."""

    attributes: Mapping[str, Any]
    seconds: float

    @property
    def labels(self) -> dict[str, Any]:
        """What tells series apart."""
        return {name: self.attributes[name] for name in LABELS if name in self.attributes}

    @property
    def error(self) -> str | None:
        """What the call failed with."""
        return self.attributes.get(names.ERROR_TYPE)


def model_call(span: ReadableSpan) -> ModelCall | None:
    """The model call of a span of ours, if it is one; others' spans are for others to measure."""
    if type(span) is LightSpan and not span.is_stock:
        attributes: Mapping[str, Any] = span.attributes_now()
        took_ns = span.ended_ns - span.started_ns
    else:
        scope = span.instrumentation_scope
        attributes = (span.attributes or {}) if scope is not None and scope.name == names.SCOPE else {}
        took_ns = (span.end_time or 0) - (span.start_time or 0)
    return ModelCall(attributes, took_ns / 1e9) if names.OPERATION in attributes else None
