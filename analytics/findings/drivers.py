"""The rule cost_drivers: the detector of `analytics.detection` over the stored facts.

Prices are what the facts' dollars come to per token; where an hour has unpriced calls, the last price known. Where a
model has had unpriced calls in every hour of a week, its tokens count as priced in proportion to its calls. An
endpoint whose models have no token prices (a GPU by the hour) is not judged here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analytics.detection.drivers import WEEK
from analytics.detection.features import look
from analytics.detection.prices import dearer
from analytics.detection.usage import checked, hour_numbers, pieces
from analytics.detection.verdicts import judge
from analytics.findings.facts import HOUR, MODEL, SERIES
from analytics.findings.rules import COST_DRIVERS, verdict
from analytics.findings.windows import COST_PER_1K_REQUESTS

if TYPE_CHECKING:
    from datetime import datetime

    from analytics.detection.usage import Piece
    from analytics.findings.settings import FindingsSettings

# The level of four weeks, the size of its movement over four more, and the week that the oldest window covers.
HISTORY = timedelta(hours=9 * WEEK + 48)
PRICED = (
    ("price_input_usd_per_mtok", "cost_fresh_input_usd", "fresh_input_tokens"),
    ("price_cached_usd_per_mtok", "cost_cache_read_usd", "cache_read_tokens"),
    ("price_output_usd_per_mtok", "cost_output_usd", "output_tokens"),
)
SEPARATOR = "\0"
JUDGED: dict[str, pl.DataType | type[pl.DataType]] = {
    "series": pl.String,
    "hour": HOUR,
    "known": pl.Boolean,
    "opens": pl.Boolean,
    "stays": pl.Boolean,
}


def cost_drivers(facts: pl.DataFrame, since: datetime, until: datetime, settings: FindingsSettings) -> pl.DataFrame:
    """Verdicts for the hours from `since` to before `until`, as far as the facts reach."""
    usage = as_usage(facts)
    begin, end = (int(moment.timestamp()) // 3600 for moment in (since, until))
    first = int(usage["hour_start"].dt.epoch("s").to_numpy().min()) // 3600
    if first >= end:
        return _rows(facts.clear().select(SERIES), [])
    parts = [_of_piece(piece, max(begin - first, 0), settings) for piece in pieces(checked(usage), (first, end))]
    return _rows(facts.select(SERIES).unique(), parts)


def as_usage(facts: pl.DataFrame) -> pl.DataFrame:
    """Facts as the detector's usage; an endpoint is a whole series, a model its provider, name and tier."""
    share = (pl.col("calls") - pl.col("unpriced_calls")) / pl.col("calls")
    prices = [
        pl.when((pl.col(units) > 0) & (share > 0) & ((share == 1) | ~pl.col("was_priced")))
        .then(pl.col(dollars).cast(pl.Float64) / (pl.col(units) * share) * 1e6)
        .alias(name)
        for name, dollars, units in PRICED
    ]
    return _with_was_priced(facts).select(
        pl.concat_str(SERIES, separator=SEPARATOR).alias("endpoint"),
        pl.col("hour").alias("hour_start"),
        pl.concat_str(MODEL, separator=SEPARATOR).alias("model"),
        "requests",
        "calls",
        "input_tokens",
        pl.col("cache_read_tokens").alias("cached_tokens"),
        "output_tokens",
        *prices,
    )


def _with_was_priced(facts: pl.DataFrame) -> pl.DataFrame:
    """Adds `was_priced`: whether all of the model's calls were priced in some hour of the week up to the row's."""
    whole = pl.when((pl.col("unpriced_calls") == 0) & (pl.col("calls") > 0)).then(pl.col("hour"))
    last = whole.forward_fill().over(*SERIES, *MODEL, order_by="hour")
    return facts.with_columns(
        (pl.col("hour") - last < timedelta(hours=WEEK)).fill_null(value=False).alias("was_priced")
    )


def _of_piece(piece: Piece, begin: int, settings: FindingsSettings) -> pl.DataFrame:
    usage = piece.dense()
    outlook = look(usage, 0, usage.hours)
    verdicts = judge(outlook, settings)
    has_dearer_prices = dearer(usage, settings)
    hours = np.arange(begin, usage.hours)
    count = len(usage.endpoints)
    return pl.DataFrame(
        {
            "series": np.repeat(np.array(usage.endpoints, dtype=object), len(hours)),
            "hour": pl.concat([hour_numbers(usage.first_hour, hours)] * count),
            "known": verdicts.is_known[:, begin:].ravel(),
            "opens": (verdicts.opens | has_dearer_prices)[:, begin:].ravel(),
            "stays": (verdicts.stays | has_dearer_prices)[:, begin:].ravel(),
        },
        schema=JUDGED,
    )


def _rows(series: pl.DataFrame, parts: list[pl.DataFrame]) -> pl.DataFrame:
    named = series.with_columns(pl.concat_str(SERIES, separator=SEPARATOR).alias("series"))
    judged = pl.concat([pl.DataFrame(schema=JUDGED), *parts]).join(named, on="series")
    return verdict(judged, COST_DRIVERS, COST_PER_1K_REQUESTS.name)
