"""Answers of panels: their SQL, run on the store."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dashboards.panel import DIMENSIONS, sql_parameters, variable_sql

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

    from dashboards.panel import Panel
    from storage import Store

# A page asks for a dozen panels at once; none may hold the store for long.
PANEL_SETTINGS = {"max_execution_time": 30, "max_result_rows": 100_000, "result_overflow_mode": "throw"}
# Facts are hourly: a finer step shows nothing more.
STEP_SECONDS_MIN = 3600


@dataclass(frozen=True)
class Filters:
    """Values to narrow a panel to, by dimension; an empty tuple is all of them."""

    service: tuple[str, ...] = ()
    endpoint: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()


def run_panel(
    store: Store,
    panel: Panel,
    since: datetime,
    until: datetime,
    step_seconds: int = STEP_SECONDS_MIN,
    filters: Filters | None = None,
) -> pl.DataFrame:
    """The panel's rows over the hours that overlap [since, until). Money stays Decimal; unknown is null.

    Filters on dimensions that the panel's facts do not have are ignored (Panel.filters lists those it has).
    """
    given = {"since": since, "until": until, "step_seconds": max(step_seconds, STEP_SECONDS_MIN)}
    given |= {name: list(values) for name, values in asdict(filters or Filters()).items()}
    wanted = sql_parameters(panel.sql)
    return store.frame_of(panel.sql, {name: given[name] for name in wanted}, PANEL_SETTINGS)


def dimension_values(store: Store, since: datetime, until: datetime) -> dict[str, list[str]]:
    """What each dimension can be narrowed to in the range, the dearest first."""
    return {
        dimension: store.frame_of(variable_sql(dimension), {"since": since, "until": until}, PANEL_SETTINGS)[
            "value"
        ].to_list()
        for dimension in DIMENSIONS
    }
