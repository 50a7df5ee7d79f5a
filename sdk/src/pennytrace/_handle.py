"""What `configure` returns."""

from __future__ import annotations

import atexit
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor

from pennytrace._guard import Guard, failures
from pennytrace._pipeline import Counts

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.trace import TracerProvider

    from pennytrace._pipeline import SpanQueue

HURRY_MS = 500
"""How long a signal handler may hold up the application's own; a backend that is up needs some ten of these."""

_stopping = Guard("shutting down")


class Handle:
    """The running SDK: flush it, stop it, ask where its spans went. Leaving `with configure(…):` stops it."""

    def __init__(self, provider: TracerProvider, queue: SpanQueue | None) -> None:
        self.tracer_provider = provider
        self._queue = queue
        self._open = True
        atexit.register(self.shutdown)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Export what is queued; False when the backend did not take it all within the timeout. Never raises."""
        with _stopping:
            return self._queue is None or self._queue.force_flush(int(timeout_s * 1000))
        return False

    def shutdown(self) -> None:
        """Flush within the exit timeout and stop; later spans are counted as dropped. Idempotent, never raises."""
        if not self._open:
            with _stopping:
                if self._queue is not None:
                    self._queue.shutdown()
            return
        self._open = False
        atexit.unregister(self.shutdown)
        with _stopping:
            if self._queue is not None:
                self._shut_down(self._queue, time.monotonic() + self._queue.exit_timeout_s)

    def _shut_down(self, queue: SpanQueue, ends_s: float) -> None:
        if queue.metrics is not None:
            queue.metrics.open_no_more()
        queue.shutdown()
        if queue.metrics is not None:
            queue.metrics.shutdown(ends_s - time.monotonic())

    def hurry(self) -> None:
        """The process is about to end: send what is queued, waiting a moment for it, and everything else at once."""
        with _stopping:
            if self._queue is not None:
                self._queue.hurry()
                self._queue.force_flush(HURRY_MS)

    def let_go(self) -> None:
        """Take the stopped queue off the provider, where another one follows it."""
        listeners: Any = getattr(self.tracer_provider, "_active_span_processor", None)
        if isinstance(listeners, SynchronousMultiSpanProcessor):
            # OpenTelemetry has no way to remove one; it replaces the tuple itself when it adds one.
            kept = tuple(one for one in listeners._span_processors if one is not self._queue)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            listeners._span_processors = kept  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def counts(self) -> Counts:
        """Where this process's spans went, and how often instrumentation failed."""
        counts = self._queue.counts() if self._queue is not None else Counts(0, 0, 0, 0, 0)
        return replace(counts, errors=failures.total())

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()
