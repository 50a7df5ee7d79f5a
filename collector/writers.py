"""Writing a group of bodies into the store, and finding out whose fault it is when that fails."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from collector import metric_points
from collector.errors import CollectorError, InvalidBodyError, UnavailableError
from storage import QueryError, StoreError, otlp

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from collector.counts import Counts
    from collector.framing import SpanBody
    from collector.metric_points import PointBody
    from storage import Store

logger = logging.getLogger(__name__)

# ClickHouse codes that speak of the bytes and not of the server: cannot parse, read after end, wrong size,
# bad arguments (a oneof set twice), too large string, cannot parse a boolean, bad protobuf.
DATA_CODES = frozenset({6, 27, 32, 33, 36, 131, 436, 444})

Errors = list[CollectorError | None]


class SpanWriter:
    """Writes groups of span bodies, each group as one atomic block."""

    def __init__(self, store: Store, counts: Counts, new_token: Callable[[], str]) -> None:
        self._store = store
        self._counts = counts
        self._new_token = new_token

    def write(self, bodies: Sequence[SpanBody]) -> Errors:
        """Store the bodies; returns None or an error for each.

        A body that the official parser took and the engine does not fails its whole block. The engine does not
        say which body it was, so the block is tried again in canonical form, which the engine nearly always
        takes, and then in halves.
        """
        try:
            self._insert(bodies)
        except StoreError as error:
            if not _is_about_data(error):
                return _unavailable(error, len(bodies))
            logger.warning("engine refused a block, trying it in canonical form", extra={"bodies": len(bodies)})
            return self._write_halving([body.canonical() for body in bodies])
        return [None] * len(bodies)

    def _write_halving(self, bodies: Sequence[SpanBody]) -> Errors:
        try:
            self._insert(bodies)
        except StoreError as error:
            if not _is_about_data(error):
                return _unavailable(error, len(bodies))
            if len(bodies) == 1:
                return [InvalidBodyError(f"expected spans that the store can read, got what it refuses ({error})")]
            half = len(bodies) // 2
            return self._write_halving(bodies[:half]) + self._write_halving(bodies[half:])
        return [None] * len(bodies)

    def _insert(self, bodies: Sequence[SpanBody]) -> None:
        block = b"".join(row.framed() for body in bodies for row in body.rows)
        with _timed(self._counts, "traces"):
            otlp.insert_spans(self._store, block, self._new_token())


class PointWriter:
    """Writes groups of metric bodies, each group as one insert."""

    def __init__(self, store: Store, counts: Counts, new_token: Callable[[], str]) -> None:
        self._store = store
        self._counts = counts
        self._new_token = new_token

    def write(self, bodies: Sequence[PointBody]) -> Errors:
        """Store the bodies; returns None or an error for each."""
        try:
            with _timed(self._counts, "metrics"):
                self._store.insert("metric_points", metric_points.frame(bodies), token=self._new_token())
        except StoreError as error:
            return _unavailable(error, len(bodies))
        return [None] * len(bodies)


def _is_about_data(error: StoreError) -> bool:
    return isinstance(error, QueryError) and error.code in DATA_CODES


def _unavailable(error: StoreError, bodies: int) -> Errors:
    """A retryable answer for everyone: the fault is not in their data."""
    logger.warning("store did not take a block, senders will try again", extra={"bodies": bodies, "error": str(error)})
    return [UnavailableError(f"the store is not available ({error}): try again")] * bodies


@contextmanager
def _timed(counts: Counts, signal: str) -> Generator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        counts.add("pennytrace_insert_seconds_total", time.perf_counter() - started, signal=signal)
        counts.add("pennytrace_inserts_total", signal=signal)
