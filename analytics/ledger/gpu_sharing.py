"""What a call costs on a replica that is paid by the hour.

At each instant rate/3600 is shared equally among the calls that run on the replica. With
G(t) = integral of rate / concurrency, a call costs G(end) - G(start); for constant concurrency that is
instance_cost_per_hour / 3600 * latency / concurrency.

Sharing is done hour by hour, in picodollars, each share rounded down: what is left of the hour's bill is idle,
so allocated + idle = bill exactly in every hour. A call that runs into the next hour has a share in both, and
its cost, booked in the hour in which it started, is their sum. Beyond the end of the next hour it has no share.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import polars as pl

from analytics.ledger.calls import HOUR_NS, seconds
from analytics.ledger.pricing import MONEY, money
from analytics.settings import ANY_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from analytics.settings import InstanceRate

_PICO_PER_DOLLAR = 10**12
# G is kept in millionths of a picodollar, so that rounding down at each event stays below one picodollar.
_MICROPICO = 10**6

_REPLICA = ["service", "replica"]
_REPLICA_HOUR = [*_REPLICA, "hour_ns"]


def replica_rates(replicas: pl.DataFrame, rates: Sequence[InstanceRate]) -> pl.DataFrame:
    """Paid replicas among `replicas` (service, replica): rate_pico per hour, rate_usd, instance_type, model_glob."""
    rows = [
        (service, replica, int(rate.instance_cost_per_hour_usd * _PICO_PER_DOLLAR), rate.instance_type, rate.model)
        for service, replica in replicas.select(_REPLICA).unique().sort(_REPLICA).iter_rows()
        if (rate := _matching(rates, service, replica))
    ]
    schema = dict.fromkeys(_REPLICA, pl.String) | {
        "rate_pico": pl.Int128,
        "instance_type": pl.String,
        "model_glob": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _matching(rates: Sequence[InstanceRate], service: str, replica: str) -> InstanceRate | None:
    matching = (rate for rate in rates if fnmatchcase(service, rate.service) and fnmatchcase(replica, rate.replica))
    return next(matching, None)


def hour_shares(calls: pl.DataFrame, paid: pl.DataFrame) -> pl.DataFrame:
    """Each call's share in each hour it runs in: row, service, replica, hour_ns, share_pico and busy_ns.

    `calls` are those of all replicas; the ones that share are on a paid replica and of a model that it serves.
    busy_ns is the whole replica's, repeated on each of its rows.
    """
    slices = _slices(_sharing_calls(calls, paid))
    events = pl.concat(
        [
            slices.select("row", *_REPLICA_HOUR, "rate_pico", pl.col("from_ns").alias("at"), pl.lit(1).alias("step")),
            slices.select("row", *_REPLICA_HOUR, "rate_pico", pl.col("to_ns").alias("at"), pl.lit(-1).alias("step")),
        ]
    ).sort(*_REPLICA_HOUR, "at", "row", "step", descending=[False] * 5 + [True])
    running = pl.col("step").cum_sum().over(_REPLICA_HOUR)
    lasting = (pl.col("at").shift(-1).over(_REPLICA_HOUR) - pl.col("at")).fill_null(0)
    events = events.with_columns(running.alias("running"), lasting.alias("lasting"))
    price_of_time = (pl.col("rate_pico") * pl.lit(_MICROPICO, dtype=pl.Int128) * pl.col("lasting").cast(pl.Int128)) // (
        pl.lit(HOUR_NS, dtype=pl.Int128) * pl.max_horizontal("running", pl.lit(1)).cast(pl.Int128)
    )
    is_busy = pl.col("running") > 0
    events = events.with_columns(
        pl.when(is_busy).then(price_of_time).otherwise(pl.lit(0, dtype=pl.Int128)).alias("growth"),
        pl.when(is_busy).then("lasting").otherwise(0).sum().over(_REPLICA_HOUR).alias("busy_ns"),
    )
    level = pl.col("growth").cum_sum().over(_REPLICA_HOUR) - pl.col("growth")
    return (
        events.with_columns(level.alias("level"))
        .group_by("row", *_REPLICA_HOUR, "busy_ns")
        .agg((pl.col("level").max() - pl.col("level").min()).alias("share"))
        .with_columns((pl.col("share") // pl.lit(_MICROPICO, dtype=pl.Int128)).alias("share_pico"))
        .drop("share")
    )


def _sharing_calls(calls: pl.DataFrame, paid: pl.DataFrame) -> pl.DataFrame:
    """Calls of the models that a rate names. A rate for any model is for those that the price book does not know."""
    joined = calls.filter(~pl.col("response_cache_hit")).join(paid, on=_REPLICA, how="inner")
    joined = joined.filter((pl.col("model_glob") != ANY_MODEL) | (pl.col("price_reason") != ""))
    pairs = joined.select("model", "model_glob").unique()
    served = pairs.filter(pl.Series([fnmatchcase(model, glob) for model, glob in pairs.iter_rows()], dtype=pl.Boolean))
    return joined.join(served, on=["model", "model_glob"], how="semi")


def _slices(calls: pl.DataFrame) -> pl.DataFrame:
    """Each call cut at the hour: the part in the hour it started, and the part in the next hour."""
    start = pl.col("start_ns")
    hour = start - start % HOUR_NS
    calls = calls.select(
        "row",
        *_REPLICA,
        "rate_pico",
        start,
        hour.alias("hour_ns"),
        pl.min_horizontal(start + pl.col("duration_ns").cast(pl.Int64), hour + 2 * HOUR_NS).alias("end_ns"),
    )
    boundary = pl.col("hour_ns") + HOUR_NS
    first = calls.with_columns(start.alias("from_ns"), pl.min_horizontal("end_ns", boundary).alias("to_ns"))
    second = calls.filter(pl.col("end_ns") > boundary).with_columns(
        boundary.alias("from_ns"), pl.col("end_ns").alias("to_ns"), boundary.alias("hour_ns")
    )
    return pl.concat([first, second.select(first.columns)])


def with_gpu_costs(calls: pl.DataFrame, shares: pl.DataFrame, paid: pl.DataFrame) -> pl.DataFrame:
    """Calls that share a replica's cost are priced by it, failed ones too: the replica's time was paid for."""
    totals = shares.group_by("row").agg(pl.col("share_pico").sum())
    types = paid.select(*_REPLICA, "instance_type")
    calls = calls.join(totals, on="row", how="left", maintain_order="left").join(
        types, on=_REPLICA, how="left", maintain_order="left"
    )
    on_gpu = pl.col("share_pico").is_not_null()
    dollars, nothing = money(pl.col("share_pico")), pl.lit(0).cast(MONEY)
    parts = [f"cost_{part}_usd" for part in ("fresh_input", "cache_read", "cache_write", "output")]
    return calls.with_columns(
        (pl.col("billable") | on_gpu).alias("billable"),
        pl.when(on_gpu).then(dollars).otherwise("cost_usd").alias("cost_usd"),
        pl.when(on_gpu).then(dollars).otherwise("cost_gpu_busy_usd").alias("cost_gpu_busy_usd"),
        *(pl.when(on_gpu).then(nothing).otherwise(pl.col(part)).alias(part) for part in parts),
        pl.when(on_gpu).then(pl.lit("")).otherwise("unpriced_reason").alias("unpriced_reason"),
        pl.when(on_gpu)
        .then(pl.concat_str(pl.lit("instance rate "), pl.col("instance_type").fill_null("")).str.strip_chars())
        .otherwise("price_version")
        .alias("price_version"),
    ).drop("share_pico", "instance_type")


def replica_hours(
    presence: pl.DataFrame, shares: pl.DataFrame, paid: pl.DataFrame, since: datetime, until: datetime
) -> pl.DataFrame:
    """What each paid replica cost in each hour of [since, until), as replica_hourly has it.

    `presence` is one row per service, replica and hour_ns with first_ns and last_ns, the first and last sign of
    life that began in the hour (last_ns may lie after it). A replica is up from its first to its last sign of
    life; through to the edge of the hour when the hour on that side has signs too. An hour without any is down.
    """
    bounds = _up_bounds(_touched_hours(presence).join(paid, on=_REPLICA, how="inner"))
    hours = bounds.join(_allocated(shares), on=_REPLICA_HOUR, how="left").with_columns(
        pl.col("allocated_pico").fill_null(0), pl.col("busy_ns").fill_null(0), pl.col("calls").fill_null(0)
    )
    up_ns = pl.max_horizontal(pl.col("up_to") - pl.col("up_from"), "busy_ns")
    bill = (pl.col("rate_pico") * up_ns.cast(pl.Int128)) // pl.lit(HOUR_NS, dtype=pl.Int128)
    hour = pl.from_epoch(pl.col("hour_ns"), time_unit="ns").dt.replace_time_zone("UTC").dt.cast_time_unit("ms")
    return (
        hours.with_columns(hour.alias("hour"), up_ns.alias("up_ns"), bill.alias("bill_pico"))
        .filter(pl.col("hour") >= since, pl.col("hour") < until)
        .select(
            "hour",
            *_REPLICA,
            "instance_type",
            money(pl.col("rate_pico")).alias("instance_cost_per_hour_usd"),
            seconds(pl.col("up_ns")).alias("up_seconds"),
            seconds(pl.col("busy_ns")).alias("busy_seconds"),
            pl.col("calls").cast(pl.UInt64),
            money(pl.col("allocated_pico")).alias("allocated_usd"),
            money(pl.col("bill_pico") - pl.col("allocated_pico")).alias("idle_usd"),
            money(pl.col("bill_pico")).alias("bill_usd"),
        )
        .sort("hour", *_REPLICA)
    )


def _allocated(shares: pl.DataFrame) -> pl.DataFrame:
    return shares.group_by(_REPLICA_HOUR).agg(
        pl.col("share_pico").sum().alias("allocated_pico"),
        pl.col("busy_ns").first(),
        pl.len().alias("calls"),
    )


def _touched_hours(presence: pl.DataFrame) -> pl.DataFrame:
    """Presence with an hour added where life that began in the hour before runs into it."""
    boundary = pl.col("hour_ns") + HOUR_NS
    spill = presence.filter(pl.col("last_ns") > boundary).select(
        *_REPLICA,
        boundary.alias("hour_ns"),
        boundary.alias("first_ns"),
        pl.min_horizontal("last_ns", boundary + HOUR_NS).alias("last_ns"),
    )
    return (
        pl.concat([presence.select(spill.columns), spill])
        .group_by(_REPLICA_HOUR)
        .agg(pl.col("first_ns").min(), pl.col("last_ns").max())
    )


def _up_bounds(touched: pl.DataFrame) -> pl.DataFrame:
    hours = touched.select(_REPLICA_HOUR)
    before = hours.with_columns(pl.col("hour_ns") + HOUR_NS, pl.lit(value=True).alias("has_before"))
    after = hours.with_columns(pl.col("hour_ns") - HOUR_NS, pl.lit(value=True).alias("has_after"))
    end = pl.col("hour_ns") + HOUR_NS
    return (
        touched.join(before, on=_REPLICA_HOUR, how="left")
        .join(after, on=_REPLICA_HOUR, how="left")
        .with_columns(
            pl.when("has_before").then("hour_ns").otherwise("first_ns").alias("up_from"),
            pl.when("has_after").then(end).otherwise(pl.min_horizontal("last_ns", end)).alias("up_to"),
        )
    )
