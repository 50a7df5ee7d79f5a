"""Hourly sums over calls, and over GPU readings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analytics.ledger.calls import seconds, sum_of_known
from analytics.ledger.pricing import MONEY

if TYPE_CHECKING:
    from datetime import datetime

    from storage import Store

DIMENSIONS = (
    "service",
    "service_version",
    "environment",
    "endpoint",
    "tenant",
    "provider",
    "model",
    "model_version",
    "variant",
    "tier",
)
TOKENS = (
    "input_tokens",
    "fresh_input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)
DOLLARS = (
    "cost_usd",
    "cost_fresh_input_usd",
    "cost_cache_read_usd",
    "cost_cache_write_usd",
    "cost_output_usd",
    "cost_gpu_busy_usd",
    "saved_usd",
)
_DEVICE = ["hour", "service", "replica", "gpu_id"]


def cost_hours(calls: pl.DataFrame) -> pl.DataFrame:
    """cost_hourly of calls. Tokens and seconds are those of billable calls; unknown ones add nothing."""
    paid = pl.col("billable")
    return (
        calls.group_by("hour", *DIMENSIONS)
        .agg(
            _count(pl.col("first_of_request")).alias("requests"),
            _count(paid).alias("calls"),
            _count((pl.col("error_type") != "") & ~pl.col("response_cache_hit")).alias("failed_calls"),
            _count(paid & pl.col("cost_usd").is_null()).alias("unpriced_calls"),
            _count(pl.col("response_cache_hit")).alias("response_cache_hits"),
            _count(pl.col("response_cache_hit") & pl.col("saved_usd").is_null()).alias("unpriced_cache_hits"),
            *(pl.col(name).filter(paid).sum().cast(pl.UInt64) for name in TOKENS),
            pl.col("input_tokens")
            .filter(paid & pl.col("cache_read_tokens").is_not_null())
            .sum()
            .cast(pl.UInt64)
            .alias("cache_reporting_input_tokens"),
            seconds(pl.col("duration_ns").filter(paid).sum()).alias("duration_seconds"),
            sum_of_known("gpu_seconds"),
            sum_of_known("gpu_energy_joules"),
            *(pl.col(name).cast(MONEY).sum() for name in DOLLARS),
        )
        .sort("hour", *DIMENSIONS)
    )


def _count(condition: pl.Expr) -> pl.Expr:
    return condition.sum().cast(pl.UInt64)


def gpu_hours(store: Store, spans: pl.DataFrame, since: datetime, until: datetime) -> pl.DataFrame:
    """gpu_hourly of [since, until), from GPU spans and hw.gpu.* metrics. Each span or point is one sample.

    Means are over metrics where a device has them: they see the whole hour, GPU spans only its busy part.
    """
    totals = pl.concat(
        [
            _span_totals(spans, since, until).with_columns(pl.lit(value=False).alias("is_metric")),
            _point_totals(store, since, until).with_columns(pl.lit(value=True).alias("is_metric")),
        ]
    )
    return (
        totals.group_by(_DEVICE)
        .agg(
            pl.col("gpu_model").filter(pl.col("gpu_model") != "").first().fill_null(""),
            pl.max_horizontal(pl.col("utilization_count").sum(), pl.col("memory_count").sum())
            .cast(pl.UInt64)
            .alias("samples"),
            _mean("utilization"),
            _mean("memory").alias("memory_bytes_mean"),
            sum_of_known("energy_joules"),
        )
        .sort(_DEVICE)
    )


def _mean(name: str) -> pl.Expr:
    def mean(rows: pl.Expr) -> pl.Expr:
        count = pl.col(f"{name}_count").filter(rows).sum()
        return pl.when(count > 0).then((pl.col(f"{name}_sum").filter(rows).sum() / count).round(6))

    return pl.coalesce(mean(pl.col("is_metric")), mean(~pl.col("is_metric"))).alias(f"{name}_mean")


def _span_totals(spans: pl.DataFrame, since: datetime, until: datetime) -> pl.DataFrame:
    started = pl.col("started_at")
    return (
        spans.filter(pl.col("is_gpu"), started >= since, started < until)
        .with_columns(started.dt.truncate("1h").dt.cast_time_unit("ms").alias("hour"))
        .group_by(_DEVICE)
        .agg(
            pl.col("gpu_model").filter(pl.col("gpu_model") != "").first().fill_null(""),
            pl.col("gpu_utilization").count().cast(pl.UInt64).alias("utilization_count"),
            pl.col("gpu_utilization").sum().alias("utilization_sum"),
            pl.col("gpu_memory_bytes").count().cast(pl.UInt64).alias("memory_count"),
            pl.col("gpu_memory_bytes").sum().alias("memory_sum"),
            pl.when(pl.col("sent_gpu_energy_joules").count() > 0)
            .then(pl.col("sent_gpu_energy_joules").sum())
            .alias("energy_joules"),
        )
    )


def _point_totals(store: Store, since: datetime, until: datetime) -> pl.DataFrame:
    points = store.frame("gpu_points", since=since, until=until)
    return points.with_columns(
        pl.col("utilization_sum", "memory_sum").cast(pl.Float64),
        pl.lit(None, dtype=pl.Float64).alias("energy_joules"),
    )
