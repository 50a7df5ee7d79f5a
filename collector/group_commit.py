"""Group commit: bodies that come together are written together; each learns when it is on disk.

One thread writes. It takes everything that queued while the previous commit ran, so commits grow with the
load by themselves; a delay only matters when little is going on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from collector.errors import ClosingError, CollectorError, QueueFullError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

# What a waiting body costs beyond its bytes, so that many tiny ones are bounded too.
BODY_OVERHEAD_BYTES = 1024


class Body(Protocol):
    """What is grouped."""

    @property
    def items(self) -> int:
        """Spans or data points."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes it holds in memory."""
        ...


BodyT = TypeVar("BodyT", bound=Body)


class ByteBudget:
    """How many bytes may wait, over all queues that share it."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used = 0
        self._guard = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes waiting or being written now."""
        return self._used

    def take(self, size: int) -> None:
        """Reserve bytes. Raises QueueFullError; a body that is alone always fits."""
        with self._guard:
            if self._used and self._used + size > self._bytes_max:
                raise QueueFullError(
                    f"expected at most {self._bytes_max} bytes waiting to be kept, got {self._used + size}: try again"
                )
            self._used += size

    def give(self, size: int) -> None:
        """Hand reserved bytes back."""
        with self._guard:
            self._used -= size


@dataclass(frozen=True)
class CommitLimits:
    """When a commit starts and what it may hold; a body over the limits goes alone."""

    delay_s: float
    bytes_max: int


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[BodyT]):
    body: BodyT
    written: Future[None]
    due: float
    cost: int


class GroupCommit(Generic[BodyT]):
    """A queue and the thread that empties it through `write`.

    `write` returns when the whole group is safe, or raises the CollectorError that all its senders get.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[BodyT]], None],
        limits: CommitLimits,
        budget: ByteBudget,
    ) -> None:
        self._write = write
        self._limits = limits
        self._budget = budget
        self._queue: deque[_Waiting[BodyT]] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"commit-{name}", daemon=True)
        self._thread.start()

    def submit(self, body: BodyT) -> Future[None]:
        """Queue a body; the future is done when it is written, or has the CollectorError for its sender.

        Raises QueueFullError or ClosingError.
        """
        cost = body.size_bytes + BODY_OVERHEAD_BYTES
        written: Future[None] = Future()
        written.set_running_or_notify_cancel()  # a sender that goes away does not take its body back
        waiting = _Waiting(body, written, time.monotonic() + self._limits.delay_s, cost)
        with self._changed:
            if self._closing:
                raise ClosingError("the collector is shutting down: try again")
            self._budget.take(cost)
            self._queue.append(waiting)
            self._queued_bytes += cost
            self._changed.notify()
        return written

    def close(self, timeout_s: float) -> bool:
        """Write everything that is queued, answer it, and end the thread; whether it ended in time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)

    def _next_group(self) -> list[_Waiting[BodyT]]:
        """What is to be written next; empty only when closing and nothing is left."""
        with self._changed:
            while not self._is_due():
                self._changed.wait(self._seconds_left())
            group: list[_Waiting[BodyT]] = []
            room_bytes = self._limits.bytes_max
            while self._queue and (not group or self._queue[0].cost <= room_bytes):
                waiting = self._queue.popleft()
                room_bytes -= waiting.cost
                self._queued_bytes -= waiting.cost
                group.append(waiting)
            return group

    def _is_due(self) -> bool:
        if self._closing:
            return True
        if not self._queue:
            return False
        return self._queued_bytes >= self._limits.bytes_max or time.monotonic() >= self._queue[0].due

    def _seconds_left(self) -> float | None:
        return max(0.0, self._queue[0].due - time.monotonic()) if self._queue else None

    def _commit(self, group: list[_Waiting[BodyT]]) -> None:
        error: CollectorError | None = None
        try:
            self._write([waiting.body for waiting in group])
        except CollectorError as refused:
            error = refused
        except Exception:  # the thread must go on: the senders keep their data and try again
            logger.exception("commit failed", extra={"bodies": len(group)})
            error = UnavailableError("the request could not be kept for a reason that was not foreseen: try again")
        for waiting in group:
            self._budget.give(waiting.cost)
            if error is None:
                waiting.written.set_result(None)
            else:
                waiting.written.set_exception(error)
