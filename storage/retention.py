"""Dropping what is older than it is to be kept, by whole monthly partitions.

A partition is dropped when its month ended longer ago than the setting says, so that every row in it is older. The
calls and dollars derived from it stay: recomputation leaves alone the hours that dropped_partitions covers.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from storage.settings import RetentionSettings
    from storage.store import Store

_log = logging.getLogger(__name__)

# What was accepted just inside the window may wait in the journal while the store is away.
JOURNAL_MARGIN = timedelta(days=2)
# The first hours after a dropped month are computed from rows of it: more than the reach of any row.
FROZEN_MARGIN = timedelta(days=1)


@dataclass(frozen=True)
class DroppedPartition:
    """A month (UTC), such as 202607, of one table that was dropped; `until` is its end."""

    table_name: str
    month: str
    until: datetime
    rows: int


def drop_expired(store: Store, settings: RetentionSettings, now: datetime) -> list[DroppedPartition]:
    """Drop the months whose every row is older than the settings allow; returns what was dropped.

    Raises StoreError; what was dropped until then is recorded, and the next run goes on.
    """
    days_kept = {
        "spans": settings.spans_days,
        "metric_points": settings.metric_points_days,
        "log_records": settings.logs_days,
    }
    expired = [
        partition
        for table, days in days_kept.items()
        if days
        for partition in _partitions(store, table)
        if partition.until <= now - timedelta(days=days) - JOURNAL_MARGIN
    ]
    if expired:
        # Written down first: a run that breaks off in between must not leave hours that would be computed from less.
        _record(store, expired, now)
    for partition in expired:
        _drop(store, partition)
    return expired


def accepted_past_days(store: Store, now: datetime, days: int) -> int:
    """At most `days`, and never back to hours that are not computed any more: their rows would never be priced."""
    dropped_until: datetime | None = store.rows("dropped_until")[0]["until"]
    if dropped_until is None:
        return days
    return max(0, min(days, (now - dropped_until - FROZEN_MARGIN).days))


def month_end(month: str) -> datetime:
    """The end of a month named as partitions are, such as 202607."""
    year, number = int(month[:4]), int(month[4:])
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def _partitions(store: Store, table: str) -> list[DroppedPartition]:
    """The months of one table. Asked of the table itself, since parts on a cluster are spread over its machines."""
    rows = store.frame_of(
        f"SELECT _partition_id AS month, count() AS rows FROM {table} GROUP BY month ORDER BY month"  # noqa: S608 - our own tables
    )
    return [DroppedPartition(table, row["month"], month_end(row["month"]), row["rows"]) for row in rows.to_dicts()]


def _record(store: Store, expired: list[DroppedPartition], now: datetime) -> None:
    times = {"until": pl.Datetime("ms", "UTC"), "dropped_at": pl.Datetime("ms", "UTC")}
    rows = [{**asdict(partition), "dropped_at": now} for partition in expired]
    store.insert("dropped_partitions", pl.DataFrame(rows, schema_overrides={"rows": pl.UInt64, **times}))


def _drop(store: Store, partition: DroppedPartition) -> None:
    # The engine's limit on the size of what is dropped guards against slips of the hand; this is none.
    store.execute(
        f"ALTER TABLE {partition.table_name} DROP PARTITION ID '{partition.month}' "
        "SETTINGS max_partition_size_to_drop = 0"
    )
    _log.info("retention dropped a month", extra=asdict(partition))
