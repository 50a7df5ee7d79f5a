"""Read-only handles on the embedded engine, a fixed number of them, each with the same limits."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from storage.sql_endpoint.refusal import TOO_MANY_BYTES, TOO_MANY_QUERIES, EngineError, RefusedError
from storage.store import DATABASE

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

# Statements at once, and how long one more waits for its turn.
HANDLES_MAX = 4
WAIT_SECONDS_MAX = 10


@dataclass(frozen=True)
class Limits:
    """What one statement may take; ClickHouse's own names and units."""

    max_execution_time: int = 30
    max_memory_usage: int = 1_000_000_000
    max_result_rows: int = 1_000_000
    max_result_bytes: int = 256_000_000
    max_query_size: int = 262_144
    max_ast_depth: int = 500
    max_ast_elements: int = 20_000
    max_subquery_depth: int = 50


class _Answer(Protocol):
    def bytes(self) -> bytes: ...


class _Handle(Protocol):
    def query(self, query: str, format: str = ..., params: object = ...) -> _Answer: ...  # noqa: A002 - chdb's name
    def close(self) -> None: ...


class Reader:
    """Runs statements exactly as given, on handles that the engine itself holds read-only.

    The handle is chdb's own rather than clickhouse-connect's, which would fill parameters into some
    statements on the client's side: what runs has to be the very text that was checked.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        settings = asdict(limits) | {"readonly": 1, "session_timezone": "UTC", "result_overflow_mode": "throw"}
        self._address = f"{os.path.realpath(path)}?{urlencode(settings)}"
        self._bytes_max = limits.max_result_bytes
        self._turns = threading.BoundedSemaphore(HANDLES_MAX)
        self._idle: list[_Handle] = []
        self._guard = threading.Lock()

    def run(self, sql: str, output_format: str, parameters: Mapping[str, str]) -> bytes:
        """The answer's bytes; parameter values are text as in ClickHouse's HTTP protocol.

        Raises EngineError, or RefusedError when every handle stays taken.
        """
        with self._handle() as handle:
            try:
                content = bytes(handle.query(sql, output_format, params=dict(parameters)).bytes())
            except RuntimeError as error:  # chdb's own errors are all of this kind
                raise EngineError(str(error)) from error
        # The engine does not count the result of a statement that reads no table.
        if len(content) > self._bytes_max:
            raise RefusedError(TOO_MANY_BYTES, f"expected at most {self._bytes_max} bytes of result: ask for less")
        return content

    def text(self, sql: str, parameters: Mapping[str, str] | None = None) -> str:
        """The answer as text, columns separated by tabs, nothing escaped."""
        return self.run(sql, "TSVRaw", parameters or {}).decode(errors="replace")

    def close(self) -> None:
        """Close the handles; no statement may be running."""
        with self._guard:
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _handle(self) -> Generator[_Handle]:
        if not self._turns.acquire(timeout=WAIT_SECONDS_MAX):
            raise RefusedError(
                TOO_MANY_QUERIES, f"{HANDLES_MAX} statements run already: try again when one has finished"
            )
        try:
            with self._guard:
                handle = self._idle.pop() if self._idle else None
            handle = handle or self._open()
            try:
                yield handle
            finally:
                with self._guard:
                    self._idle.append(handle)
        finally:
            self._turns.release()

    def _open(self) -> _Handle:
        # Both chdb and chdb-core ship chdb/__init__.py, one with types and one without: which is there is chance.
        engine: Any = import_module("chdb")
        handle: _Handle = engine.connect(self._address)
        handle.query(f"USE {DATABASE}", "TSV", params={})
        return handle
