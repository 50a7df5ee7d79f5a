"""Where the data is: a directory for the embedded engine, or the URL of a ClickHouse server."""

from __future__ import annotations

import fcntl
import json
import os
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from storage.errors import LocationBusyError, LocationUnusableError

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME = "pennytrace.lock"


@dataclass(frozen=True)
class EmbeddedLocation:
    """A directory that the embedded engine keeps its files in; one process at a time."""

    path: Path


@dataclass(frozen=True)
class ServerLocation:
    """A ClickHouse server, as http(s)://user:password@host:port; the database is created if missing.

    `cluster` names a cluster of the server's configuration on which the tables are replicated and distributed;
    empty: this one server.
    """

    url: str
    cluster: str = ""

    def __post_init__(self) -> None:
        if self.cluster and not re.fullmatch(r"[\w.-]+", self.cluster):
            raise ValueError(f"expected a cluster's name of letters, digits, '_', '.' and '-', got {self.cluster!r}")


Location = EmbeddedLocation | ServerLocation


class DirectoryLock:
    """An exclusive lock on a data directory that also tells others who holds it.

    Raises LocationUnusableError, or LocationBusyError when another process has it. The engine has a lock of its
    own, but its refusal says neither that the directory is busy nor by whom.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = (path / LOCK_NAME).open("a+")
        except OSError as error:
            raise LocationUnusableError(path, error.strerror or str(error)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            pid, url = holder(path)
            raise LocationBusyError(path, pid, url) from None
        self.announce("")

    def announce(self, url: str) -> None:
        """Write down where this process can be reached."""
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "url": url}, self._file)
        self._file.flush()

    def release(self) -> None:
        """Let others have the directory."""
        self._file.seek(0)
        self._file.truncate()
        self._file.close()


def is_store(path: Path) -> bool:
    """Whether a store was ever opened in this directory."""
    return (path / LOCK_NAME).is_file()


def holder(path: Path) -> tuple[int, str]:
    """Process id and API URL that the holder of `path` wrote down; (0, '') when there is nothing."""
    try:
        said = json.loads((path / LOCK_NAME).read_text())
        return int(said["pid"]), str(said["url"])
    except (OSError, ValueError, KeyError):
        return 0, ""
