"""The store: named queries in, polars frames out, over clickhouse-connect and either engine.

Each statement has a client to itself, so that a long read never waits behind an insert.
"""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

import clickhouse_connect
import polars as pl
import urllib3.exceptions
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from storage import migrations
from storage.cluster import CLIENT_SETTINGS, clustered
from storage.errors import (
    RETRYABLE_CODES,
    IncompatibleServerError,
    QueryError,
    StoreUnavailableError,
)
from storage.location import DirectoryLock, EmbeddedLocation, Location, ServerLocation

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from clickhouse_connect.driver.client import Client

DATABASE = "pennytrace"
# format_schema_source came with 25.6, the presence of a oneof with 25.9; 25.9 to 25.12 answer a doubly set
# oneof with a LOGICAL_ERROR, so 26.1 is the first version that behaves.
OLDEST_SERVER = (26, 1)
CONNECT_TIMEOUT_S = 5
# The longest statement is a recomputation of some hundred hours.
QUERY_TIMEOUT_S = 300
# Two committers, the job, and what panels and the API read at once.
CLIENTS_MAX = 16

READ_SETTINGS = {"output_format_arrow_string_as_string": 1, "session_timezone": "UTC"}


@cache
def named_query(name: str) -> str:
    """The text of storage/queries/<name>.sql."""
    return files("storage").joinpath("queries", f"{name}.sql").read_text()


class Store:
    """One ClickHouse database; thread-safe.

    Open it with `Store.open`, which also brings the schema up to date, and close it after every thread that
    uses it has ended.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._lock = DirectoryLock(location.path) if isinstance(location, EmbeddedLocation) else None
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        self._clients: list[Client] = []
        self._clients_guard = threading.Lock()

    @classmethod
    def open(cls, location: Location) -> Self:
        """Connect and apply the migrations that are missing.

        Raises LocationBusyError, StoreUnavailableError or IncompatibleServerError.
        """
        store = cls(location)
        try:
            store._create_database()
            store._require_version()
            migrations.migrate(store)
        except BaseException:
            store.close()
            raise
        return store

    def announce(self, url: str) -> None:
        """Tell whoever finds the data directory busy where this process serves its API."""
        if self._lock:
            self._lock.announce(url)

    def close(self) -> None:
        """Close every client. No other thread may be using the store: the engine would crash at exit."""
        with self._clients_guard:
            while self._clients:
                self._clients.pop().close()
        if self._lock:
            self._lock.release()

    def frame(self, query: str, /, **parameters: object) -> pl.DataFrame:
        """Rows of the named query. Times come as UTC datetimes, Decimals as pl.Decimal."""
        return self.frame_of(named_query(query), parameters)

    def frame_of(
        self, sql: str, parameters: Mapping[str, object] | None = None, settings: Mapping[str, object] | None = None
    ) -> pl.DataFrame:
        """Rows of a SELECT with {name:Type} parameters. A DateTime column must be cast to DateTime64."""
        with self._client() as client:
            table = client.query_arrow(
                sql, parameters=_bound(parameters), settings={**READ_SETTINGS, **(settings or {})}
            )
        frame = pl.from_arrow(table)
        if not isinstance(frame, pl.DataFrame):
            raise TypeError(f"expected a table from the engine, got {type(frame).__name__}")
        return frame

    def rows(self, query: str, /, **parameters: object) -> list[dict[str, Any]]:
        """Rows of the named query as dictionaries."""
        return self.frame(query, **parameters).to_dicts()

    def execute(self, statement: str, parameters: Mapping[str, object] | None = None) -> None:
        """Run one statement that returns nothing, on every node where the location is a cluster."""
        with self._client() as client:
            for each in self._statements(statement):
                client.command(each, parameters=_bound(parameters))

    def _statements(self, statement: str) -> list[str]:
        if isinstance(self.location, ServerLocation) and self.location.cluster:
            return clustered(statement, self.location.cluster)
        return [statement]

    def insert(self, table: str, frame: pl.DataFrame, token: str | None = None) -> None:
        """Insert a frame, columns matched by name. A token makes a second insert of the same frame do nothing."""
        if frame.is_empty():
            return
        settings = {"insert_deduplication_token": token} if token else {}
        with self._client() as client:
            client.insert_arrow(table, frame.to_arrow(), settings=settings)

    def insert_block(self, table: str, block: bytes, input_format: str, settings: Mapping[str, object]) -> None:
        """Insert bytes that the engine decodes, as one atomic block."""
        with self._client() as client:
            client.raw_insert(table, insert_block=block, fmt=input_format, settings=dict(settings))

    def ping(self) -> str:
        """Ask the engine for its version, such as 26.9.2.1; raises StoreUnavailableError when it is away."""
        with self._client() as client:
            return str(client.command("SELECT version()"))

    @contextmanager
    def _client(self) -> Generator[Client, None, None]:
        """A client that nobody else uses meanwhile; waits for one when all are in use."""
        with _translated_errors(self.location):
            client = self._take()
            try:
                yield client
            finally:
                self._idle.put(client)

    def _take(self) -> Client:
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        with self._clients_guard:
            if len(self._clients) < CLIENTS_MAX:
                self._clients.append(self._connect(DATABASE))
                return self._clients[-1]
        return self._idle.get()

    def _connect(self, database: str | None) -> Client:
        if isinstance(self.location, EmbeddedLocation):
            return clickhouse_connect.get_client(interface="chdb", path=str(self.location.path), database=database)
        return clickhouse_connect.get_client(
            dsn=self.location.url,
            database=database,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=QUERY_TIMEOUT_S,
            autogenerate_session_id=False,
            settings=CLIENT_SETTINGS if self.location.cluster else None,
        )

    def _create_database(self) -> None:
        with _translated_errors(self.location):
            client = self._connect(None)
            for statement in self._statements(f"CREATE DATABASE IF NOT EXISTS {DATABASE}"):
                client.command(statement)
            client.close()

    def _require_version(self) -> None:
        found = self.ping()
        if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_SERVER:
            wanted = ".".join(map(str, OLDEST_SERVER))
            raise IncompatibleServerError(
                f"expected ClickHouse {wanted} or newer, got {found}: upgrade the server, "
                "or leave --clickhouse out to use the embedded engine"
            )


def _bound(parameters: Mapping[str, object] | None) -> dict[str, object]:
    """Parameters with times as UTC text: the driver would write them in the host's own zone."""
    return {
        name: value.astimezone(UTC).replace(tzinfo=None).isoformat(" ") if isinstance(value, datetime) else value
        for name, value in (parameters or {}).items()
    }


@contextmanager
def _translated_errors(location: Location) -> Generator[None, None, None]:
    """Turn the driver's exceptions into ours; retryable or not is decided from the numeric code."""
    try:
        yield
    except (OperationalError, urllib3.exceptions.HTTPError, OSError) as error:
        raise StoreUnavailableError(
            f"{_describe(location)} did not answer ({_root_cause(error)}): is it running, and is the address right?"
        ) from error
    except ClickHouseError as error:
        code = getattr(error, "code", None) or 0
        if code in RETRYABLE_CODES:
            raise StoreUnavailableError(_first_line(error)) from error
        raise QueryError(_first_line(error), code) from error


def _describe(location: Location) -> str:
    if isinstance(location, EmbeddedLocation):
        return f"the embedded engine in {location.path}"
    parts = urlsplit(location.url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return f"ClickHouse at {urlunsplit(bare)}"


def _root_cause(error: BaseException) -> str:
    """What the system said: the driver wraps it several times, addresses and query ids included."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    system = next((one for one in reversed(seen) if isinstance(one, OSError) and one.strerror), None)
    return system.strerror.lower() if system and system.strerror else _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
