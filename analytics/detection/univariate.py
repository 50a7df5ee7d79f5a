"""One number over time, without drivers: how far it leaves the range that it had at the same time on earlier days.

The same ideas as for costs, for what has no drivers (a queue's length, a GPU's utilisation): a robust seasonal baseline
of the past week, which one bad day does not move, and surprises in units of the series' own movement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DAYS = 7
# The range is that of so many values around the time of day.
AROUND = 7
# Of the earlier days, the highest and lowest tenths do not count.
TRIMMED = 0.1
MEMORY_ROWS = 4000
KNOWN_ROWS_MIN = 100
# A movement of less than this share of the series' standard deviation is unremarkable.
SIZE_MIN = 0.02
# A surprise is told once: only if it is larger than all of the last so many.
QUIET_ROWS = 300


def surprises(values: Floats, rows_a_day: int) -> Floats:
    """A surprise for each value, from it and earlier ones; 0 where there is none or too little history.

    `rows_a_day` is how many values lie between one time of day and the next.
    """
    if rows_a_day <= AROUND or len(values) <= rows_a_day:
        return np.zeros(len(values))
    frame = pl.DataFrame({"value": values}).with_columns(_beyond(rows_a_day).alias("beyond"))
    frame = frame.with_columns(_surprise().fill_nan(None).fill_null(0.0).alias("surprise"))
    largest = pl.col("surprise").shift(1).rolling_max(QUIET_ROWS, min_samples=1).fill_null(-1.0)
    told = frame.select(pl.when(pl.col("surprise") > largest).then(pl.col("surprise")).otherwise(0.0))
    return told.to_series().to_numpy()


def _beyond(rows_a_day: int) -> pl.Expr:
    """How far a value lies above or below the usual range of its time of day."""
    half, value = AROUND // 2, pl.col("value")
    lags = [rows_a_day * day - half for day in range(1, DAYS + 1)]
    high = pl.concat_list([value.rolling_max(AROUND, min_samples=1).shift(lag) for lag in lags])
    low = pl.concat_list([value.rolling_min(AROUND, min_samples=1).shift(lag) for lag in lags])
    above = value - _quantile(high, 1 - TRIMMED)
    below = _quantile(low, TRIMMED) - value
    return pl.max_horizontal(above, below, pl.lit(0.0)).fill_null(0.0)


def _quantile(days: pl.Expr, share: float) -> pl.Expr:
    return days.list.eval(pl.element().drop_nulls().quantile(share, "linear")).list.first()


def _surprise() -> pl.Expr:
    beyond = pl.col("beyond")
    mean = beyond.rolling_mean(MEMORY_ROWS, min_samples=KNOWN_ROWS_MIN).shift(1)
    size = beyond.rolling_std(MEMORY_ROWS, min_samples=KNOWN_ROWS_MIN).shift(1)
    own = pl.col("value").rolling_std(MEMORY_ROWS, min_samples=KNOWN_ROWS_MIN).shift(1)
    least = pl.max_horizontal(size, SIZE_MIN * own)
    return pl.when(least > 0).then((beyond - mean) / least)
