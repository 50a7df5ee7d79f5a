"""Panels and their answers as JSON: what the page fetches.

Money is a decimal string, times are milliseconds since 1970 (UTC), unknown is null.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from dashboards.catalogue import BOARDS, all_panels
from dashboards.panel import DIMENSIONS
from dashboards.read import STEP_SECONDS_MIN, run_panel

if TYPE_CHECKING:
    from dashboards.panel import Board, Panel
    from dashboards.read import Filters
    from storage import Store

# More points than pixels show nothing more.
STEPS_MAX = 240
HOUR = STEP_SECONDS_MIN
STEPS_SECONDS = (HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR, 7 * 24 * HOUR, 28 * 24 * HOUR)
RANGE_DAYS_MAX = 3660
_SPAN = re.compile(r"(\d{1,5})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}


@dataclass(frozen=True)
class Range:
    """Hours from `since` up to, not including, `until`."""

    since: datetime
    until: datetime

    @classmethod
    def parse(cls, since: str, until: str, now: datetime) -> Range:
        """From ISO 8601 times (UTC without an offset) or spans back from now such as 24h, 7d, 4w.

        An empty `until` is now. Raises ValueError.
        """
        found = cls(_moment(since, now), _moment(until, now) if until else now)
        if found.since >= found.until:
            raise ValueError(f"expected since before until, got {since!r} and {until or 'now'!r}")
        if found.until - found.since > timedelta(days=RANGE_DAYS_MAX):
            raise ValueError(f"expected a range of at most {RANGE_DAYS_MAX} days, got {since!r} to {until or 'now'!r}")
        return found

    @property
    def whole_hours(self) -> Range:
        """Its hours that are over at its end; hours begin where `since`'s own does."""
        return Range(_start_of_hour(self.since), _start_of_hour(self.until))

    @property
    def before(self) -> Range:
        """As long a range, right before this one."""
        return Range(self.since - self.length, self.since)

    @property
    def length(self) -> timedelta:
        """From `since` to `until`."""
        return self.until - self.since

    @property
    def step_seconds(self) -> int:
        """The finest step that gives at most STEPS_MAX points."""
        seconds = self.length.total_seconds()
        return next((step for step in STEPS_SECONDS if seconds / step <= STEPS_MAX), STEPS_SECONDS[-1])


def _start_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _moment(text: str, now: datetime) -> datetime:
    span = _SPAN.fullmatch(text)
    try:
        if span:
            return now - timedelta(hours=int(span[1]) * _HOURS[span[2]])
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError(f"expected a time such as 2026-03-01T12:00:00Z or a span such as 7d, got {text!r}") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def catalogue_json() -> dict[str, Any]:
    """Boards with their panels' places, panels by name, and the dimensions to filter by."""
    return {
        "boards": [_board_json(board) for board in BOARDS],
        "panels": {panel.name: asdict(panel) | {"filters": panel.filters} for panel in all_panels()},
        "dimensions": DIMENSIONS,
    }


def _board_json(board: Board) -> dict[str, Any]:
    places = [asdict(placed) | {"panel": placed.panel.name} for placed in board.panels]
    return {"name": board.name, "title": board.title, "description": board.description, "panels": places}


def answer_json(
    store: Store, panel: Panel, asked: Range, filters: Filters, step_seconds: int | None = None
) -> dict[str, Any]:
    """The panel's rows as columns; for tiles also `compared`, where the facts reach back far enough."""
    step = max(step_seconds or asked.step_seconds, STEP_SECONDS_MIN)
    answer: dict[str, Any] = {
        "since": _milliseconds(asked.since),
        "until": _milliseconds(asked.until),
        "step_seconds": step,
        "columns": columns_json(run_panel(store, panel, asked.since, asked.until, step, filters)),
    }
    now, before = asked.whole_hours, asked.whole_hours.before
    if panel.compared and now.length and _has_facts_since(store, before.since):
        answer["compared"] = {
            "hours": now.length // timedelta(hours=1),
            "value": _value(run_panel(store, panel, now.since, now.until, step, filters)),
            "before": _value(run_panel(store, panel, before.since, before.until, step, filters)),
        }
    return answer


def _value(frame: pl.DataFrame) -> list[Any]:
    return columns_json(frame)["value"]


def _has_facts_since(store: Store, moment: datetime) -> bool:
    first = store.frame("first_hour")["hour"].item()
    return first is not None and first <= moment


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def columns_json(frame: pl.DataFrame) -> dict[str, list[Any]]:
    """The columns as JSON takes them; a float that is no number (NaN, infinite) is unknown."""
    return {name: _plain(frame[name]).to_list() for name in frame.columns}


def _plain(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Decimal):
        return column.cast(pl.String)
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.epoch("ms")
    if column.dtype.is_float():
        return column.set(~column.is_finite(), None)
    return column
