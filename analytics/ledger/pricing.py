"""Dollars of calls, by integer arithmetic over whole frames.

A call's parts are rounded to the picodollar so that they add up to its cost exactly, and the cost is the
nearest picodollar to the exact product of usage and price.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

from analytics.ledger.prices import USAGES

if TYPE_CHECKING:
    from datetime import timedelta

    from analytics.ledger.prices import Price, PriceBook

MONEY = pl.Decimal(38, 12)
_YOCTO_PER_PICO = 10**12
_PICODOLLAR = Decimal("0.000000000001")
# The column that holds a call's dollars has room for less than this.
_COST_PICO_MAX = 10**18 - 1

_NO_USAGE = "no usage reported"
_NO_INPUT = "input tokens not reported"
_NO_OUTPUT = "output tokens not reported"
_TOO_DEAR = "the reported usage comes to over a million dollars"

# Operations that have no output tokens to report.
_WITHOUT_OUTPUT = ("embed", "rerank")

PARTS = ("fresh_input", "cache_read", "cache_write", "output")
_RATES = [f"rate_{usage}" for usage in USAGES]


def money(pico: pl.Expr) -> pl.Expr:
    """Dollars from a whole number of picodollars."""
    return (pico.cast(pl.Decimal(38, 0)) * pl.lit(_PICODOLLAR)).cast(MONEY)


def with_costs(calls: pl.DataFrame, book: PriceBook) -> pl.DataFrame:
    """Calls with cost_usd, its parts, saved_usd, unpriced_reason and price_version.

    What a cache hit would have cost is saved_usd; it costs nothing itself. A call that is not billable has
    neither cost nor reason.
    """
    priced = _with_parts(_with_rates(_with_period(calls, book), book))
    total = pl.col("cost_pico")
    reason = _reason()
    is_paid = pl.col("billable")
    priced = priced.with_columns(pl.when(is_paid).then(reason).otherwise(pl.lit("")).alias("unpriced_reason"))
    has_cost = is_paid & (pl.col("unpriced_reason") == "")
    return priced.with_columns(
        pl.when(has_cost).then(money(total)).alias("cost_usd"),
        *(pl.when(has_cost).then(money(pl.col(f"{part}_pico"))).alias(f"cost_{part}_usd") for part in PARTS),
        pl.when(has_cost).then(pl.lit(Decimal(0)).cast(MONEY)).alias("cost_gpu_busy_usd"),
        pl.when(pl.col("response_cache_hit") & (reason == "")).then(money(total)).alias("saved_usd"),
        pl.when(has_cost | pl.col("response_cache_hit") & (reason == ""))
        .then(pl.lit(book.version))
        .otherwise(pl.lit(""))
        .alias("price_version"),
    )


def _reason() -> pl.Expr:
    """Why a call has no price; '' where it has one."""
    needs_output = ~pl.any_horizontal(
        pl.col("operation").str.to_lowercase().str.contains(name, literal=True) for name in _WITHOUT_OUTPUT
    )
    no_input, no_output = pl.col("input_tokens").is_null(), pl.col("output_tokens").is_null()
    return (
        pl.when(no_input & no_output & (pl.col("usage_note") != ""))
        .then("usage_note")
        .when(no_input & no_output)
        .then(pl.lit(_NO_USAGE))
        .when(no_input)
        .then(pl.lit(_NO_INPUT))
        .when(no_output & needs_output)
        .then(pl.lit(_NO_OUTPUT))
        .when(pl.col("price_reason") != "")
        .then("price_reason")
        .when(pl.col("cost_pico") > pl.lit(_COST_PICO_MAX, dtype=pl.Int128))
        .then(pl.lit(_TOO_DEAR))
        .otherwise(pl.lit(""))
    )


def _with_period(calls: pl.DataFrame, book: PriceBook) -> pl.DataFrame:
    """Calls with `period`, the start of the time in which the model's price cannot change."""
    keys = calls.select("provider", "model").unique()
    lengths: list[timedelta] = [book.moment(provider, model) for provider, model in keys.iter_rows()]
    keys = keys.with_columns(pl.Series("period_length", lengths, dtype=pl.Duration("us")))
    minute, day = pl.col("started_at").dt.truncate("1m"), pl.col("started_at").dt.truncate("1d")
    is_daily = pl.col("period_length") >= pl.duration(days=1)
    return calls.join(keys, on=["provider", "model"], how="left", maintain_order="left").with_columns(
        pl.when(is_daily).then(day).otherwise(minute).alias("period")
    )


def _with_rates(calls: pl.DataFrame, book: PriceBook) -> pl.DataFrame:
    """Calls with the rates of the step that their input tokens reach."""
    keys = ["provider", "model", "tier", "period"]
    wanted = calls.select(keys).unique()
    prices = [
        book.price(provider, model, tier, at)
        for provider, model, tier, at in wanted.with_columns(pl.col("period").dt.cast_time_unit("us")).iter_rows()
    ]
    reasons = wanted.with_columns(pl.Series("price_reason", [price.unpriced_reason for price in prices], pl.String))
    steps = _steps_frame(wanted, prices)
    reached = (
        calls.select("row", *keys, pl.col("input_tokens").fill_null(0).alias("above"))
        .sort("above")
        .join_asof(steps, on="above", by=keys, strategy="backward", check_sortedness=False)
        .select("row", *_RATES)
    )
    return calls.join(reasons, on=keys, how="left", maintain_order="left").join(
        reached, on="row", how="left", maintain_order="left"
    )


def _steps_frame(wanted: pl.DataFrame, prices: list[Price]) -> pl.DataFrame:
    """One row per key and step; `above` is the least input that reaches it."""
    index = [number for number, price in enumerate(prices) for _ in price.steps]
    steps = [step for price in prices for step in price.steps]
    rates = {f"rate_{usage}": pl.Series([step.per_unit[usage] for step in steps], dtype=pl.Int128) for usage in USAGES}
    frame = wanted[index].with_columns(pl.Series("above", [step.above + 1 for step in steps], dtype=pl.Int64))
    return frame.with_columns(**rates).sort("above")


def _with_parts(calls: pl.DataFrame) -> pl.DataFrame:
    """Calls with each part in picodollars: differences of the rounded running total, so that they add up."""
    reasoning = pl.min_horizontal(pl.col("reasoning_tokens").fill_null(0), pl.col("output_tokens").fill_null(0))
    yocto = {
        # A fee per request counts as fresh input.
        "fresh_input": _product("fresh_input_tokens", "fresh_input") + pl.col("rate_request"),
        "cache_read": _product("cache_read_tokens", "cache_read"),
        "cache_write": _product("cache_write_5m_tokens", "cache_write_5m")
        + _product("cache_write_1h_tokens", "cache_write_1h"),
        "output": (pl.col("output_tokens").fill_null(0) - reasoning).cast(pl.Int128) * pl.col("rate_output")
        + reasoning.cast(pl.Int128) * pl.col("rate_reasoning"),
    }
    running = pl.lit(0, dtype=pl.Int128)
    before = pl.lit(0, dtype=pl.Int128)
    parts: list[pl.Expr] = []
    for part in PARTS:
        running = running + yocto[part]
        after = _rounded(running)
        parts.append((after - before).alias(f"{part}_pico"))
        before = after
    return calls.with_columns(*parts, before.alias("cost_pico"))


def _product(tokens: str, usage: str) -> pl.Expr:
    return pl.col(tokens).fill_null(0).cast(pl.Int128) * pl.col(f"rate_{usage}")


def _rounded(yocto: pl.Expr) -> pl.Expr:
    return (yocto + pl.lit(_YOCTO_PER_PICO // 2, dtype=pl.Int128)) // pl.lit(_YOCTO_PER_PICO, dtype=pl.Int128)
