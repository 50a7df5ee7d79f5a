"""A bounded queue of ended spans and the thread that exports it; every span that is not delivered is counted.

OpenTelemetry's own batch processor drops without a count, ignores the timeout of a flush, and holds the
process's exit for as long as its backend hangs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

_log = logging.getLogger("pennytrace")


@dataclass(frozen=True, slots=True)
class Counts:
    """Where this process's spans went: `spans = delivered + dropped + failed + queued`.

    `dropped`: the queue was full, or the process ended first. `failed`: the exporter gave a batch up.
    `errors`: failures inside instrumentation, none of which reached serving code.
    """

    spans: int
    delivered: int
    dropped: int
    failed: int
    queued: int
    errors: int = 0


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of the queue: spans held, spans a request, seconds between requests, seconds a stop may take."""

    queue_spans_max: int
    batch_spans_max: int
    interval_s: float
    exit_timeout_s: float


class SpanQueue(SpanProcessor):
    """Span processor with a bounded queue. Its thread starts with the first span, also after a fork."""

    def __init__(self, make_exporter: Callable[[], SpanExporter], limits: QueueLimits) -> None:
        self._make_exporter = make_exporter
        self._exporter = make_exporter()  # here, so that a bad header or URL is configure's error
        self._limits = limits
        self._reset()
        if hasattr(os, "register_at_fork"):
            after_fork = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (alive := after_fork()) and alive())

    def _reset(self) -> None:
        self._changed = threading.Condition()  # re-entrant: a signal handler may flush while its thread holds it
        self._waiting: deque[ReadableSpan] = deque()
        self._exporting = 0
        self._spans = self._delivered = self._dropped = self._failed = 0
        self._flush_to = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def _after_fork(self) -> None:
        """The parent sends what was queued; the child counts from zero over connections of its own."""
        closed = self._closed
        self._reset()
        self._closed = closed
        if not closed:
            self._exporter = self._make_exporter()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do: spans are queued as they end."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended, sampled span; never blocks on the backend."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._changed:
            self._spans += 1
            if self._closed:
                self._dropped += 1
                return
            if len(self._waiting) >= self._limits.queue_spans_max:
                self._drop(1)
                return
            self._waiting.append(span)
            if self._thread is None:
                self._start()
            elif len(self._waiting) in (1, self._limits.batch_spans_max):
                self._changed.notify_all()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is queued now; False when that took longer."""
        deadline = time.monotonic() + timeout_millis / 1000
        with self._changed:
            target = self._settled() + len(self._waiting) + self._exporting
            self._flush_to = max(self._flush_to, target)
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._settled() >= target, max(0.0, deadline - time.monotonic()))

    def shutdown(self) -> None:
        """Export what is queued, within the exit timeout; what is left is counted as dropped. Idempotent."""
        with self._changed:
            already, self._closed = self._closed, True
            self._changed.notify_all()
        if already:
            return
        self.force_flush(int(self._limits.exit_timeout_s * 1000))
        with self._changed:
            self._drop(len(self._waiting))
            self._waiting.clear()
        self._exporter.shutdown()

    def counts(self) -> Counts:
        """A consistent reading of the counters."""
        with self._changed:
            queued = len(self._waiting) + self._exporting
            return Counts(self._spans, self._delivered, self._dropped, self._failed, queued)

    def _settled(self) -> int:
        return self._delivered + self._dropped + self._failed

    def _drop(self, spans: int) -> None:
        if spans and not self._dropped:
            _log.error(
                "Spans are being dropped: the queue is full or the process ends; counts() tells how many",
                extra={"queue_spans_max": self._limits.queue_spans_max},
            )
        self._dropped += spans

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="pennytrace-export", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        suppress = otel_context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        otel_context.attach(otel_context.set_value(suppress, True))  # noqa: FBT003 # our own requests are not traced
        while batch := self._next_batch():
            delivered = self._export(batch)
            with self._changed:
                self._exporting = 0
                if delivered:
                    self._delivered += len(batch)
                else:
                    self._failed += len(batch)
                self._changed.notify_all()

    def _next_batch(self) -> list[ReadableSpan]:
        """Wait until a batch is due and take it; empty once the queue is closed and drained."""
        limits = self._limits
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(self._due_at_once, limits.interval_s)
            self._exporting = min(len(self._waiting), limits.batch_spans_max)
            return [self._waiting.popleft() for _ in range(self._exporting)]

    def _due_at_once(self) -> bool:
        return self._closed or len(self._waiting) >= self._limits.batch_spans_max or self._flush_to > self._settled()

    def _export(self, batch: list[ReadableSpan]) -> bool:
        try:
            return self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001 # an exporter may be anybody's; its batch is counted as failed
            _log.warning("The exporter raised; its batch is counted as failed", exc_info=True)
            return False
