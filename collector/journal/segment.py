"""Segment files: one is being written, the others wait to be stored.

The name, number-time-random.journal, is fixed when the file is made: it is the segment's place in the order, its
deduplication token in the store, and the salt of its checksums.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from collector.journal import group as groups
from collector.journal.folder import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.journal.group import Group, Scan

    Sync = Callable[[int], object]

logger = logging.getLogger(__name__)

NAME = re.compile(r"(?P<number>\d{8,})-(?P<time>\d{8}T\d{6}Z)-[\w-]+\.journal")
TIME_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that is written no more."""

    path: Path
    number: int
    created_at: datetime
    bytes: int
    items: int
    bodies: int
    recovered: bool = False
    damaged: bool = False

    @property
    def token(self) -> str:
        """What the store knows it by."""
        return self.path.name

    def read(self) -> Scan:
        """Its whole groups. Fewer than when it was closed: it was damaged since. Raises OSError."""
        with self.path.open("rb") as file:
            found = groups.scan(file.read(self.bytes), salt(self.path))
        whole = (found.items, found.bodies) == (self.items, self.bodies)
        return found if whole else replace(found, damaged=True)


class OpenSegment:
    """The segment that is being written; when it `is_torn` it must be closed."""

    def __init__(self, folder: Path, number: int, created_at: datetime, new_id: str, sync: Sync) -> None:
        """Make the file, durably. Raises OSError."""
        self.path = folder / f"{number:08}-{created_at.astimezone(UTC):{TIME_FORMAT}}-{new_id}.journal"
        self.number = number
        self.created_at = created_at
        self.bytes = self.items = self.bodies = 0
        self.is_torn = False
        """Whether something may stand behind the last synced group."""
        self._sync = sync
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            sync_directory(folder)
        except OSError:
            self.close()
            raise

    def append(self, group: Group) -> int:
        """Write a group; returns its bytes once they are on disk. Raises OSError, and then nothing was added."""
        encoded = groups.encode(group, salt(self.path))
        rest = memoryview(encoded)
        self.is_torn = True
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._sync(self._file)
        self.is_torn = False
        self.bytes += len(encoded)
        self.items += group.items
        self.bodies += group.bodies
        return len(encoded)

    def close(self) -> Segment | None:
        """Close the file at its last synced group; None, and no file, when there is none.

        After a failed sync nobody knows what is on disk, so what it was for is cut off and never built upon.
        Raises OSError when it cannot be cut off, and then it is to be tried again: a restart would find it.
        """
        if self.is_torn:
            os.ftruncate(self._file, self.bytes)
            self._sync(self._file)
            self.is_torn = False
        with suppress(OSError):
            os.close(self._file)
        if not self.bytes:
            with suppress(OSError):
                self.path.unlink()
            return None
        return Segment(self.path, self.number, self.created_at, self.bytes, self.items, self.bodies)


def created_at(path: Path) -> datetime | None:
    """When the segment was made that has this name; None when segments are not called so."""
    name = NAME.fullmatch(path.name)
    try:
        return datetime.strptime(name["time"], TIME_FORMAT).replace(tzinfo=UTC) if name else None
    except ValueError:
        return None


def number(path: Path) -> int:
    """The number in a segment's name."""
    return int(path.name.partition("-")[0])


def recover(path: Path, damaged: Path, *, newest: bool) -> Segment | None:
    """The segment of an earlier process; None, and no file, when it holds nothing. Raises OSError.

    A group at the end of the newest that is not all there was being written when the process ended and was never
    acknowledged: it is moved to the folder `damaged`. Any other bytes that are no whole group are damage.
    """
    data = path.read_bytes()
    found = groups.scan(data, salt(path))
    tail = data[found.whole_bytes :]
    if newest and tail and groups.is_unfinished(tail, salt(path)):
        _move_tail(path, tail, damaged)
        data, tail = data[: found.whole_bytes], b""
    if tail:
        logger.error(
            "a segment ends in bytes that are no group; acknowledged or not, nobody knows: they are kept",
            extra={"segment": str(path), "bytes": len(tail)},
        )
    if not data:
        path.unlink()
        return None
    return _recovered(path, found, len(data), damaged=found.damaged or bool(tail))


def salt(path: Path) -> bytes:
    """What the checksums of a segment start from."""
    return path.name.encode()


def _recovered(path: Path, found: Scan, size: int, *, damaged: bool) -> Segment:
    made_at = created_at(path)
    if made_at is None:
        raise ValueError(f"expected a file called number-time-random.journal, got {path.name}")
    return Segment(path, number(path), made_at, size, found.items, found.bodies, recovered=True, damaged=damaged)


def _move_tail(path: Path, tail: bytes, damaged: Path) -> None:
    """Keep the tail in a file named after the segment and its place there, then cut it off."""
    whole_bytes = path.stat().st_size - len(tail)
    kept = damaged / f"{path.stem}-from-{whole_bytes}.tail"
    with kept.open("wb") as file:
        file.write(tail)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(damaged)
    with path.open("r+b") as file:
        file.truncate(whole_bytes)
        os.fsync(file.fileno())
    logger.warning(
        "a segment ended in a group that was never acknowledged, it was cut off and kept",
        extra={"segment": str(path), "bytes": len(tail), "path": str(kept)},
    )
