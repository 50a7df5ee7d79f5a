"""What can go wrong with the store.

StoreError
├── StoreUnavailableError   the engine did not answer; the same call may succeed later
├── LocationBusyError       another process holds the data directory
├── LocationUnusableError   the data directory cannot be made or written
├── IncompatibleServerError the server is too old or its schema is newer than this program
└── QueryError              the engine refused a statement; trying it again changes nothing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# ClickHouse codes that name a passing state: too many queries, network, timeout, memory limit, no
# replica, table read only, too many parts, keeper trouble.
RETRYABLE_CODES = frozenset({159, 164, 202, 209, 210, 225, 241, 242, 243, 252, 285, 319, 425, 999})


class StoreError(Exception):
    """Anything the store raises; `retryable` says whether the same call may succeed later."""

    retryable = False


class StoreUnavailableError(StoreError):
    """The engine did not answer or is overloaded."""

    retryable = True


class LocationBusyError(StoreError):
    """Another process holds the data directory.

    `holder_url` is where that process serves its API, or '' when it has not said so.
    """

    def __init__(self, path: Path, holder_pid: int, holder_url: str) -> None:
        self.path = path
        self.holder_pid = holder_pid
        self.holder_url = holder_url
        remedy = f"use --url {holder_url}" if holder_url else "stop it, or give another --data"
        super().__init__(f"data directory {path} is in use by process {holder_pid}: {remedy}")


class LocationUnusableError(StoreError):
    """The data directory cannot be made or written; `reason` is the system's word."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"cannot use {path} as a data directory ({reason.lower()}): give another --data")


class IncompatibleServerError(StoreError):
    """The server or its schema does not fit this program."""


class QueryError(StoreError):
    """The engine refused a statement; `code` is ClickHouse's numeric error code, 0 when it gave none."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)
