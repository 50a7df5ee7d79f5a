"""One signal's journal: groups go in at one end, whole segments come out in order at the other."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.errors import JournalWriteError
from collector.journal.folder import sync_directory
from collector.journal.segment import OpenSegment, Segment, created_at, number, recover

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from collector.journal.group import Group
    from collector.journal.segment import Sync
    from collector.journal.space import Space

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Roll:
    """When the open segment is closed."""

    bytes_max: int
    """A group that would take it past this goes into the next one; a larger group gets one of its own."""
    age_s: float
    """Once it is so old, whoever asks for the oldest segment gets it, unless closed ones come first."""


class Journal:
    """Segments in a folder that nobody else uses; what is not whole is moved to `damaged`.

    One thread appends and one takes; any may look. `changed` is called when `due_in_s` has a new answer.
    Raises OSError when what an earlier process left cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        damaged: Path,
        roll: Roll,
        space: Space,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        changed: Callable[[], None] = lambda: None,
        sync: Sync = os.fdatasync,
    ) -> None:
        self.folder = folder
        self._damaged = damaged
        self._roll_at = roll
        self._space = space
        self._clock = clock
        self._new_id = new_id
        self._changed = changed
        self._sync = sync
        self._guard = threading.Lock()
        self._open: OpenSegment | None = None
        self._opened_at = 0.0
        # Replaced, never changed, so that it can be read without waiting for the disk.
        self._closed = self._recover()
        self._number = max((segment.number for segment in self._closed), default=0)

    def append(self, group: Group, on_disk: Callable[[], None] = lambda: None) -> None:
        """Return once the group is on disk; `on_disk` is called before anybody can take it out.

        Raises JournalFullError or JournalWriteError, and then nothing of it was kept. When it could not be taken
        back from the disk either, nothing more is appended until it could.
        """
        self._space.require(len(group.payload))
        with self._guard:
            try:
                if self._open and (self._open.is_torn or self._is_past(len(group.payload), self._open)):
                    self._roll()
                is_first = self._open is None
                self._open = self._open or self._make()
                self._space.take(self._open.append(group))
            except OSError as error:
                self._try_roll()
                raise JournalWriteError(
                    f"the journal in {self.folder} could not be written ({error.strerror}): try again"
                ) from error
            on_disk()
        if is_first:
            self._changed()

    def oldest(self, up_to: int = 0) -> Segment | None:
        """The segment to be stored next, if there is one.

        Without a closed one, that is the open one if it is due, or if its number is at most `up_to`. Raises OSError
        when the open one cannot be closed.
        """
        with self._guard:
            if not self._closed and self._open and (self._open.number <= up_to or not self._seconds_left()):
                self._roll()
            return self._closed[0] if self._closed else None

    def due_in_s(self) -> float | None:
        """Seconds until `oldest` has something; None when nothing is there."""
        with self._guard:
            if self._closed:
                return 0.0
            return self._seconds_left() if self._open else None

    def remove(self, segment: Segment) -> None:
        """Forget a segment that is stored. Raises OSError."""
        segment.path.unlink(missing_ok=True)
        self._forget(segment)

    def set_aside(self, segment: Segment) -> Path:
        """Move a damaged segment out of the journal and forget it; returns where it is. Raises OSError."""
        place = segment.path.rename(self._damaged / segment.path.name)
        sync_directory(self._damaged)
        self._forget(segment)
        return place

    def give_up(self, segment: Segment) -> Path:
        """Forget a segment that cannot be read, and move what there is of its file; returns where it is."""
        try:
            return self.set_aside(segment)
        except OSError:  # there is no file, or it cannot be moved either: the next start sees to it
            self._forget(segment)
            return segment.path

    @property
    def newest_number(self) -> int:
        """Number of the last segment that was made."""
        return self._number

    @property
    def oldest_number(self) -> int | None:
        """Number of the oldest segment that is not stored; None when everything is."""
        closed, open_segment = self._closed, self._open
        if closed:
            return closed[0].number
        return open_segment.number if open_segment else None

    def waiting(self) -> list[Segment | OpenSegment]:
        """All segments that are not stored, oldest first."""
        closed, open_segment = self._closed, self._open
        return [*closed, *([open_segment] if open_segment else [])]

    def close(self) -> None:
        """Close the open segment; what is left is found at the next start."""
        with self._guard:
            self._try_roll()

    def _make(self) -> OpenSegment:
        self._number += 1
        self._opened_at = time.monotonic()
        return OpenSegment(self.folder, self._number, self._clock(), self._new_id(), self._sync)

    def _is_past(self, size: int, segment: OpenSegment) -> bool:
        return segment.bytes + size > self._roll_at.bytes_max

    def _seconds_left(self) -> float:
        return max(0.0, self._opened_at + self._roll_at.age_s - time.monotonic())

    def _roll(self) -> None:
        if self._open is None:
            return
        closed = self._open.close()
        self._open = None
        if closed:
            self._closed = (*self._closed, closed)

    def _try_roll(self) -> None:
        try:
            self._roll()
        except OSError as error:
            logger.error(
                "a group that was not acknowledged cannot be cut off, the journal takes no more until it can",
                extra={"folder": str(self.folder), "error": str(error)},
            )

    def _forget(self, segment: Segment) -> None:
        with self._guard:
            self._closed = tuple(each for each in self._closed if each is not segment)
        self._space.give(segment.bytes)

    def _recover(self) -> tuple[Segment, ...]:
        paths = sorted(filter(_is_segment, self.folder.iterdir()), key=lambda path: (number(path), path.name))
        found = [self._recover_one(path, newest=path is paths[-1]) for path in paths]
        segments = tuple(segment for segment in found if segment)
        for segment in segments:
            self._space.take(segment.bytes)
        if segments:
            logger.info(
                "found segments of an earlier process, they will be stored",
                extra={"folder": str(self.folder), "segments": len(segments), "items": sum(s.items for s in segments)},
            )
        return segments

    def _recover_one(self, path: Path, *, newest: bool) -> Segment | None:
        try:
            return recover(path, self._damaged, newest=newest)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            place = path.rename(self._damaged / path.name)
            logger.error("a segment cannot be read, it is set aside", extra={"path": str(place), "error": str(error)})
            return None


def _is_segment(path: Path) -> bool:
    if created_at(path) and path.is_file():
        return True
    logger.warning(
        "expected only files called number-time-random.journal in the journal, another is left alone",
        extra={"path": str(path)},
    )
    return False
