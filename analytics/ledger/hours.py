"""Which hours have to be computed anew, and in which portions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from analytics.settings import LedgerSettings
    from storage import Store

HOUR = timedelta(hours=1)
# Reading this many spans for nothing costs less than reading in one more portion.
SKIPPED_SPANS_MAX = 2_000


@dataclass(frozen=True)
class Hour:
    """An hour and how many batches of rows had touched it when it was looked up."""

    start: datetime
    batches: int


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

    A parent, a twin or the first call of a request may stand in the next hour. Where replicas are paid by the
    hour, a call also shares with others that run into its hours, whose own relatives stand one hour further.
    """
    return 2 if settings.instances else 1


def hours_to_compute(store: Store, settings: LedgerSettings, *, everything: bool) -> list[Hour]:
    """Hours that received rows since their last run, and those within reach of them, in order.

    A neighbour that no row came for counts too: a call may run into it.
    """
    known = store.frame("hours").with_columns(pl.col("hour").dt.cast_time_unit("us"))
    batches: dict[datetime, int] = dict(known.select("hour", "batches").iter_rows())
    if everything:
        dirty = [start for start, seen in batches.items() if seen]
    else:
        dirty = known.filter(pl.col("batches") != pl.col("batches_seen"))["hour"].to_list()
    offsets = range(-reach(settings), reach(settings) + 1)
    reached = {start + offset * HOUR for start in dirty for offset in offsets}
    return [Hour(start, batches.get(start, 0)) for start in sorted(reached)]


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
