"""What `configure` returns."""

from __future__ import annotations

import atexit
from dataclasses import replace
from typing import TYPE_CHECKING

from pennytrace._guard import Guard, failures
from pennytrace._pipeline import Counts

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.trace import TracerProvider

    from pennytrace._pipeline import SpanQueue

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
            return
        self._open = False
        atexit.unregister(self.shutdown)
        with _stopping:
            if self._queue is not None:
                self._queue.shutdown()

    def counts(self) -> Counts:
        """Where this process's spans went, and how often instrumentation failed."""
        counts = self._queue.counts() if self._queue is not None else Counts(0, 0, 0, 0, 0)
        return replace(counts, errors=failures.total())

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()
