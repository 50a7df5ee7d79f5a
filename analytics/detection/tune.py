"""How often alarms would ring at other thresholds, and which rises they would miss, on an installation's own history.

Nobody labels their history, so rises are planted into it: on every endpoint, for two days of the judged weeks, all
tokens are multiplied. A rise counts as found when an alarm rings in those days that does not ring without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analytics.detection.alarms import ringing
from analytics.detection.features import look
from analytics.detection.prices import dearer
from analytics.detection.settings import MARGIN_BOUNDS, SCORE_BOUNDS
from analytics.detection.usage import (
    ENDPOINTS_IN_MEMORY,
    Piece,
    Usage,
    batched,
    checked,
    endpoints_of,
    hours_of,
    only,
    pieces,
)
from analytics.detection.verdicts import AGE_HOURS_MIN, LOG_ODDS_A_MARGIN, Verdicts, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from analytics.detection.settings import DetectionSettings

    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]

# Thresholds looked at, in log-odds from the present ones.
OFFSETS = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
RISES = (1.25, 1.5, 2.0)
PLANTED_HOURS = 48
SEED = 0


@dataclass(frozen=True)
class _Tally:
    """Per offset: alarms; per offset and rise: rises found. And what they are shares of."""

    alarms: Ints
    found: Ints
    planted: int
    known_hours: int
    endpoints: int


def tune(
    usage: pl.DataFrame | pl.LazyFrame,
    settings: DetectionSettings,
    progress: Callable[[int, int | None], None] | None = None,
) -> pl.DataFrame:
    """A row per threshold: the settings, alarms per endpoint-week, and the share of planted rises that is found."""
    source = usage.lazy()
    span = hours_of(source)
    names = endpoints_of(source)
    moved = [_moved(settings, offset) for offset in OFFSETS]
    tallies: list[_Tally] = []
    for group in batched(names, ENDPOINTS_IN_MEMORY):
        for piece in pieces(checked(only(source, group, len(names))), span):
            tallies.append(_of_piece(piece, settings))
            if progress:
                progress(sum(one.endpoints for one in tallies), len(names))
    weeks = sum(one.known_hours for one in tallies) / 168
    planted = sum(one.planted for one in tallies)
    alarms = sum((one.alarms for one in tallies), np.zeros(len(OFFSETS), dtype=np.int64))
    found = sum((one.found for one in tallies), np.zeros((len(OFFSETS), len(RISES)), dtype=np.int64))
    return pl.DataFrame(
        {
            "learned_score_min": [one.learned_score_min for one in moved],
            "rule_margin_min": [one.rule_margin_min for one in moved],
            "alarms": alarms,
            "alarms_per_endpoint_week": alarms / weeks if weeks else [None] * len(OFFSETS),
            **{
                f"found_{round((rise - 1) * 100)}_percent": found[:, place] / planted
                if planted
                else [None] * len(OFFSETS)
                for place, rise in enumerate(RISES)
            },
        }
    )


def _of_piece(piece: Piece, settings: DetectionSettings) -> _Tally:
    usage = piece.dense()
    plain = judge(look(usage, 0, usage.hours), settings)
    starts = _places(usage)
    quiet = [_rings(plain, settings, offset) for offset in OFFSETS]
    found = np.zeros((len(OFFSETS), len(RISES)), dtype=np.int64)
    for place, rise in enumerate(RISES):
        raised = _raised(usage, starts, rise)
        verdicts = judge(look(raised, 0, usage.hours), settings)
        for at, offset in enumerate(OFFSETS):
            rung = _rings(verdicts, settings, offset) & ~quiet[at]
            found[at, place] = sum(rung[one, start : start + PLANTED_HOURS].any() for one, start in starts.items())
    changed = dearer(usage, settings)
    of_prices = len(ringing(changed, changed, settings))
    alarms = [len(ringing(*_thresholds(plain, settings, offset), settings)) + of_prices for offset in OFFSETS]
    return _Tally(np.array(alarms), found, len(starts), int(plain.is_known.sum()), len(usage.endpoints))


def _places(usage: Usage) -> dict[int, int]:
    """Where a rise is planted on each endpoint that is old enough."""
    places: dict[int, int] = {}
    for endpoint, name in enumerate(usage.endpoints):
        first = int(usage.born[endpoint]) + AGE_HOURS_MIN
        last = usage.hours - PLANTED_HOURS
        if first < last:
            # By name, so that it does not depend on the endpoints beside it.
            rng = np.random.default_rng([SEED, *name.encode()])
            places[endpoint] = int(rng.integers(first, last))
    return places


def _raised(usage: Usage, starts: dict[int, int], rise: float) -> Usage:
    bounds = np.append(usage.starts, len(usage.models))
    sums = dict(usage.sums)
    for name in ("input_tokens", "cached_tokens", "output_tokens"):
        hourly = np.diff(usage.sums[name], axis=1)
        for endpoint, start in starts.items():
            hourly[bounds[endpoint] : bounds[endpoint + 1], start : start + PLANTED_HOURS] *= rise
        sums[name] = np.concatenate([np.zeros((len(hourly), 1)), np.cumsum(hourly, axis=1)], axis=1)
    return Usage(usage.endpoints, usage.models, usage.first_hour, usage.starts, sums, usage.prices, usage.born)


def _moved(settings: DetectionSettings, offset: float) -> DetectionSettings:
    """Settings with other thresholds, as far as their bounds allow."""
    score = min(max(settings.learned_score_min + offset, SCORE_BOUNDS[0]), SCORE_BOUNDS[1])
    margin = min(max(settings.rule_margin_min + offset / LOG_ODDS_A_MARGIN, MARGIN_BOUNDS[0]), MARGIN_BOUNDS[1])
    return settings.model_copy(update={"learned_score_min": score, "rule_margin_min": margin})


def _thresholds(verdicts: Verdicts, settings: DetectionSettings, offset: float) -> tuple[Bools, Bools]:
    other = _moved(settings, offset)
    by_score = other.learned_score_min - settings.learned_score_min
    by_margin = (other.rule_margin_min - settings.rule_margin_min) * LOG_ODDS_A_MARGIN
    raised = np.where(verdicts.is_learned, np.float32(by_score), np.float32(by_margin))
    moved = Verdicts(verdicts.score - raised, verdicts.is_learned, verdicts.margin, verdicts.is_known)
    return moved.opens, moved.stays


def _rings(verdicts: Verdicts, settings: DetectionSettings, offset: float) -> Bools:
    rings = np.zeros(verdicts.score.shape, dtype=np.bool_)
    for alarm in ringing(*_thresholds(verdicts, settings, offset), settings):
        rings[alarm.endpoint, list(alarm.hours)] = True
    return rings
