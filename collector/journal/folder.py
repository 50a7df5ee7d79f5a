"""The journal's folder: one process at a time, one folder a signal, and two for what an operator should see."""

from __future__ import annotations

import fcntl
import os
from typing import IO, TYPE_CHECKING

from collector.errors import JournalBusyError, JournalUnusableError

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME = "journal.lock"


class JournalFolder:
    """A locked journal folder.

    Raises JournalBusyError when another process has it, JournalUnusableError when it cannot be made or written.
    Asking for one of its folders makes it, and may raise OSError.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            make(root)
            self._lock: IO[str] = (root / LOCK_NAME).open("a+")
        except OSError as error:
            raise JournalUnusableError(root, error.strerror or str(error)) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise JournalBusyError(root) from None
        except OSError as error:  # a file system that has no locks
            self._lock.close()
            raise JournalUnusableError(root, error.strerror or str(error)) from error

    def segments(self, signal: str) -> Path:
        """Where a signal's segments are."""
        return make(self.root / signal)

    def refused(self, signal: str) -> Path:
        """Where rows are kept that the engine refused for their data."""
        return make(self.root / "refused" / signal)

    def damaged(self, signal: str) -> Path:
        """Where segments are kept that were not whole, and what was cut off the end of one."""
        return make(self.root / "damaged" / signal)

    def release(self) -> None:
        """Let another process have the folder."""
        self._lock.close()


def make(folder: Path) -> Path:
    """Make a folder and its parents so that they are there after a power cut. Raises OSError."""
    if not folder.is_dir():
        make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_directory(folder.parent)
    return folder


def sync_directory(folder: Path) -> None:
    """Return when the folder's entries are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
