"""Hourly facts as the rules need them: a row per series and hour without gaps, and the same by model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

if TYPE_CHECKING:
    from datetime import datetime

    from storage import Store

SERIES = ["service", "environment", "endpoint"]
MODEL = ["provider", "model", "tier"]
COUNTS = [
    "requests",
    "calls",
    "unpriced_calls",
    "response_cache_hits",
    "answers",
    "input_tokens",
    "cache_reporting_input_tokens",
    "fresh_input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
]
DOLLARS = [
    "cost_usd",
    "cost_fresh_input_usd",
    "cost_cache_read_usd",
    "cost_cache_write_usd",
    "cost_output_usd",
    "cost_gpu_busy_usd",
]
MONEY = pl.Decimal(38, 12)
HOUR = pl.Datetime("us", "UTC")
HOURS_A_WEEK = 168


class Series(NamedTuple):
    """What a rule looks at: an endpoint of a service in an environment."""

    service: str
    environment: str
    endpoint: str


def read_facts(store: Store, since: datetime, until: datetime) -> pl.DataFrame:
    """A row per hour, series and model, for hours from `since` to before `until`; sorted."""
    return typed(store.frame("findings_facts", since=since, until=until))


def typed(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows with the types that this folder counts on: exact counts, exact dollars, UTC hours."""
    return rows.with_columns(
        pl.col("hour").cast(HOUR),
        *[pl.col(name).cast(pl.Int64) for name in COUNTS],
        *[pl.col(name).cast(MONEY) for name in DOLLARS],
    ).sort(*SERIES, "hour", *MODEL)


def dense_hours(rows: pl.DataFrame, until: datetime) -> pl.DataFrame:
    """Sums per series for every hour from the series' first to before `until`, as floats, sorted.

    An hour without rows is a row of zeros, so that a shift by n rows is a shift by n hours.
    """
    if rows.is_empty():
        return rows.select(*SERIES, "hour", *[pl.col(name).cast(pl.Float64) for name in [*COUNTS, *DOLLARS]])
    sums = rows.group_by(*SERIES, "hour").agg(pl.col(*COUNTS, *DOLLARS).sum())
    last = pl.lit(until).cast(HOUR).dt.offset_by("-1h")
    grid = (
        rows.group_by(*SERIES)
        .agg(pl.col("hour").min().alias("first"))
        .select(*SERIES, pl.datetime_ranges("first", last, "1h", time_unit="us", time_zone="UTC").alias("hour"))
        .explode("hour")
    )
    return (
        grid.join(sums, on=[*SERIES, "hour"], how="left")
        .with_columns(pl.col(*COUNTS, *DOLLARS).cast(pl.Float64).fill_null(0.0))
        .sort(*SERIES, "hour")
    )
