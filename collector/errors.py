"""Why a request is refused, each with its answer in HTTP and gRPC.

CollectorError
├── InvalidBodyError       400  INVALID_ARGUMENT    not what OTLP says; sending it again changes nothing
├── UnsupportedMediaError  415  INVALID_ARGUMENT    a content type or encoding that is not read here
├── BodyTooLargeError      413  RESOURCE_EXHAUSTED  over a limit; no RetryInfo, so clients give up
└── UnavailableError       503  UNAVAILABLE         a passing state; clients keep the data and try again
    ├── QueueFullError
    ├── ClosingError
    ├── JournalFullError
    └── JournalWriteError

JournalError               at the start, before there is any request
├── JournalBusyError       another process has the journal
└── JournalUnusableError   its folder cannot be made or written

Nothing passing is ever answered with 500, because OTLP clients drop their data on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class CollectorError(Exception):
    """A request that is not accepted; `reason` is the word under which it is counted."""

    http_status: ClassVar[int]
    code: ClassVar[int]
    """google.rpc.Code, which is gRPC's status code."""
    reason: ClassVar[str]


class InvalidBodyError(CollectorError):
    """The body is not an OTLP request."""

    http_status = 400
    code = 3
    reason = "invalid_body"


class UnsupportedMediaError(CollectorError):
    """The content type or content encoding is not one that is read here."""

    http_status = 415
    code = 3
    reason = "unsupported_media"


class BodyTooLargeError(CollectorError):
    """The body is over a limit, as it arrives or after decompression."""

    http_status = 413
    code = 8
    reason = "too_large"


class UnavailableError(CollectorError):
    """Nothing was stored and the same request may succeed later."""

    http_status = 503
    code = 14
    reason = "unavailable"


class QueueFullError(UnavailableError):
    """More is waiting for its commit than the limit allows."""

    reason = "queue_full"


class ClosingError(UnavailableError):
    """The collector is shutting down."""

    reason = "closing"


class JournalFullError(UnavailableError):
    """The journal, or the disk it is on, is at its bound."""

    reason = "journal_full"


class JournalWriteError(UnavailableError):
    """The disk did not take what was to be acknowledged."""

    reason = "journal_write"


class JournalError(Exception):
    """The journal cannot be opened."""


class JournalBusyError(JournalError):
    """Another process has the journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"journal {path} is in use by another process: stop it, or set [collector] journal")


class JournalUnusableError(JournalError):
    """The journal's folder cannot be made or written; `reason` is the system's word."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"cannot use {path} for the journal ({reason.lower()}): set [collector] journal")
