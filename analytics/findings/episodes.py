"""From hourly verdicts to episodes: hysteresis, and the hours in which the change itself began and ended.

A trailing window notices a step some hours after it. The onset is therefore dated: within window_hours
before the rule first held, it is the hour that best splits the ratio into a lower and a higher level.
Only hours up to the one in which the episode was confirmed are used, so that an onset never moves later.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analytics.findings.facts import SERIES, Series
from analytics.findings.rules import COST_DRIVERS, OUTLIER
from analytics.findings.windows import (
    COST_PER_1K_REQUESTS,
    PROMPT_CACHE_HIT_RATIO,
    RESPONSE_CACHE_HIT_RATIO,
    Measure,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from numpy.typing import NDArray

    from analytics.findings.settings import FindingsSettings

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

MEASURES: dict[str, Measure] = {
    measure.name: measure for measure in (COST_PER_1K_REQUESTS, PROMPT_CACHE_HIT_RATIO, RESPONSE_CACHE_HIT_RATIO)
}
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Episode:
    """A rule that held on a series from `started_at` to `last_hour`, and longer while `ended_at` is None."""

    rule: str
    measure: Measure
    series: Series
    started_at: datetime
    last_hour: datetime
    ended_at: datetime | None

    @property
    def finding_id(self) -> str:
        """The same for the same rule, metric, series and onset."""
        named = (self.rule, self.measure.name, *self.series, self.started_at.isoformat())
        return hashlib.sha256("\0".join(named).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Held:
    """Places in a run of hours: held from `first`, confirmed at `confirmed`, last held at `last`."""

    first: int
    confirmed: int
    last: int
    is_closed: bool


def episodes(verdicts: pl.DataFrame, hours: pl.DataFrame, settings: FindingsSettings) -> list[Episode]:
    """Every episode in the verdicts; `hours` are the dense hourly facts that they were made from."""
    keys = ["rule", "metric", *SERIES]
    opened = verdicts.filter(pl.col("opens")).select(keys).unique()
    parts = verdicts.join(opened, on=keys, how="semi").sort("hour").partition_by(keys, as_dict=True)
    found: list[Episode] = []
    for (rule, metric, *series), judged in sorted(parts.items()):
        own = hours.filter(service=series[0], environment=series[1], endpoint=series[2])
        found.extend(_series_episodes(str(rule), MEASURES[str(metric)], Series(*series), judged, own, settings))
    return found


def pace(rule: str, settings: FindingsSettings) -> tuple[int, int]:
    """Hours of the rule's window, and quiet hours that close its findings.

    An outlier is quiet when a whole new window is: its surprise falls with traffic, every night.
    """
    if rule == COST_DRIVERS:
        return settings.window_hours, settings.rearm_hours
    if rule == OUTLIER:
        return settings.outlier_window_hours, max(settings.outlier_window_hours, settings.close_after_hours)
    return settings.window_hours, settings.close_after_hours


def held_runs(opens: Bools, stays: Bools, open_after: int, close_after: int) -> Iterator[Held]:
    """Runs that open after so many opening hours in a row and close after so many quiet ones."""
    streak = quiet = last = 0
    first = confirmed = -1
    for place, (opening, staying) in enumerate(zip(opens.tolist(), stays.tolist(), strict=True)):
        if first < 0:
            streak = streak + 1 if opening else 0
            if streak >= open_after:
                first, confirmed, last, quiet = place - streak + 1, place, place, 0
            continue
        quiet = 0 if opening or staying else quiet + 1
        last = last if quiet else place
        if quiet >= close_after:
            yield Held(first, confirmed, last, is_closed=True)
            first, streak = -1, 0
    if first >= 0:
        yield Held(first, confirmed, last, is_closed=False)


def _series_episodes(
    rule: str,
    measure: Measure,
    series: Series,
    judged: pl.DataFrame,
    own: pl.DataFrame,
    settings: FindingsSettings,
) -> Iterator[Episode]:
    window, close_after = pace(rule, settings)
    shift = own.height - judged.height
    top, bottom = own[measure.numerator].to_numpy(), own[measure.denominator].to_numpy()
    hour = own["hour"].to_list()
    rises = measure is COST_PER_1K_REQUESTS
    free_from = 0
    open_after = settings.hold_hours if rule == COST_DRIVERS else settings.open_after_hours
    runs = held_runs(judged["opens"].to_numpy(), judged["stays"].to_numpy(), open_after, close_after)
    for held in runs:
        first, confirmed, last = (place + shift for place in (held.first, held.confirmed, held.last))
        onset = step(top, bottom, max(free_from, first - settings.window_hours), first, confirmed, rises=rises)
        end = last + 1
        if held.is_closed:
            known = last + close_after
            end = step(top, bottom, max(confirmed, last - window), last + 1, known, rises=not rises)
        yield Episode(
            rule, measure, series, hour[onset], hour[end - 1], hour[end - 1] + HOUR if held.is_closed else None
        )
        free_from = end + 1


def step(top: Floats, bottom: Floats, earliest: int, latest: int, until: int, *, rises: bool) -> int:
    """The place in [earliest + 1, latest] at which the ratio top / bottom best splits into two levels.

    Looks at the hours from as far before `earliest` as lies between it and `latest`, up to `until`.
    Returns `latest` where no place has a step in the wanted direction.
    """
    begin = max(0, 2 * earliest - latest)
    tops, bottoms = np.cumsum(top[begin : until + 1]), np.cumsum(bottom[begin : until + 1])
    places = np.arange(max(earliest, begin) + 1, latest + 1)
    if places.size == 0:
        return latest
    cut = places - begin - 1
    left, right = bottoms[cut], bottoms[-1] - bottoms[cut]
    sound = (left > 0) & (right > 0)
    jump = np.zeros(len(places))
    jump[sound] = (tops[-1] - tops[cut][sound]) / right[sound] - tops[cut][sound] / left[sound]
    wanted = jump > 0 if rises else jump < 0
    gain = np.where(sound & wanted, left * right * jump**2, 0.0)
    return int(places[gain.argmax()]) if gain.max() > 0 else latest
