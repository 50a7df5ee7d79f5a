"""For the tests of code that uses Pennytrace: calls in memory, a clock that stands still, loud failures."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from pennytrace import _names as names
from pennytrace import _runtime
from pennytrace._guard import failures
from pennytrace._source import SpanSource
from pennytrace._usage import Usage

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from opentelemetry.context import Context

__all__ = ["CapturedSpans", "MemoryClock", "RecordedCalls", "RecordedSpan", "capture", "recorded", "strict"]


class CapturedSpans(SpanProcessor):
    """Ended spans in the order in which they ended, in memory; they are OpenTelemetry's `ReadableSpan`."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def named(self, name: str) -> ReadableSpan:
        """The one span of this name; a ValueError says how many there were if there is not one."""
        found = [span for span in self.spans if span.name == name]
        if len(found) != 1:
            raise ValueError(f"expected one span named {name!r}, got {len(found)} among {[s.name for s in self.spans]}")
        return found[0]

    def add(self, span: ReadableSpan) -> None:
        """Keep a span that ended."""
        self.spans.append(span)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span that ended."""
        self.add(span)


@contextmanager
def capture(tracer_provider: TracerProvider | None = None) -> Generator[CapturedSpans]:
    """Within this block observed calls leave their spans here, and nothing is sent.

    With a `tracer_provider` the application's own spans on it are captured, too.
    """
    provider = tracer_provider or TracerProvider(shutdown_on_exit=False)
    captured = CapturedSpans()
    provider.add_span_processor(captured)
    before = _runtime.configured
    _runtime.install(_runtime.Runtime(SpanSource(provider, provider.get_tracer(names.SCOPE), captured)))
    try:
        yield captured
    finally:
        _runtime.install(before)
        _take_off(provider, captured)


def _take_off(provider: TracerProvider, processor: SpanProcessor) -> None:
    """OpenTelemetry has no way to remove one; it replaces the tuple itself when it adds one."""
    listeners: Any = provider._active_span_processor  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    kept = tuple(one for one in listeners._span_processors if one is not processor)  # noqa: SLF001
    listeners._span_processors = kept  # noqa: SLF001


class MemoryClock:
    """A clock for `clock=` that only `advance` moves; `seconds` is the monotonic one that goes with it."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._start = start

    def __call__(self) -> datetime:
        """The time."""
        return self._now

    def seconds(self) -> float:
        """Seconds since the start."""
        return (self._now - self._start).total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class RecordedSpan:
    """One finished span as plain values. `kind` is request, cache, gpu, or None for the others."""

    name: str
    kind: str | None
    attributes: Mapping[str, Any]
    duration_s: float

    @property
    def usage(self) -> Usage:
        """The usage that stands on the span; a cache write is a 5-minute one unless it is said."""
        told = self.attributes.get
        written, hour = told(names.CACHE_WRITE_TOKENS), told(names.CACHE_WRITE_1H_TOKENS)
        return Usage(
            input_tokens=told(names.INPUT_TOKENS),
            output_tokens=told(names.OUTPUT_TOKENS),
            cache_read_tokens=told(names.CACHE_READ_TOKENS),
            cache_write_5m_tokens=None if written is None else written - (hour or 0),
            cache_write_1h_tokens=hour,
            reasoning_tokens=told(names.REASONING_TOKENS),
            rows=told(names.ROWS),
        )


class RecordedCalls:
    """What was finished so far, in the order in which it ended."""

    def __init__(self, captured: CapturedSpans) -> None:
        self._captured = captured

    @property
    def spans(self) -> list[RecordedSpan]:
        """Every span."""
        return [_plain(span) for span in self._captured.spans]

    @property
    def calls(self) -> list[RecordedSpan]:
        """Model calls: what the ledger bills."""
        return [span for span in self.spans if names.OPERATION in span.attributes]

    @property
    def reused(self) -> list[RecordedSpan]:
        """Answers from the application's own cache: what the ledger counts as saved."""
        return [span for span in self.spans if span.kind == names.KIND_CACHE]

    def of_lever(self, lever: str) -> list[RecordedSpan]:
        """The spans of a lever: cache, budget, cascade, batch or variant."""
        return [span for span in self.spans if span.attributes.get(names.LEVER) == lever]


@contextmanager
def recorded() -> Generator[RecordedCalls]:
    """`capture`, with every span as plain values."""
    with capture() as captured:
        yield RecordedCalls(captured)


def _plain(span: ReadableSpan) -> RecordedSpan:
    attributes = dict(span.attributes or {})
    kind = attributes.get(names.SPAN_KIND)
    duration_ns = (span.end_time or 0) - (span.start_time or 0)
    return RecordedSpan(span.name, kind if isinstance(kind, str) else None, attributes, duration_ns / 1e9)


@contextmanager
def strict() -> Generator[None]:
    """Within this block a failure inside instrumentation is raised instead of counted; use it in tests only."""
    before, failures.strict = failures.strict, True
    try:
        yield
    finally:
        failures.strict = before
