"""A bounded queue of ended spans and the thread that exports it; every span that is not delivered is counted.

OpenTelemetry's own batch processor drops without a count, ignores the timeout of a flush, and holds the
process's exit for as long as its backend hangs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from pennytrace._delivery import Delivery, Settled
from pennytrace._guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from pennytrace._metrics import Metrics
    from pennytrace._sending import Sender

_log = logging.getLogger("pennytrace")

BREATH_S: Final = 50e-6
"""How long the export thread, which holds the interpreter's lock while it encodes, leaves it to others in between."""
_NEVER: Final = sys.maxsize

_queueing = Guard("queueing a span")
_starting = Guard("starting the export thread")


@dataclass(frozen=True, slots=True)
class Counts:
    """Where this process's spans went: `spans = delivered + dropped + failed + queued`.

    `dropped`: the queue was full, or the process ended before the backend took them. `failed`: the backend refused
    them. `errors`: failures inside instrumentation, none of which reached serving code.
    """

    spans: int
    delivered: int
    dropped: int
    failed: int
    queued: int
    errors: int = 0


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of the queue: spans held, spans a request, seconds between requests and for one, seconds of a stop."""

    queue_spans_max: int
    batch_spans_max: int
    interval_s: float
    exit_timeout_s: float
    request_timeout_s: float = 10.0


class SpanQueue(SpanProcessor):
    """Span processor with a bounded queue. Its thread starts with the first span, also after a fork.

    A backend that is down costs nothing but memory: a batch is sent again and again while the queue fills, and
    what then does not fit is dropped and counted.
    """

    def __init__(self, make_sender: Callable[[], Sender], limits: QueueLimits) -> None:
        self._make_sender = make_sender
        self._sender = make_sender()  # here, so that a wrong setting is configure's error
        self._limits = limits
        self.metrics: Metrics | None = None
        """Counts every batch, and begins to send once the first one was settled."""
        self._reset()
        if hasattr(os, "register_at_fork"):
            after_fork = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (alive := after_fork()) and alive())

    @property
    def exit_timeout_s(self) -> float:
        """The longest that a shutdown takes."""
        return self._limits.exit_timeout_s

    def _reset(self) -> None:
        self._changed = threading.Condition()  # re-entrant: a signal handler may flush while its thread holds it
        self._waiting: deque[ReadableSpan] = deque()
        self._room = self._limits.queue_spans_max
        self._interval_s = self._limits.interval_s
        self._wake_at = 1  # the spans at which the thread wants to be woken: it sleeps until the first one
        self._taken = self._exporting = 0
        self._delivered = self._dropped = self._failed = 0
        self._flush_to = 0
        self._ends_at_s: float | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None

    def _after_fork(self) -> None:
        """The parent sends what was queued; the child counts from zero over connections of its own."""
        closed = self._closed
        self._reset()
        if closed:
            self._ends_at_s, self._room, self._stopped = 0.0, -1, True
        else:
            self._sender = self._make_sender()
            if self.metrics is not None:
                self.metrics.after_fork()

    @property
    def _closed(self) -> bool:
        return self._ends_at_s is not None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do: spans are queued as they end."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended, sampled span; never blocks on the backend."""
        if span.context is not None and span.context.trace_flags.sampled:
            with _queueing:
                self.add(span)

    def add(self, span: ReadableSpan) -> None:
        """Queue a span that is known to be sampled. Takes no lock: appending is atomic."""
        waiting = self._waiting
        if len(waiting) >= self._room:
            with self._changed:
                self._drop(1)
            return
        waiting.append(span)
        if len(waiting) >= self._wake_at:
            self._rouse()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is queued now; False when that took longer."""
        deadline_s = time.monotonic() + timeout_millis / 1000
        with self._changed:
            target = self._taken + len(self._waiting)
            self._flush_to = max(self._flush_to, target)
            if target > self._settled():
                self._rouse()
                if self._thread is None:
                    return False
            return self._changed.wait_for(lambda: self._settled() >= target, max(0.0, deadline_s - time.monotonic()))

    def hurry(self) -> None:
        """From now on export every span as it comes."""
        self._interval_s = 0.0

    def shutdown(self) -> None:
        """Export what is queued, within the exit timeout; what is left is counted as dropped.

        Idempotent; a second call waits for the first, which it may have interrupted as a signal's handler.
        """
        with self._changed:
            if self._ends_at_s is not None:
                self.force_flush(max(0, int(1000 * (self._ends_at_s - time.monotonic()))))
                return
            self._ends_at_s = time.monotonic() + self._limits.exit_timeout_s
            self._room = -1
            self._changed.notify_all()
        self.force_flush(int(self._limits.exit_timeout_s * 1000))
        with self._changed:
            self._stopped = True
            self._drop_rest()
            if self._thread is None:
                self._sender.close()

    def counts(self) -> Counts:
        """A consistent reading of the counters."""
        with self._changed:
            if self._stopped:
                self._drop_rest()  # a thread may have been between looking for room and queueing
            queued = len(self._waiting) + self._exporting
            spans = self._delivered + self._dropped + self._failed + queued
            return Counts(spans, self._delivered, self._dropped, self._failed, queued)

    def _settled(self) -> int:
        return self._taken - self._exporting

    def _drop_rest(self) -> None:
        rest = len(self._waiting)
        self._waiting.clear()
        self._taken += rest
        self._drop(rest + self._exporting)
        self._exporting = 0

    def _drop(self, spans: int) -> None:
        if spans and not self._dropped:
            _log.error(
                "Spans are being dropped: the queue is full or the process ends; counts() tells how many",
                extra={"queue_spans_max": self._limits.queue_spans_max, "spans": spans},
            )
        self._dropped += spans

    def _rouse(self) -> None:
        with self._changed:
            self._wake_at = _NEVER
            if self._thread is None:
                self._begin_thread()
            self._changed.notify_all()

    def _begin_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="pennytrace-export", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # no more threads or memory, or the interpreter ends
            self._wake_at = 1  # the next span tries again
            _starting.caught(error)
        else:
            self._thread = thread

    def _work(self) -> None:
        suppress = otel_context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        otel_context.attach(otel_context.set_value(suppress, True))  # noqa: FBT003 # our own requests are not traced
        delivery = Delivery(
            self._sender, self._limits.request_timeout_s, self._seconds_left, self._pause, self._breathe
        )
        try:
            while batch := self._next_batch():
                if self.metrics is not None:
                    self.metrics.count(batch)
                self._settle(batch, self._delivered_by(delivery, batch))
                if self.metrics is not None:
                    self.metrics.open()
        finally:
            self._sender.close()

    def _next_batch(self) -> list[ReadableSpan]:
        """Wait until a batch is due and take it; empty once the queue is closed and drained."""
        with self._changed:
            while not (self._waiting or self._closed):
                self._wake_at = 1
                if not self._waiting:  # asked again, since only from here on does a span wake this thread
                    self._changed.wait()
            self._wake_at = self._limits.batch_spans_max
            self._changed.wait_for(self._due_at_once, self._interval_s)
            self._wake_at = _NEVER
            self._exporting = min(len(self._waiting), self._limits.batch_spans_max)
            self._taken += self._exporting
            return [self._waiting.popleft() for _ in range(self._exporting)]

    def _due_at_once(self) -> bool:
        return self._closed or len(self._waiting) >= self._limits.batch_spans_max or self._flush_to > self._settled()

    def _delivered_by(self, delivery: Delivery, batch: list[ReadableSpan]) -> Settled:
        try:
            return delivery.deliver(batch)
        except Exception:  # noqa: BLE001 # the thread outlives whatever this was; its batch is counted as failed
            _log.warning("Exporting failed; its batch is counted as failed", exc_info=True)
            return Settled(failed=len(batch))

    def _settle(self, batch: list[ReadableSpan], settled: Settled) -> None:
        batch.clear()
        with self._changed:
            if not self._stopped:  # else shutdown did not wait, and counted them as dropped
                self._exporting = 0
                self._delivered += settled.delivered
                self._failed += settled.failed
                self._drop(settled.dropped)
            self._changed.notify_all()

    def _seconds_left(self) -> float | None:
        return None if self._ends_at_s is None else self._ends_at_s - time.monotonic()

    def _pause(self, seconds: float) -> None:
        """Wait between attempts; the end of the process cuts it short, and a pause within that is cut to it."""
        with self._changed:
            left_s = self._seconds_left()
            if left_s is None:
                self._changed.wait_for(lambda: self._closed, seconds)
            else:
                self._changed.wait_for(lambda: self._stopped, max(0.0, min(seconds, left_s)))

    def _breathe(self) -> None:
        """Let serving threads run, unless spans come faster than they are sent or somebody waits for them."""
        if len(self._waiting) < self._limits.batch_spans_max and self._flush_to <= self._taken - self._exporting:
            time.sleep(BREATH_S)
