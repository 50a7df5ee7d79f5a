"""The rules: every closed hour of every series gets a verdict from the hours up to it and no later ones.

A verdict has `opens` (the rule holds), `stays` (weaker: an open finding is kept open) and `known` (there
was enough history to say either).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import polars as pl

from analytics.findings.facts import HOURS_A_WEEK, SERIES
from analytics.findings.windows import (
    COST_PER_1K_REQUESTS,
    PROMPT_CACHE_HIT_RATIO,
    RESPONSE_CACHE_HIT_RATIO,
    Measure,
    compare,
    ratio,
    with_pricing,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analytics.findings.settings import FindingsSettings

COST_RISE = "cost_per_1k_requests_wow"
CACHE_HIT_RATIO = "cache_hit_ratio"
OUTLIER = "outlier"
COST_DRIVERS = "cost_drivers"
RULES = (COST_RISE, CACHE_HIT_RATIO, OUTLIER, COST_DRIVERS)
VERDICT = ["rule", "metric", *SERIES, "hour", "known", "opens", "stays"]


def verdict(frame: pl.DataFrame, rule: str, metric: str) -> pl.DataFrame:
    """The columns of VERDICT; a condition that cannot be told is false."""
    return frame.with_columns(
        pl.lit(rule).alias("rule"),
        pl.lit(metric).alias("metric"),
        pl.col("known", "opens", "stays").fill_null(value=False),
    ).select(VERDICT)


def cost_rise(hours: pl.DataFrame, settings: FindingsSettings) -> pl.DataFrame:
    """Cost per 1,000 requests against the same window a week earlier, and against its usual level.

    The second comparison keeps the week after a cheap week quiet.
    """
    priced = with_pricing(hours, settings.window_hours, settings.baseline_weeks)
    compared = _compared(priced, COST_PER_1K_REQUESTS, settings).with_columns(
        pl.max_horizontal("week_ago", "usual").alias("expected")
    )
    rise = ratio("actual", "expected") - 1
    excess_usd = (pl.col("actual") - pl.col("expected")) * pl.col("n")
    alike = pl.col("is_priced_alike")
    known = alike & _enough_requests(settings) & pl.col("noise").is_not_null() & (pl.col("expected") > 0)
    opens = (
        (rise >= settings.cost_rise_min)
        & (ratio("actual", "usual") - 1 >= settings.noise_ratio_min * pl.col("noise"))
        & (excess_usd >= _least_usd(settings, settings.window_hours))
    )
    stays = alike & (rise >= settings.hysteresis * settings.cost_rise_min)
    judged = compared.with_columns(known.alias("known"), (known & opens).alias("opens"), stays.alias("stays"))
    return verdict(judged, COST_RISE, COST_PER_1K_REQUESTS.name)


def prompt_cache(hours: pl.DataFrame, settings: FindingsSettings) -> pl.DataFrame:
    """Share of input tokens that the provider's cache served, of those told about, against target or usual level."""
    span = settings.baseline_weeks * HOURS_A_WEEK
    saved = _unit_price("cost_fresh_input_usd", "fresh_input_tokens", span) - _unit_price(
        "cost_cache_read_usd", "cache_read_tokens", span
    )
    return _cache_rule(hours, PROMPT_CACHE_HIT_RATIO, settings.prompt_cache_targets, saved, settings)


def response_cache(hours: pl.DataFrame, settings: FindingsSettings) -> pl.DataFrame:
    """Share of answers that the application's own cache gave, against its target or usual level."""
    saved = _unit_price("cost_usd", "priced_calls", settings.baseline_weeks * HOURS_A_WEEK)
    hours = hours.with_columns((pl.col("calls") - pl.col("unpriced_calls")).alias("priced_calls"))
    return _cache_rule(hours, RESPONSE_CACHE_HIT_RATIO, settings.response_cache_targets, saved, settings)


def _cache_rule(
    hours: pl.DataFrame,
    measure: Measure,
    targets: Mapping[str, float],
    saved_usd_per_hit: pl.Expr,
    settings: FindingsSettings,
) -> pl.DataFrame:
    compared = _compared(hours, measure, settings).with_columns(
        saved_usd_per_hit.alias("saved"),
        _target(hours, targets),
        pl.min_horizontal("week_ago", "usual").alias("expected"),
    )
    enough = _enough_requests(settings) & pl.col("actual").is_not_null()
    has_target = pl.col("target").is_not_null()
    learned = pl.col("noise").is_not_null() & (pl.col("expected") >= settings.cache_ratio_min)
    known = enough & (has_target | pl.col("noise").is_not_null())
    opens = pl.when(has_target).then(_below_target(settings)).otherwise(learned & _below_usual(settings))
    kept = settings.hysteresis * settings.cache_drop_min
    stays = (
        pl.when(has_target)
        .then(pl.col("actual") < pl.col("target"))
        .otherwise(pl.col("actual") <= (1 - kept) * pl.col("expected"))
    )
    judged = compared.with_columns(known.alias("known"), (enough & opens).alias("opens"), stays.alias("stays"))
    return verdict(judged, CACHE_HIT_RATIO, measure.name)


def _below_target(settings: FindingsSettings) -> pl.Expr:
    gap = pl.col("target") - pl.col("actual")
    return (gap >= settings.noise_ratio_min * pl.col("sampling").sqrt()) & _worth_telling(gap, settings)


def _below_usual(settings: FindingsSettings) -> pl.Expr:
    gap = pl.col("expected") - pl.col("actual")
    fall = gap / pl.col("expected")
    return (
        (fall >= settings.cache_drop_min)
        & (1 - ratio("actual", "usual") >= settings.noise_ratio_min * pl.col("noise"))
        & _worth_telling(gap, settings)
    )


def _worth_telling(gap: pl.Expr, settings: FindingsSettings) -> pl.Expr:
    """Whether the missed hits cost enough; where a hit's worth is unknown, they are told."""
    lost_usd = gap * pl.col("bottom") * pl.col("saved")
    return (lost_usd >= _least_usd(settings, settings.window_hours)).fill_null(value=True)


def _target(hours: pl.DataFrame, targets: Mapping[str, float]) -> pl.Expr:
    endpoints = hours["endpoint"].unique().to_list()
    found = {endpoint: target_of(endpoint, targets) for endpoint in endpoints}
    return (
        pl.col("endpoint")
        .replace_strict(list(found), list(found.values()), default=None, return_dtype=pl.Float64)
        .alias("target")
    )


def target_of(endpoint: str, targets: Mapping[str, float]) -> float | None:
    """The target of the first glob that matches the endpoint."""
    return next((target for glob, target in targets.items() if fnmatchcase(endpoint, glob)), None)


def _compared(hours: pl.DataFrame, measure: Measure, settings: FindingsSettings) -> pl.DataFrame:
    return compare(hours, measure, settings.window_hours, settings.baseline_weeks, settings.history_hours_min)


def _enough_requests(settings: FindingsSettings) -> pl.Expr:
    return (pl.col("n") >= settings.min_requests) & (pl.col("n_week_ago") >= settings.min_requests)


def _least_usd(settings: FindingsSettings, hours: int) -> float:
    return float(settings.min_impact_usd_per_day) * hours / 24


def _unit_price(dollars: str, units: str, span: int) -> pl.Expr:
    paid = pl.col(dollars).rolling_sum(span, min_samples=1).over(SERIES)
    bought = pl.col(units).rolling_sum(span, min_samples=1).over(SERIES)
    return pl.when((bought > 0) & (paid > 0)).then(paid / bought)
