"""One signal's way: bodies ── group commit ──▶ journal ──▶ drain ──▶ store.

A body is acknowledged when it is in the journal. What happens behind that is no sender's concern.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collector.counts import Count, items, items_now
from collector.errors import UnavailableError
from collector.group_commit import CommitLimits, GroupCommit
from collector.journal import Drain, Group, Journal
from collector.journal.journal import Roll
from collector.journal.refused import keep_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from collector.counts import Counts
    from collector.group_commit import Body, ByteBudget
    from collector.journal import JournalFolder, Segment, Space
    from collector.journal.group import Scan
    from collector.protocol import Signal
    from collector.settings import CollectorSettings
    from collector.writers import PayloadKind, RowPayload, SegmentWriter

logger = logging.getLogger(__name__)

# A disk that cannot read a file now may read it a moment later; after so many times in a row it will not.
READ_ATTEMPTS_MAX = 5
# For an attempt that is over in a moment, once the time to close in is used up.
ENDING_S = 0.5


@dataclass(frozen=True)
class Shared:
    """What the pipelines of all signals have in common."""

    settings: CollectorSettings
    folder: JournalFolder
    space: Space
    budget: ByteBudget
    counts: Counts
    clock: Callable[[], datetime]
    new_id: Callable[[], str]


class Pipeline:
    """Takes one signal's bodies until it is closed. Raises OSError when the journal cannot be read."""

    def __init__(self, signal: Signal, kind: PayloadKind, writer: SegmentWriter, shared: Shared) -> None:
        self._signal = signal
        self._kind = kind
        self._writer = writer
        self._counts = shared.counts
        self._refused = shared.folder.refused(signal.name)
        self._read_failures = 0
        settings, wake = shared.settings, threading.Event()
        self._journal = Journal(
            shared.folder.segments(signal.name),
            shared.folder.damaged(signal.name),
            Roll(settings.segment_bytes_max, settings.segment_seconds),
            shared.space,
            shared.clock,
            shared.new_id,
            wake.set,
        )
        name, found = signal.name, self.items
        self._counts.change(
            items("replayed", name, found), items_now("journal", name, found), items_now("queue", name, 0)
        )
        self._drain = Drain(self._journal, self._store, wake)
        limits = CommitLimits(settings.commit_delay_ms / 1000, settings.commit_bytes_max)
        self._asked = (0, 0)
        self._is_answered = False
        self._commit: GroupCommit[Body] = GroupCommit(signal.name, self._append, limits, shared.budget)

    def submit(self, body: Body, rejected: Mapping[str, int]) -> Future[None]:
        """Queue what is left of a body after items were `rejected`; the future is done when it is on disk.

        Raises UnavailableError.
        """
        name, size = self._signal.name, body.items
        self._counts.change(
            items("received", name, size + sum(rejected.values())),
            items_now("queue", name, size),
            *(items("rejected", name, count, stage="check", reason=reason) for reason, count in rejected.items()),
        )
        if not size:
            return _written()
        try:
            return self._commit.submit(body)
        except UnavailableError as error:
            self._defer(size, error)
            raise

    def flush(self, timeout_s: float) -> bool:
        """Have everything stored that was acknowledged; False when the store is away or time is up."""
        return self._drain.flush(timeout_s)

    def stop_taking(self, timeout_s: float) -> None:
        """Journal and answer what is queued, and begin to store all there is. To be called before `close`."""
        self._is_answered = self._commit.close(timeout_s)
        if not self._is_answered:
            logger.error("the disk did not take what is queued in time", extra={"signal": self._signal.name})
        self._asked = self._drain.ask()

    def close(self, timeout_s: float) -> None:
        """Store what can be stored in time, and leave the rest for the next start."""
        deadline = time.monotonic() + timeout_s
        if not self._drain.wait(self._asked, timeout_s):
            logger.warning(
                "not everything is stored yet, the rest stays in the journal",
                extra={"signal": self._signal.name, "items": self.items, "bytes": self.bytes},
            )
        if not self._drain.end(max(ENDING_S, deadline - time.monotonic())):
            logger.warning(
                "the store did not answer in time, an insert is left to itself", extra={"signal": self._signal.name}
            )
        if self._is_answered:  # otherwise its thread still has the open segment
            self._journal.close()

    @property
    def bytes(self) -> int:
        """Bytes in the journal."""
        return sum(segment.bytes for segment in self._journal.waiting())

    @property
    def items(self) -> int:
        """Spans, data points or log records in the journal."""
        return sum(segment.items for segment in self._journal.waiting())

    @property
    def segments(self) -> int:
        """Files in the journal."""
        return len(self._journal.waiting())

    @property
    def oldest_at(self) -> datetime | None:
        """When the oldest row came that is not stored; None when everything is."""
        waiting = self._journal.waiting()
        return waiting[0].created_at if waiting else None

    @property
    def last_error(self) -> str | None:
        """Why the last attempt to store failed; None when it did not."""
        return self._drain.last_error

    def _append(self, bodies: Sequence[Any]) -> None:
        size = sum(body.items for body in bodies)
        try:
            group = Group(self._kind.encode(bodies), size, len(bodies))
            self._journal.append(group, lambda: self._acknowledge(size))
        except Exception as error:
            self._defer(size, error)
            raise

    def _acknowledge(self, size: int) -> None:
        name = self._signal.name
        self._counts.change(
            items_now("queue", name, -size), items_now("journal", name, size), items("acknowledged", name, size)
        )

    def _defer(self, size: int, error: Exception) -> None:
        name, reason = self._signal.name, getattr(error, "reason", UnavailableError.reason)
        self._counts.change(items_now("queue", name, -size), items("deferred", name, size, reason=reason))

    def _store(self, segment: Segment) -> None:
        started = time.perf_counter()
        found = self._read(segment)
        if found is None:
            return
        payloads = [group.payload for group in found.groups]
        refused = self._writer.write(payloads, segment.token) if payloads else []
        if refused:
            self._keep(segment, refused)
        self._take_out(segment, found)
        self._tell(segment, found, sum(row.items for row in refused), time.perf_counter() - started)

    def _read(self, segment: Segment) -> Scan | None:
        """What is in the segment; None when it can never be read, and then it is taken out. Raises OSError."""
        try:
            found = segment.read()
        except OSError as error:
            self._read_failures += 1
            if not isinstance(error, FileNotFoundError) and self._read_failures < READ_ATTEMPTS_MAX:
                raise
            self._give_up(segment, error)
            found = None
        self._read_failures = 0
        return found

    def _give_up(self, segment: Segment, error: OSError) -> None:
        place = self._journal.give_up(segment)
        name, lost = self._signal.name, segment.items
        self._counts.change(
            items_now("journal", name, -lost),
            items("rejected", name, lost, stage="store", reason="unreadable"),
            Count("pennytrace_damaged_segments_total", {"signal": name}, 1),
        )
        logger.error(
            "a segment cannot be read: its rows, which were acknowledged, are not stored",
            extra={"signal": name, "items": lost, "path": str(place), "error": str(error)},
        )

    def _keep(self, segment: Segment, refused: Sequence[RowPayload]) -> None:
        kept = keep_refused(segment, [Group(row.payload, row.items, 1) for row in refused], self._refused)
        logger.error(
            "the engine refused rows that were acknowledged, they are kept in a file",
            extra={"signal": self._signal.name, "rows": len(refused), "path": str(kept)},
        )

    def _take_out(self, segment: Segment, found: Scan) -> None:
        if not (segment.damaged or found.damaged):
            self._journal.remove(segment)
            return
        kept = self._journal.set_aside(segment)
        logger.error(
            "a segment was damaged: its whole groups are stored, the file is kept",
            extra={
                "signal": self._signal.name,
                "items": found.items,
                "missing": segment.items - found.items,
                "path": str(kept),
            },
        )

    def _tell(self, segment: Segment, found: Scan, refused_items: int, seconds: float) -> None:
        name, labels = self._signal.name, {"signal": self._signal.name}
        self._counts.change(
            items_now("journal", name, -segment.items),
            items("stored", name, found.items - refused_items),
            items("rejected", name, refused_items, stage="store", reason="refused_by_engine"),
            items("rejected", name, segment.items - found.items, stage="store", reason="damaged"),
            Count("pennytrace_replayed_segments_total", labels, int(segment.recovered)),
            Count("pennytrace_damaged_segments_total", labels, int(segment.damaged or found.damaged)),
        )
        logger.info(
            "stored a segment",
            extra={
                "signal": name,
                "bodies": found.bodies,
                "items": found.items,
                "bytes": segment.bytes,
                "seconds": round(seconds, 3),
            },
        )


def _written() -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done
