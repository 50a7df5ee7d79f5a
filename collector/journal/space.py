"""How much disk the journal may take, over all signals."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from collector.errors import JournalFullError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Asking the file system costs some microseconds, and a second's traffic is far less than the free space kept.
CHECK_S = 1.0


class Space:
    """Counts the journal's bytes and watches the file system's free ones."""

    def __init__(self, root: Path, bytes_max: int, free_bytes_min: int, monotonic: Callable[[], float]) -> None:
        self._root = root
        self._bytes_max = bytes_max
        self._free_bytes_min = free_bytes_min
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._used = 0
        self._free = 0
        self._checked_at: float | None = None

    @property
    def used_bytes(self) -> int:
        """Bytes of all segments."""
        return self._used

    def require(self, size: int = 0) -> None:
        """Raise JournalFullError unless so many bytes more are within both bounds.

        An empty journal takes any size: what never fits would be sent again for ever.
        """
        if self._used and self._used + size > self._bytes_max:
            raise JournalFullError(
                f"expected at most {self._bytes_max} bytes waiting in the journal, got {self._used + size}: "
                "the store has not been taking rows; try again"
            )
        free = self._free_bytes()
        if free - size < self._free_bytes_min:
            raise JournalFullError(
                f"expected {self._free_bytes_min} bytes to stay free on the journal's disk, got {free - size}: "
                "make room; try again"
            )

    def take(self, size: int) -> None:
        """Count bytes that were written, or found at the start."""
        with self._guard:
            self._used += size
            self._free -= size

    def give(self, size: int) -> None:
        """Count bytes that were removed."""
        with self._guard:
            self._used -= size
            self._free += size

    def _free_bytes(self) -> int:
        now = self._monotonic()
        with self._guard:
            if self._checked_at is None or now - self._checked_at >= CHECK_S:
                disk = os.statvfs(self._root)
                self._free, self._checked_at = disk.f_bavail * disk.f_frsize, now
            return self._free
