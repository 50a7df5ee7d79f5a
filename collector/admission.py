"""What is let in: whose requests, and how many bytes of them are read at once."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.errors import CollectorError, UnavailableError
from collector.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Generator

    from collector.settings import CollectorSettings

# Past its grace, a body may take a second more for every so many bytes that came: a slow line gets through, a
# trickle does not.
BODY_BYTES_PER_S_MIN = 64 * 1024
# Time that a fast beginning has earned is not for holding what came: lines that people use do not pause this long.
PAUSE_S_MAX = 10


class ReadingFullError(UnavailableError):
    """Bodies that are being read hold all the memory that they may."""

    reason = "reading_full"


class SlowBodyError(UnavailableError):
    """A body that did not come within its time."""

    reason = "slow_body"


class ForeignOriginError(CollectorError):
    """A web page sends that may not; without this, one could reach a loopback port by giving it its own name."""

    http_status = 403
    code = 7
    reason = "foreign_origin"


class Lease:
    """Bytes that one request holds."""

    def __init__(self, budget: ReadingBudget) -> None:
        self._budget = budget
        self.size = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises ReadingFullError."""
        self._budget.take(size)
        self.size += size

    def shrink(self, size: int) -> None:
        """Hold only so many bytes from now on."""
        self._budget.give(self.size - size)
        self.size = size


class ReadingBudget:
    """How many bytes all bodies that are being read may hold together.

    They count as they come and not as they are announced: an announcement costs the sender nothing.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._used = 0
        self._guard = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes held now."""
        return self._used

    def take(self, size: int) -> None:
        """Hold bytes. Raises ReadingFullError when there is no room."""
        with self._guard:
            if self._used + size > self.bytes_max:
                raise ReadingFullError(f"requests of {self._used} bytes are being read already: try again")
            self._used += size

    def give(self, size: int) -> None:
        """Hand held bytes back."""
        with self._guard:
            self._used -= size

    @contextmanager
    def lease(self) -> Generator[Lease, None, None]:
        """A lease that ends with the block."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            lease.shrink(0)


@dataclass(frozen=True)
class Admission:
    """What HTTP and gRPC share, and for each what its bodies may hold: neither can be used up from the other."""

    keys: Keys
    reading: ReadingBudget
    grpc_reading: ReadingBudget

    @classmethod
    def of(cls, settings: CollectorSettings, keys: Keys | None = None) -> Admission:
        """Admission with these keys; without any, everyone may send."""
        size = settings.reading_bytes_max
        return cls(keys or Keys(), ReadingBudget(size), ReadingBudget(size))
