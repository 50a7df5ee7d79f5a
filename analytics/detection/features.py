"""What is known of endpoints hour by hour: rises, their usual sizes, and a vector for each hour worth a second look.

A surprise is a rise over its usual size, scaled down where the window has fewer requests than usual, because a mean
of fewer is noisier. An impact is the rise of cost per request that one driver's rise makes alone, a logarithm. The
margin of an hour says how near the plain rule is to ringing: a driver's surprise and impact both reach what the rule
asks for at 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analytics.detection.background import Days, movement, summarise
from analytics.detection.drivers import CAUSES, WINDOWS_HOURS, Rises, Windows, rises

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analytics.detection.background import Movement
    from analytics.detection.usage import Usage

    Floats = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]

MONTH_HOURS = 672
# However still a driver has been, movements of this size (a logarithm) are unremarkable.
SIZE_MIN = 0.02
# What the rule asks for: the surprise of a driver by window, and its impact.
RULE_SURPRISE = {3: 10.0, 12: 4.0, 24: 3.0, 72: 8.0, 168: 12.0}
RULE_IMPACT = 0.07
# What makes an hour worth a second look, at CANDIDATE_MARGIN times these surprises and that impact.
NEAR_SURPRISE = {3: 5.0, 12: 3.6, 24: 3.0, 72: 4.0, 168: 5.0}
# Long windows remember what is over: they count only while the last day's rise is still this share of theirs.
STILL_RISEN = 0.6
# Hours nearer to the rule than this get a vector.
CANDIDATE_MARGIN = 0.5
# What is not known is told apart from every value that is.
UNKNOWN = -100.0
# Windows and lags whose rises, taken from the present ones, tell a step from a slow movement.
STEPS = ((24, 24), (72, 72))
LEVEL_WINDOW = LEVEL_LAG = 168
TOKENS = ("input", "output", "total")
SLOW_WINDOWS = (24, 72, 168)


@dataclass(frozen=True)
class Outlook:
    """Everything that hours from `begin` on of some endpoints are judged by; arrays are (endpoints, hours).

    `earlier[window, lag]` holds rises that lie `lag` hours back.
    """

    usage: Usage
    begin: int
    rises: dict[int, Rises]
    movement: dict[int, Movement]
    earlier: dict[tuple[int, int], dict[str, Floats]]
    usual_requests: Floats

    def surprise(self, driver: str, window: int) -> Floats:
        """The rise over its usual size; NaN where unknown."""
        size: Floats = np.maximum(self.movement[window].size[driver], np.float32(SIZE_MIN))
        surprise: Floats = np.divide(self.rises[window].lesser[driver], size) * self.fullness(window)
        return surprise

    def fullness(self, window: int) -> Floats:
        """At most one; smaller where the window has fewer requests than usual."""
        usual = np.maximum(self.usual_requests * np.float32(window / MONTH_HOURS), np.float32(1e-6))
        fullness: Floats = np.sqrt(np.minimum(np.float32(1), self.rises[window].requests / usual))
        return fullness

    def margins(self) -> tuple[Floats, Floats]:
        """The largest margins of any driver and window: to a second look, and to the rule. NaN where none is known."""
        near = np.full(self.usual_requests.shape, np.nan, dtype=np.float32)
        rule = near.copy()
        for window in WINDOWS_HOURS:
            scale = np.float32(NEAR_SURPRISE[window] / RULE_SURPRISE[window])
            for driver in CAUSES:
                surprise, impact = self.margin_parts(driver, window)
                near = np.fmax(near, np.minimum(surprise, impact))
                rule = np.fmax(rule, np.minimum(surprise * scale, impact))
        return near, rule

    def margin_of(self, driver: str, window: int) -> Floats:
        """How near one driver and window come to a second look, at 1."""
        return np.minimum(*self.margin_parts(driver, window))

    def margin_parts(self, driver: str, window: int) -> tuple[Floats, Floats]:
        """The surprise and the impact over what is asked for; no impact where a long window remembers what is over."""
        surprise = self.surprise(driver, window) * np.float32(1 / NEAR_SURPRISE[window])
        impact = self.rises[window].impact(driver) * np.float32(1 / RULE_IMPACT)
        if window > SLOW_WINDOWS[0]:
            last_day = self.rises[SLOW_WINDOWS[0]].lesser[driver]
            impact = np.where(last_day >= STILL_RISEN * self.rises[window].lesser[driver], impact, np.float32(0))
        return surprise, impact


def look(usage: Usage, begin: int, end: int, days: dict[int, dict[str, Days]] | None = None) -> Outlook:
    """The outlook on the hours from `begin` to before `end`.

    `days` are summaries of the days before, from the usage's first hour on; without them `begin` must be 0.
    """
    windows = Windows(usage, begin, end)
    with np.errstate(divide="ignore", invalid="ignore"):
        told = {window: rises(windows, window) for window in WINDOWS_HOURS}
        summaries = days or summarise_all(told, usage.first_hour % 24)
        into = usage.first_hour % 24 + begin
        moved = {window: movement(summaries[window], into, end - begin) for window in WINDOWS_HOURS}
        lagged = [*STEPS, (LEVEL_WINDOW, LEVEL_LAG)]
        earlier = {(window, lag): _earlier(windows, told[window], window, lag) for window, lag in lagged}
    return Outlook(usage, begin, told, moved, earlier, windows.total("requests", MONTH_HOURS))


def summarise_all(told: dict[int, Rises], into_day: int) -> dict[int, dict[str, Days]]:
    """Summaries of the days of all windows' rises."""
    return {window: summarise(rise, into_day) for window, rise in told.items()}


def _earlier(windows: Windows, own: Rises, window: int, lag: int) -> dict[str, Floats]:
    hours = windows.end - windows.begin
    before = rises(Windows(windows.usage, windows.begin - lag, min(windows.end - lag, windows.begin)), window)
    return {
        driver: np.concatenate([before.lesser[driver], own.lesser[driver][:, : max(0, hours - lag)]], axis=1)
        for driver in TOKENS
    }


class Vectors:
    """Features of cells, by name; `cells` are endpoints and hours counted from the outlook's first, (2, n)."""

    def __init__(self, outlook: Outlook, cells: Ints) -> None:
        self._outlook, self._endpoint, self._hour = outlook, cells[0], cells[1]
        self.columns: dict[str, Floats] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            self._add_surprises()
            self._add_token_rises()
            self._add_traits()
            self._add_steps()

    def table(self) -> Floats:
        """(n, features), what is unknown at UNKNOWN."""
        known = np.stack(list(self.columns.values()), axis=1)
        known[~np.isfinite(known)] = UNKNOWN
        return known

    def _at(self, values: Floats) -> Floats:
        picked: Floats = values[self._endpoint, self._hour]
        return picked

    def _rise(self, driver: str, window: int) -> Floats:
        return self._at(self._outlook.rises[window].lesser[driver])

    def _size(self, driver: str, window: int) -> Floats:
        return np.maximum(self._at(self._outlook.movement[window].size[driver]), np.float32(SIZE_MIN))

    def _add_surprises(self) -> None:
        add = self.columns
        for window in WINDOWS_HOURS:
            full = self._at(self._outlook.fullness(window))
            by_cause = {driver: self._rise(driver, window) / self._size(driver, window) * full for driver in CAUSES}
            ranked = np.sort(np.nan_to_num(np.stack(list(by_cause.values())), nan=UNKNOWN), axis=0)
            add[f"top_surprise_{window}h"] = ranked[-1]
            add[f"second_surprise_{window}h"] = ranked[-2]
            add[f"total_rise_{window}h"] = self._rise("total", window)
            add[f"total_surprise_{window}h"] = self._rise("total", window) / self._size("total", window) * full
            if window in SLOW_WINDOWS:
                add.update({f"{driver}_surprise_{window}h": by_cause[driver] for driver in ("input", "output")})
                add[f"lesser_token_surprise_{window}h"] = np.minimum(by_cause["input"], by_cause["output"])
            if window == LEVEL_WINDOW:
                add.update({f"{driver}_surprise_{window}h": by_cause[driver] for driver in ("calls", "mix", "cache")})

    def _add_token_rises(self) -> None:
        for window in SLOW_WINDOWS:
            rise = self._outlook.rises[window]
            for driver in ("input", "output"):
                self.columns[f"{driver}_impact_{window}h"] = self._at(rise.impact(driver))
        for driver in TOKENS:
            peak = np.maximum(self._at(self._outlook.movement[LEVEL_WINDOW].peak[driver]), np.float32(SIZE_MIN))
            self.columns[f"{driver}_over_peak"] = np.divide(self._rise(driver, LEVEL_WINDOW), peak)
            self.columns[f"{driver}_rise_a_week_ago"] = self._at(self._outlook.earlier[LEVEL_WINDOW, LEVEL_LAG][driver])

    def _add_traits(self) -> None:
        outlook = self._outlook
        for window in (WINDOWS_HOURS[1], 24, 168):
            for driver in TOKENS:
                self.columns[f"{driver}_size_{window}h"] = self._size(driver, window)
        for window in (24, 168):
            self.columns[f"fullness_{window}h"] = self._at(outlook.fullness(window))
        self.columns["log_requests"] = np.log1p(self._at(outlook.usual_requests))
        self.columns["prompt_share"] = self._at(outlook.rises[24].prompt_share)
        age = np.minimum(self._hour + outlook.begin - outlook.usage.born[self._endpoint], AGE_HOURS_MAX)
        self.columns["age_weeks"] = (age / LEVEL_LAG).astype(np.float32)

    def _add_steps(self) -> None:
        for window, lag in STEPS:
            for driver in TOKENS:
                before = self._at(self._outlook.earlier[window, lag][driver])
                self.columns[f"{driver}_step_{window}h"] = self._rise(driver, window) - before
        for driver in ("input", "output"):
            kinds = self._outlook.rises[24]
            self.columns[f"{driver}_season_24h"] = self._at(kinds.seasonal[driver]) - self._at(kinds.level[driver])


# Older endpoints are alike.
AGE_HOURS_MAX = 9 * 168
