"""The job: hours that received rows become calls, dollars and hourly facts.

An hour is a pure function of the stored spans, the prices and the settings, so that computing it again
changes nothing. Its rows are written under a new generation and come into view with one row in hour_runs.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from analytics.ledger import facts, gpu_sharing
from analytics.ledger.calls import HOUR_NS, calls_of, read_spans
from analytics.ledger.hours import HOUR, chunks, hours_to_compute, reach
from analytics.ledger.normaliser import model_spans_query
from analytics.ledger.prices import PriceBook
from analytics.ledger.pricing import with_costs

if TYPE_CHECKING:
    from collections.abc import Callable

    from analytics.ledger.hours import Chunk, Hour
    from analytics.settings import LedgerSettings
    from storage import Store

_log = logging.getLogger(__name__)

# Raise it when the code derives other rows from the same spans; every hour is then computed anew.
RULES_VERSION = 1
# Two jobs that begin in one millisecond write under one generation once in a million times.
_RANDOM_BITS = 20

DERIVED_TABLES = (
    "calls_by_generation",
    "cost_hourly_by_generation",
    "replica_hourly_by_generation",
    "gpu_hourly_by_generation",
)
CALL_COLUMNS = (
    "hour", "started_at", "trace_id", "span_id", *facts.DIMENSIONS, "operation", "replica", "response_id",
    "duration_ns", "error_type", "billable", "response_cache_hit", "first_of_request", "possible_duplicate",
    *facts.TOKENS, "usage_note", "gpu_seconds", "gpu_energy_joules", *facts.DOLLARS, "unpriced_reason",
    "price_version",
)  # fmt: skip


@dataclass(frozen=True)
class LedgerRun:
    """What one run did: hours computed, and the billable, unpriced and failed calls and cache hits in them.

    `first_hour` is the earliest of these hours, None when there was nothing to do.
    """

    first_hour: datetime | None
    hours: int
    calls: int
    unpriced_calls: int
    failed_calls: int
    response_cache_hits: int


@dataclass(frozen=True)
class DerivedHours:
    """The rows of some hours, as the tables have them but without a generation."""

    calls: pl.DataFrame
    costs: pl.DataFrame
    replicas: pl.DataFrame
    gpus: pl.DataFrame

    def of_hours(self, chunk: Chunk) -> DerivedHours:
        """The rows of the hours that the chunk is for."""
        wanted = pl.Series([hour.start for hour in chunk.hours], dtype=pl.Datetime("ms", "UTC"))
        tables = (self.calls, self.costs, self.replicas, self.gpus)
        return DerivedHours(*(table.filter(pl.col("hour").is_in(wanted.implode())) for table in tables))

    def by_table(self) -> dict[str, pl.DataFrame]:
        """Table name and rows, in the order of DERIVED_TABLES."""
        return dict(zip(DERIVED_TABLES, (self.calls, self.costs, self.replicas, self.gpus), strict=True))


def recompute(
    store: Store,
    settings: LedgerSettings,
    clock: Callable[[], datetime],
    progress: Callable[[int, int], None] | None = None,
    *,
    everything: bool = False,
) -> LedgerRun:
    """Compute every hour that received rows or got other rules since it was last computed, or every hour.

    `progress` is told hours done and hours to do. Raises StoreError; what was finished until then stays.
    """
    book = PriceBook()
    ruleset = ruleset_of(settings, book)
    hours = hours_to_compute(store, settings, ruleset, everything=everything)
    generation = _new_generation(store, clock())
    runs: list[LedgerRun] = []
    done = 0
    for chunk in chunks(store, hours, settings.spans_per_chunk_max):
        derived = derive(store, settings, book, chunk.since, chunk.until).of_hours(chunk)
        _write(store, derived, generation)
        _commit(store, _lasting_hours(chunk, derived), generation, ruleset, clock())
        runs.append(_summary(chunk, derived.costs))
        done += len(chunk.hours)
        if progress:
            progress(done, len(hours))
    if hours:
        _delete_stale(store, hours[0].start, hours[-1].start)
    run = _sum(runs)
    _log.info("ledger recomputed", extra={"hours": run.hours, "calls": run.calls, "unpriced": run.unpriced_calls})
    return run


def ruleset_of(settings: LedgerSettings, book: PriceBook) -> str:
    """Fingerprint of all that an hour's rows follow from besides what was received."""
    rates = ",".join(rate.model_dump_json() for rate in settings.instances)
    rules = (str(RULES_VERSION), model_spans_query(), book.version, rates)
    return hashlib.sha256("\n".join(rules).encode()).hexdigest()[:16]


def _new_generation(store: Store, now: datetime) -> int:
    """A number above every generation so far, that no other job will take: milliseconds and random bits."""
    last: int = store.rows("last_generation")[0]["generation"]
    milliseconds = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return (max(milliseconds, last >> _RANDOM_BITS) + 1 << _RANDOM_BITS) + secrets.randbits(_RANDOM_BITS)


def derive(store: Store, settings: LedgerSettings, book: PriceBook, since: datetime, until: datetime) -> DerivedHours:
    """The rows of every hour in [since, until), written nowhere."""
    margin = reach(settings) * HOUR
    spans = read_spans(store, since - margin, until + margin)
    calls = with_costs(calls_of(spans), book)
    presence = _presence(store, spans, since - margin, until + margin)
    paid = gpu_sharing.replica_rates(presence, settings.instances)
    shares = gpu_sharing.hour_shares(calls, paid)
    calls = gpu_sharing.with_gpu_costs(calls, shares, paid)
    calls = calls.filter(pl.col("hour") >= since, pl.col("hour") < until)
    return DerivedHours(
        calls.select(CALL_COLUMNS),
        facts.cost_hours(calls),
        gpu_sharing.replica_hours(presence, shares, paid, since, until),
        facts.gpu_hours(store, spans, since, until),
    )


def _presence(store: Store, spans: pl.DataFrame, since: datetime, until: datetime) -> pl.DataFrame:
    """Signs of life of every replica: spans and metric points, by the hour in which they began."""
    start = pl.col("start_ns")
    of_spans = spans.group_by("service", "replica", (start - start % HOUR_NS).alias("hour_ns")).agg(
        start.min().alias("first_ns"), (start + pl.col("duration_ns").cast(pl.Int64)).max().alias("last_ns")
    )
    of_points = store.frame("replica_points", since=since, until=until)
    return pl.concat([of_spans, of_points.select(of_spans.columns)])


def _write(store: Store, derived: DerivedHours, generation: int) -> None:
    for table, rows in derived.by_table().items():
        store.insert(table, rows.with_columns(pl.lit(generation, dtype=pl.UInt64).alias("generation")))


def _lasting_hours(chunk: Chunk, derived: DerivedHours) -> list[Hour]:
    """Hours that rows came for, that have rows or may have had some: a neighbour without any leaves no trace."""
    with_rows = set(derived.replicas["hour"].dt.cast_time_unit("us"))
    return [hour for hour in chunk.hours if hour.batches or hour.has_run or hour.start in with_rows]


def _commit(store: Store, hours: list[Hour], generation: int, ruleset: str, at: datetime) -> None:
    runs = pl.DataFrame(
        {
            "hour": [hour.start for hour in hours],
            "generation": [generation] * len(hours),
            "batches_seen": [hour.batches for hour in hours],
            "ruleset": [ruleset] * len(hours),
            "finished_at": [at] * len(hours),
        },
        schema={
            "hour": pl.Datetime("ms", "UTC"),
            "generation": pl.UInt64,
            "batches_seen": pl.UInt64,
            "ruleset": pl.String,
            "finished_at": pl.Datetime("ms", "UTC"),
        },
    )
    store.insert("hour_runs", runs)


def _delete_stale(store: Store, first: datetime, last: datetime) -> None:
    """Delete what no longer shows: rows of these hours from before their committed run.

    Later ones may be those of another job that is about to commit.
    """
    parameters = {"first": first, "last": last}
    for row in store.rows("stale_tables", **parameters):
        store.execute(_DELETIONS[row["table"]], parameters)


def _deletion(table: str) -> str:
    return f"""
        DELETE FROM {table}
        WHERE hour >= {{first:DateTime64(0)}} AND hour <= {{last:DateTime64(0)}} AND (hour, generation) IN (
          SELECT stale.hour, stale.generation FROM {table} AS stale
          INNER JOIN (SELECT hour, max(generation) AS committed FROM hour_runs GROUP BY hour) AS runs
          ON stale.hour = runs.hour WHERE stale.generation < committed
        )
    """  # noqa: S608 - our own tables


_DELETIONS = {table: _deletion(table) for table in DERIVED_TABLES}


def _summary(chunk: Chunk, costs: pl.DataFrame) -> LedgerRun:
    counts = costs.select("calls", "unpriced_calls", "failed_calls", "response_cache_hits").sum().row(0, named=True)
    return LedgerRun(first_hour=chunk.since, hours=len(chunk.hours), **counts)


def _sum(runs: list[LedgerRun]) -> LedgerRun:
    return LedgerRun(
        first_hour=min((run.first_hour for run in runs if run.first_hour), default=None),
        hours=sum(run.hours for run in runs),
        calls=sum(run.calls for run in runs),
        unpriced_calls=sum(run.unpriced_calls for run in runs),
        failed_calls=sum(run.failed_calls for run in runs),
        response_cache_hits=sum(run.response_cache_hits for run in runs),
    )
