"""How much an endpoint's drivers move by themselves: robust sizes of their rises in the weeks before each day.

Every UTC day's mean absolute rises and largest rise are kept; four weeks of seven days before a day give four values
each, whose median one bad week does not move. A day therefore needs nothing but the days before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analytics.detection.drivers import BASELINE_WEEKS, DRIVERS, median_of_weeks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analytics.detection.drivers import Rises

    Floats = NDArray[np.floating[Any]]

DAY = 24
DAYS_A_WEEK = 7
# A week tells how much a series moves when so many of its days are known.
KNOWN_DAYS_MIN = 5
# Mean absolute deviation to standard deviation, of a normal distribution.
MEAN_TO_SD = np.float32(1.2533)


@dataclass(frozen=True)
class Days:
    """Of a window and driver, per UTC day: mean absolute rises of both kinds, and the largest rise."""

    seasonal: Floats
    level: Floats
    largest: Floats

    def followed_by(self, later: Days) -> Days:
        """These days, then others."""
        return Days(
            np.concatenate([self.seasonal, later.seasonal], axis=1),
            np.concatenate([self.level, later.level], axis=1),
            np.concatenate([self.largest, later.largest], axis=1),
        )


@dataclass(frozen=True)
class Movement:
    """Of a window, by driver: the usual size of its rises as a standard deviation, and its usual weekly peak."""

    size: dict[str, Floats]
    peak: dict[str, Floats]


def summarise(rises: Rises, into_day: int) -> dict[str, Days]:
    """The days of the hours, by driver; the first hour lies `into_day` hours into its day."""
    return {
        driver: Days(
            seasonal=_mean_per_day(np.abs(rises.seasonal[driver]), into_day),
            level=_mean_per_day(np.abs(rises.level[driver]), into_day),
            largest=np.fmax.reduce(_by_day(rises.lesser[driver], into_day), axis=2),
        )
        for driver in DRIVERS
    }


def movement(days: dict[str, Days], into: int, hours: int) -> Movement:
    """The movement in the four weeks before each hour's day, for hours from `into` the first day on."""
    first, last = into // DAY, (into + hours - 1) // DAY
    size: dict[str, Floats] = {}
    peak: dict[str, Floats] = {}
    for driver, own in days.items():
        both = np.fmax(_of_weeks(own.seasonal, first, last, "mean"), _of_weeks(own.level, first, last, "mean"))
        size[driver] = _per_hour(both * MEAN_TO_SD, into % DAY, hours)
        peak[driver] = _per_hour(_of_weeks(own.largest, first, last, "largest"), into % DAY, hours)
    return Movement(size, peak)


def _by_day(values: Floats, into_day: int) -> Floats:
    rows, hours = values.shape
    days = -(-(hours + into_day) // DAY)
    padded = np.full((rows, days * DAY), np.nan, dtype=np.float32)
    padded[:, into_day : into_day + hours] = values
    return padded.reshape(rows, days, DAY)


def _mean_per_day(values: Floats, into_day: int) -> Floats:
    return _mean_of_known(_by_day(values, into_day), 1)


def _mean_of_known(table: Floats, known_min: int) -> Floats:
    """Means along the last axis of what is known; NaN where less than `known_min` is."""
    known = np.isfinite(table)
    count = known.sum(axis=-1, dtype=np.float32)
    total = np.where(known, table, np.float32(0)).sum(axis=-1, dtype=np.float32)
    mean: Floats = np.divide(total, count, out=np.full_like(total, np.nan), where=count >= known_min)
    return mean


def _of_weeks(days: Floats, first: int, last: int, kind: str) -> Floats:
    """For the days from `first` to `last`, the median over the four weeks before of the week's mean or largest day."""
    lead = BASELINE_WEEKS * DAYS_A_WEEK
    rows = days.shape[0]
    padded = np.full((rows, lead + last), np.nan, dtype=np.float32)
    have = min(last, days.shape[1])
    padded[:, lead : lead + have] = days[:, :have]
    weeks = np.lib.stride_tricks.sliding_window_view(padded[:, first:], DAYS_A_WEEK, axis=1)
    weekly = _mean_of_known(weeks, KNOWN_DAYS_MIN) if kind == "mean" else _largest_of_known(weeks)
    weekly = np.where(np.isnan(weekly), np.float32(np.inf), weekly)
    wanted = last - first + 1
    return median_of_weeks([weekly[:, back : back + wanted] for back in range(0, lead, DAYS_A_WEEK)])


def _largest_of_known(weeks: Floats) -> Floats:
    enough = np.isfinite(weeks).sum(axis=2) >= KNOWN_DAYS_MIN
    return np.where(enough, np.fmax.reduce(weeks, axis=2), np.float32(np.nan))


def _per_hour(days: Floats, into_day: int, hours: int) -> Floats:
    return np.repeat(days, DAY, axis=1)[:, into_day : into_day + hours]
