"""Trailing windows of a ratio, set against the same window in earlier weeks.

The noise of a ratio is known in two ways, and the larger counts. Sampling noise: the hour's residual
e = numerator - ratio x denominator has a variance per request, s2 = sum(e2) / sum(requests), learned from
the baseline weeks, and so a window's ratio has the variance s2 x requests / denominator2 (the
ratio estimator with hours as clusters; Cochran, Sampling Techniques, chapter 6). Own movement: the
median size of the same comparison in the baseline weeks, which knows the drift that nobody caused.
Both are of the comparison with the median of the earlier weeks, which is known better than any one week.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import polars as pl

from analytics.findings.facts import HOURS_A_WEEK, SERIES

MAD_TO_SD = 1.4826  # of a normal distribution
# Costs of two windows whose shares of unpriced calls are further apart are not compared: a fifth of the least
# rise that counts, and more than a share of a few percent moves by luck.
UNPRICED_SHARE_CHANGE_MAX = 0.05


@dataclass(frozen=True)
class Measure:
    """A ratio of two hourly sums; `scale` turns it into the unit in which it is reported."""

    name: str
    unit: str
    numerator: str
    denominator: str
    scale: float = 1.0


COST_PER_1K_REQUESTS = Measure("cost_per_1k_requests", "USD", "cost_usd", "requests", 1000.0)
PROMPT_CACHE_HIT_RATIO = Measure("prompt_cache_hit_ratio", "1", "cache_read_tokens", "cache_reporting_input_tokens")
RESPONSE_CACHE_HIT_RATIO = Measure("response_cache_hit_ratio", "1", "response_cache_hits", "answers")


def trailing(column: str, hours: int) -> pl.Expr:
    """Sum over the last `hours` hours, this one included; null until the series is that old."""
    return pl.col(column).rolling_sum(hours).over(SERIES)


def earlier(column: str, hours: int) -> pl.Expr:
    """The value `hours` hours before."""
    return pl.col(column).shift(hours).over(SERIES)


def ratio(numerator: str, denominator: str) -> pl.Expr:
    """One column over another; null where the denominator is not above zero."""
    return pl.when(pl.col(denominator) > 0).then(pl.col(numerator) / pl.col(denominator))


def compare(hours: pl.DataFrame, measure: Measure, window: int, weeks: int, history_min: int) -> pl.DataFrame:
    """Dense hours with the measure's trailing window and its baseline.

    Adds n, n_week_ago (requests), actual, week_ago, usual (median of the same window in the last weeks),
    sampling (variance of `actual`) and noise (the usual size of actual / usual - 1); null is unknown.
    """
    span = weeks * HOURS_A_WEEK
    return (
        hours.with_columns(
            trailing("requests", window).alias("n"),
            trailing(measure.numerator, window).alias("top"),
            trailing(measure.denominator, window).alias("bottom"),
        )
        .with_columns(ratio("top", "bottom").alias("actual"))
        .with_columns(
            earlier("n", HOURS_A_WEEK).alias("n_week_ago"),
            earlier("actual", HOURS_A_WEEK).alias("week_ago"),
            _same_window("actual", weeks).list.median().over(SERIES).alias("usual"),
            _same_window("actual", weeks).list.drop_nulls().list.len().over(SERIES).alias("weeks"),
            _square_of_residual(measure),
        )
        .with_columns(_sampling_variance(span))
        .with_columns(_own_movement(window, span, history_min))
        .with_columns(_noise().alias("noise"))
    )


def with_pricing(hours: pl.DataFrame, window: int, weeks: int) -> pl.DataFrame:
    """Dense hours with `is_priced_alike`: the window's share of unpriced calls is near that of its baselines.

    Unpriced calls add nothing to the cost, so that prices which come or go would look like a change of it.
    """
    share = ratio("window_unpriced", "window_calls").fill_null(0.0)
    apart = [
        (pl.col("unpriced_share") - baseline).abs()
        for baseline in (
            earlier("unpriced_share", HOURS_A_WEEK),
            _same_window("unpriced_share", weeks).list.median().over(SERIES),
        )
    ]
    return (
        hours.with_columns(
            trailing("unpriced_calls", window).alias("window_unpriced"), trailing("calls", window).alias("window_calls")
        )
        .with_columns(share.alias("unpriced_share"))
        .with_columns((pl.max_horizontal(apart) <= UNPRICED_SHARE_CHANGE_MAX).alias("is_priced_alike"))
    )


def _same_window(column: str, weeks: int) -> pl.Expr:
    return pl.concat_list([pl.col(column).shift(HOURS_A_WEEK * back) for back in range(1, weeks + 1)])


def _square_of_residual(measure: Measure) -> pl.Expr:
    residual = pl.col(measure.numerator) - pl.col("actual") * pl.col(measure.denominator)
    return residual.pow(2).alias("residual_square")


def _sampling_variance(span: int) -> pl.Expr:
    squares = pl.col("residual_square").rolling_sum(span, min_samples=24).over(SERIES)
    counts = pl.col("requests").rolling_sum(span, min_samples=24).over(SERIES)
    per_request = pl.when(counts > 0).then(squares / counts)
    return (per_request * pl.col("n") / pl.col("bottom").pow(2)).alias("sampling")


def _own_movement(window: int, span: int, history_min: int) -> pl.Expr:
    surprise = (ratio("actual", "usual") - 1).abs()
    typical = surprise.shift(window).rolling_median(span, min_samples=history_min)
    return (MAD_TO_SD * typical).over(SERIES).alias("movement")


def _noise() -> pl.Expr:
    # The variance of a median of k values is about pi / 2k of one value's.
    of_usual = pl.min_horizontal(pl.lit(1.0), pi / 2 / pl.col("weeks")) * pl.col("sampling").shift(HOURS_A_WEEK).over(
        SERIES
    )
    relative = pl.when(pl.col("usual") > 0).then((pl.col("sampling") + of_usual).sqrt() / pl.col("usual"))
    known = pl.col("movement").is_not_null()
    return pl.when(known).then(pl.max_horizontal(relative, "movement"))
