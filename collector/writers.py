"""From bodies to the payload of a journal group, and from a segment's payloads to rows of the store.

`payloads()` is the one table that says which signals are kept and how; a signal that is not in it is not kept.
"""

from __future__ import annotations

import io
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from collector import log_records, metric_points
from collector.decoded_rows import frame
from collector.protocol import LOGS, METRICS, TRACES, Signal
from collector.span_rows import canonical_rows
from storage import QueryError, otlp

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from collector.counts import Counts
    from collector.decoded_rows import DecodedBody, Schema
    from collector.framing import SpanBody
    from storage import Store

logger = logging.getLogger(__name__)

Payload = bytes | memoryview


@dataclass(frozen=True, slots=True)
class RowPayload:
    """A payload of one row."""

    payload: bytes
    items: int


class PayloadKind(Protocol):
    """How one signal is written into a journal, and from there into the store."""

    def encode(self, bodies: Sequence[Any]) -> bytes:
        """The rows of the bodies as one payload."""
        ...

    def insert(self, store: Store, payloads: Sequence[Payload], token: str) -> None:
        """Store the rows of the payloads at once, or none of them. Raises StoreError."""
        ...

    def rows(self, payloads: Iterable[Payload]) -> list[RowPayload]:
        """Every row by itself, in the plainest form there is."""
        ...


class SpanPayload:
    """Framed ResourceSpans, which the engine decodes."""

    def encode(self, bodies: Sequence[SpanBody]) -> bytes:
        """The rows as the engine reads them."""
        return b"".join(row.framed() for body in bodies for row in body.rows)

    def insert(self, store: Store, payloads: Sequence[Payload], token: str) -> None:
        """One block."""
        otlp.insert_spans(store, b"".join(payloads), token)

    def rows(self, payloads: Iterable[Payload]) -> list[RowPayload]:
        """Rows in canonical form, which the engine nearly always takes."""
        return [RowPayload(row, spans) for payload in payloads for row, spans in canonical_rows(bytes(payload))]


class FramePayload:
    """Rows that were decoded when they came in, as an Arrow IPC stream."""

    def __init__(self, table: str, schema: Schema) -> None:
        self._table = table
        self._schema = schema

    def encode(self, bodies: Sequence[DecodedBody]) -> bytes:
        """The bodies' rows as one stream."""
        return _stream(frame(bodies, self._schema))

    def insert(self, store: Store, payloads: Sequence[Payload], token: str) -> None:
        """One frame."""
        store.insert(self._table, pl.concat([pl.read_ipc_stream(io.BytesIO(each)) for each in payloads]), token=token)

    def rows(self, payloads: Iterable[Payload]) -> list[RowPayload]:
        """The rows, each as a stream of its own."""
        frames = (pl.read_ipc_stream(io.BytesIO(each)) for each in payloads)
        return [RowPayload(_stream(row), 1) for frame in frames for row in frame.iter_slices(1)]


def payloads() -> Mapping[Signal, PayloadKind]:
    """The signals that are kept, and how."""
    return {
        TRACES: SpanPayload(),
        METRICS: FramePayload("metric_points", metric_points.SCHEMA),
        LOGS: FramePayload("log_records", log_records.SCHEMA),
    }


# ClickHouse codes that speak of the bytes and not of the server: cannot parse, read after end, wrong size,
# bad arguments (a oneof set twice), too large string, cannot parse a boolean, bad protobuf.
DATA_CODES = frozenset({6, 27, 32, 33, 36, 131, 436, 444})


class SegmentWriter:
    """Writes a segment's payloads into the store, exactly once however often it is asked to."""

    def __init__(self, signal: Signal, kind: PayloadKind, store: Store, counts: Counts) -> None:
        self._signal = signal
        self._kind = kind
        self._store = store
        self._counts = counts

    def write(self, payloads: Sequence[Payload], token: str) -> list[RowPayload]:
        """Store the payloads' rows; returns those that the engine refuses for their data.

        Raises StoreError for any other fault; then calling it again with the same payloads and token stores what
        is missing. The engine does not say which row of a block it could not read: the block is tried again in
        canonical form, and then in halves. Every part has a token of its own that follows from `token` and its
        place, because a token names exact bytes.
        """
        try:
            self._insert(payloads, token)
        except QueryError as error:
            if error.code not in DATA_CODES:
                raise
            rows = self._kind.rows(payloads)
            logger.warning("engine refused a segment, trying it in canonical form", extra={"rows": len(rows)})
            return self._write_halving(rows, 0, token)
        return []

    def _write_halving(self, rows: list[RowPayload], first: int, token: str) -> list[RowPayload]:
        try:
            self._insert([row.payload for row in rows], f"{token}/{first}-{first + len(rows)}")
        except QueryError as error:
            if error.code not in DATA_CODES:
                raise
            if len(rows) == 1:
                return rows
            half = len(rows) // 2
            return self._write_halving(rows[:half], first, token) + self._write_halving(
                rows[half:], first + half, token
            )
        return []

    def _insert(self, payloads: Sequence[Payload], token: str) -> None:
        with _timed(self._counts, self._signal.name):
            self._kind.insert(self._store, payloads, token)


def _stream(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_ipc_stream(stream)
    return stream.getvalue()


@contextmanager
def _timed(counts: Counts, signal: str) -> Generator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        counts.add("pennytrace_insert_seconds_total", time.perf_counter() - started, signal=signal)
        counts.add("pennytrace_inserts_total", signal=signal)
