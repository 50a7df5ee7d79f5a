"""Which hours have to be computed anew, and in which portions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from analytics.settings import LedgerSettings
    from storage import Store

HOUR = timedelta(hours=1)
# The farthest that a row can change an hour, under any settings.
REACH_MAX = 3
# Reading this many spans for nothing costs less than reading in one more portion.
SKIPPED_SPANS_MAX = 2_000


@dataclass(frozen=True)
class Hour:
    """An hour, how many batches of rows had touched it when it was looked up, and whether a run committed it."""

    start: datetime
    batches: int
    has_run: bool


@dataclass(frozen=True)
class Chunk:
    """Hours that are computed together, in order; hours that need no computing may lie between them."""

    hours: tuple[Hour, ...]

    @property
    def since(self) -> datetime:
        """Start of the first hour."""
        return self.hours[0].start

    @property
    def until(self) -> datetime:
        """End of the last hour."""
        return self.hours[-1].start + HOUR


def reach(settings: LedgerSettings) -> int:
    """How many hours away a row can still change an hour.

    A parent stands at most in the next hour. A twin and the call before of the same request are less than an hour
    away, and have parents in turn. Where replicas are paid by the hour, a call also shares with others that run
    into its hours, whose own relatives stand one hour further.
    """
    return REACH_MAX if settings.instances else REACH_MAX - 1


def hours_to_compute(store: Store, settings: LedgerSettings, ruleset: str, *, everything: bool) -> list[Hour]:
    """Hours that received rows since their last run or ran under another ruleset, and those within reach, in order.

    A neighbour that no row came for counts too: a call may run into it. Hours that retention took spans or metric
    points of, or of their neighbours, are never among them: they would come out with less than they cost.
    """
    known = store.frame("hours").with_columns(pl.col("hour").dt.cast_time_unit("us"))
    looked_up = {
        hour.start: hour for hour in itertools.starmap(Hour, known.select("hour", "batches", "has_run").iter_rows())
    }
    other_rules = pl.col("has_run") & (pl.col("ruleset") != ruleset)
    if not everything:
        known = known.filter((pl.col("batches") != pl.col("batches_seen")) | other_rules)
    dirty: list[datetime] = known["hour"].to_list()
    offsets = range(-reach(settings), reach(settings) + 1)
    reached = {start + offset * HOUR for start in dirty for offset in offsets}
    frozen_until = _frozen_until(store)
    return [
        looked_up.get(start, Hour(start, 0, has_run=False))
        for start in sorted(reached)
        if frozen_until is None or start >= frozen_until
    ]


def _frozen_until(store: Store) -> datetime | None:
    """The first hour that retention has left all rows of; None when it has dropped nothing."""
    dropped_until: datetime | None = store.rows("dropped_until")[0]["until"]
    return dropped_until + REACH_MAX * HOUR if dropped_until else None


def chunks(store: Store, hours: list[Hour], spans_max: int) -> list[Chunk]:
    """Portions of at most `spans_max` spans, unless one hour alone has more.

    Hours that need no computing may lie inside a portion when they hold next to nothing.
    """
    if not hours:
        return []
    counted = store.frame("spans_per_hour", since=hours[0].start, until=hours[-1].start + HOUR)
    counted = counted.with_columns(pl.col("hour").dt.cast_time_unit("us"))
    spans: dict[datetime, int] = dict(counted.select("hour", "spans").iter_rows())
    wanted = {hour.start: hour for hour in hours}
    portions: list[list[Hour]] = [[]]
    size = skipped = 0
    for start in sorted({*spans, *wanted}):
        size += spans.get(start, 0)
        if start not in wanted:
            skipped += spans[start]
            continue
        if portions[-1] and (size > spans_max or skipped > SKIPPED_SPANS_MAX):
            portions.append([])
            size = spans.get(start, 0)
        portions[-1].append(wanted[start])
        skipped = 0
    return [Chunk(tuple(portion)) for portion in portions]
