"""Price changes, read from the prices and not guessed.

An hour's price need not be a list price: where long prompts cost more per token, it moves with the prompts. A price has
changed at an hour when all prices since lie above (or all below) every price of the two weeks before, in several hours
with calls. What changed is weighed by the tokens of the week up to the hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analytics.detection.drivers import WEEK
from analytics.detection.verdicts import AGE_HOURS_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from analytics.detection.settings import DetectionSettings
    from analytics.detection.usage import Usage

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

# A change is news for so long.
SINCE_HOURS = 24
# Prices are held against those of so many hours: two of every hour of the week.
BEFORE_HOURS = 2 * WEEK
# Hours with calls that are needed before a change and since.
SEEN_BEFORE_MIN, SEEN_SINCE_MIN = 24, 2
DAYS_A_WEEK = 7


def dearer(usage: Usage, settings: DetectionSettings) -> Bools:
    """(endpoints, hours): whether prices that changed within a day make the endpoint dearer by what settings ask for.

    That is `price_rise_min` of its cost and `min_impact_usd_per_day`, on endpoints that are old enough to be judged.
    """
    found = np.zeros((len(usage.endpoints), usage.hours), dtype=np.bool_)
    bounds = np.append(usage.starts, len(usage.models))
    for endpoint in _moving(usage, settings.price_rise_min):
        first = int(usage.born[endpoint]) + AGE_HOURS_MIN
        own = _Own.of(usage, slice(int(bounds[endpoint]), int(bounds[endpoint + 1])))
        for onset in own.onsets(settings.price_rise_min):
            end = min(onset + SINCE_HOURS, usage.hours)
            found[endpoint, onset:end] |= own.rises(onset, end, settings)
        found[endpoint, :first] = False
    return found


def _moving(usage: Usage, rise: float) -> list[int]:
    """Endpoints with a price that has been so much higher than at another time; the others need no look."""
    moving = np.zeros(len(usage.models), dtype=np.bool_)
    for table in usage.prices.values():
        moving |= np.fmax.reduce(table, axis=1) > np.fmin.reduce(table, axis=1) * (1 + rise / 2)
    return sorted({int(place) for place in np.searchsorted(usage.starts, np.flatnonzero(moving), side="right") - 1})


@dataclass(frozen=True)
class _Own:
    """An endpoint's models: prices and tokens of input, cached input and output, and running counts of hours seen.

    `highest` and `lowest` are those of the hours before each.
    """

    prices: list[Floats]
    tokens: list[Floats]
    seen: NDArray[np.int64]
    highest: list[Floats]
    lowest: list[Floats]

    @staticmethod
    def of(usage: Usage, rows: slice) -> _Own:
        prices = [table[rows] for table in usage.prices.values()]
        read, cached, answered = (usage.sums[name][rows] for name in ("input_tokens", "cached_tokens", "output_tokens"))
        has_calls = np.diff(usage.sums["calls"][rows], axis=1) > 0
        return _Own(
            prices=prices,
            tokens=[read - cached, cached, answered],
            seen=np.concatenate([np.zeros((len(has_calls), 1), dtype=np.int64), has_calls.cumsum(axis=1)], axis=1),
            highest=[_before(table, np.fmax) for table in prices],
            lowest=[_before(table, np.fmin) for table in prices],
        )

    def onsets(self, rise: float) -> Iterator[int]:
        """Hours in which some price is above all that were before, by as much as the whole endpoint's must be."""
        above = [now > old * (1 + rise) for now, old in zip(self.prices, self.highest, strict=True)]
        yield from (int(hour) for hour in np.flatnonzero(np.logical_or.reduce(above).any(axis=0)))

    def rises(self, onset: int, end: int, settings: DetectionSettings) -> Bools:
        """Whether the change at the onset is large enough, in each hour from it to before `end`."""
        sure = self._is_seen_enough(onset, end)
        extra, paid = np.zeros(end - onset), np.zeros(end - onset)
        for place, table in enumerate(self.prices):
            price = table[:, onset:end]
            change = _change(price, self.highest[place][:, onset, None], self.lowest[place][:, onset, None])
            units = self._week(self.tokens[place], onset, end)
            extra += (units * np.where(sure, change, 0.0)).sum(axis=0)
            paid += (units * np.nan_to_num(price)).sum(axis=0)
        then = paid - extra
        usd_per_day = extra * 1e-6 / DAYS_A_WEEK
        enough: Bools = (extra > 0) & (extra >= settings.price_rise_min * then)
        return enough & (usd_per_day >= float(settings.min_impact_usd_per_day))

    def _is_seen_enough(self, onset: int, end: int) -> Bools:
        since = self.seen[:, onset + 1 : end + 1] - self.seen[:, onset, None]
        before = self.seen[:, onset] - self.seen[:, max(onset - BEFORE_HOURS, 0)]
        enough: Bools = (since >= SEEN_SINCE_MIN) & (before >= SEEN_BEFORE_MIN)[:, None]
        return enough

    def _week(self, sums: Floats, onset: int, end: int) -> Floats:
        after = np.arange(onset, end) + 1
        units: Floats = sums[:, after] - sums[:, np.maximum(after - WEEK, 0)]
        return units


def _change(price: Floats, highest: Floats, lowest: Floats) -> Floats:
    """What all prices since the first column have moved above the highest or below the lowest before; else 0."""
    least, most = np.minimum.accumulate(price, axis=1), np.maximum.accumulate(price, axis=1)
    return np.where(least > highest, least - highest, np.where(most < lowest, most - lowest, 0.0))


def _before(table: Floats, pick: Callable[[Floats, Floats], Any]) -> Floats:
    """The highest or lowest known price of the hours before each; NaN where there is none."""
    picked, width = _later(table, 1), 1
    while width < BEFORE_HOURS:
        step = min(width, BEFORE_HOURS - width)
        picked, width = pick(picked, _later(picked, step)), width + step
    return picked


def _later(table: Floats, hours: int) -> Floats:
    rows, columns = table.shape
    gap = np.full((rows, min(hours, columns)), np.nan)
    return np.concatenate([gap, table[:, : max(columns - hours, 0)]], axis=1)
