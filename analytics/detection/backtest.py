"""The detector over a usage export: alarms for every endpoint, from hours up to each and no later ones."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analytics.detection.alarms import Ringing, ringing
from analytics.detection.cause import PRICE_CHANGE, split, suspects
from analytics.detection.drivers import CAUSES, WEEK
from analytics.detection.features import Outlook, look
from analytics.detection.prices import dearer
from analytics.detection.usage import (
    ENDPOINTS_IN_MEMORY,
    HOUR,
    Piece,
    Usage,
    batched,
    checked,
    endpoints_of,
    hour_numbers,
    hours_of,
    only,
    pieces,
)
from analytics.detection.verdicts import Verdicts, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from analytics.detection.settings import DetectionSettings

Type = pl.DataType | type[pl.DataType]
MONEY = pl.Decimal(38, 12)
SCHEMA: dict[str, Type] = {"endpoint": pl.String, "hour_start": HOUR, "kind": pl.String, "notifies": pl.Boolean}
PARTS: dict[str, Type] = {
    "score": pl.Float64,
    "judged_by": pl.String,
    "window_hours": pl.Int64,
    "cost_usd": MONEY,
    "excess_usd": MONEY,
    **{f"{driver}_usd": MONEY for driver in CAUSES},
}
WORKERS_MAX = 8


@dataclass(frozen=True)
class Backtest:
    """`alarms` has a row per endpoint and hour in which an alarm rings; `endpoint_weeks` is how much was judged."""

    alarms: pl.DataFrame
    endpoints: int
    endpoint_weeks: float

    @property
    def notifications(self) -> int:
        """How many alarms began."""
        return int(self.alarms["notifies"].sum())


def backtest(
    usage: pl.DataFrame | pl.LazyFrame,
    settings: DetectionSettings,
    progress: Callable[[int, int | None], None] | None = None,
    *,
    explain: bool = False,
) -> Backtest:
    """Alarms on a usage frame (columns: `usage.COLUMNS`). `progress` gets endpoints done and in all.

    `explain` adds the score, who judged, and the last day's dollars above the level, split into drivers.
    """
    source = usage.lazy()
    span = hours_of(source)
    names = endpoints_of(source)
    judged: list[_Judged] = []
    with ThreadPoolExecutor(min(WORKERS_MAX, os.cpu_count() or 1)) as pool:
        for group in batched(names, ENDPOINTS_IN_MEMORY):
            rows = checked(only(source, group, len(names)))
            for one in pool.map(partial(_judge_piece, settings=settings, explain=explain), pieces(rows, span)):
                judged.append(one)
                if progress:
                    progress(sum(each.endpoints for each in judged), len(names))
    frames = [pl.DataFrame(schema=_schema(explain=explain)), *(one.alarms for one in judged)]
    weeks = sum(one.known_hours for one in judged) / WEEK
    return Backtest(pl.concat(frames).sort("endpoint", "hour_start", "kind"), len(names), weeks)


@dataclass(frozen=True)
class _Judged:
    alarms: pl.DataFrame
    endpoints: int
    known_hours: int


def _judge_piece(piece: Piece, settings: DetectionSettings, *, explain: bool) -> _Judged:
    usage = piece.dense()
    outlook = look(usage, 0, usage.hours)
    verdicts = judge(outlook, settings)
    rows = [*_driver_rows(outlook, verdicts, settings, explain=explain), *_price_rows(usage, settings, explain=explain)]
    alarms = pl.DataFrame(rows, schema=_schema(explain=explain), orient="row")
    return _Judged(alarms, len(usage.endpoints), int(verdicts.is_known.sum()))


def _driver_rows(
    outlook: Outlook, verdicts: Verdicts, settings: DetectionSettings, *, explain: bool
) -> Iterator[tuple[object, ...]]:
    alarms = ringing(verdicts.opens, verdicts.stays, settings)
    if not alarms:
        return
    begun = np.array([(alarm.endpoint, alarm.confirmed) for alarm in alarms]).T
    for alarm, (kind, window) in zip(alarms, suspects(outlook, begun), strict=True):
        extra = _explained(outlook, verdicts, alarm, window) if explain else ()
        yield from _rows(outlook.usage, alarm, kind, extra)


def _price_rows(usage: Usage, settings: DetectionSettings, *, explain: bool) -> Iterator[tuple[object, ...]]:
    rings = dearer(usage, settings)
    for alarm in ringing(rings, rings, settings):
        extra = (None, "price", None, None, None, *[None] * len(CAUSES)) if explain else ()
        yield from _rows(usage, alarm, PRICE_CHANGE, extra)


def _rows(usage: Usage, alarm: Ringing, kind: str, extra: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
    hours = hour_numbers(usage.first_hour, alarm.hours)
    for hour, moment in zip(alarm.hours, hours, strict=True):
        yield (usage.endpoints[alarm.endpoint], moment, kind, hour == alarm.confirmed, *extra)


def _explained(outlook: Outlook, verdicts: Verdicts, alarm: Ringing, window: int) -> tuple[object, ...]:
    at = (alarm.endpoint, alarm.confirmed)
    found = split(outlook, *at, window)
    judge_name = "learned" if verdicts.is_learned[at] else "rule"
    return (
        float(verdicts.score[at]),
        judge_name,
        found.window_hours,
        found.cost_usd,
        found.excess_usd,
        *found.parts_usd.values(),
    )


def _schema(*, explain: bool) -> pl.Schema:
    return pl.Schema({**SCHEMA, **PARTS} if explain else SCHEMA)
