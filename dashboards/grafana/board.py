"""A board as a classic Grafana dashboard, schema version 42."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dashboards.grafana.classic import JSONEncoder, builders, models
from dashboards.grafana.macros import ALL_VALUES, grafana_sql
from dashboards.grafana.query import DATA_SOURCE, PLUGIN
from dashboards.grafana.visual import visual
from dashboards.panel import DIMENSIONS, variable_sql

if TYPE_CHECKING:
    from dashboards.panel import Board

ALL = models.VariableOption(text="All", value="$__all", selected=True)


def board_json(board: Board) -> str:
    """The dashboard's JSON, as checked in."""
    built = (
        builders.Dashboard(f"Pennytrace: {board.title}")
        .uid(f"pennytrace-{board.name}")
        .description(board.description)
        .tags(["pennytrace"])
        .readonly()
        .timezone("utc")
        .time("now-7d", "now")
        .refresh("1m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(_data_source_variable())
    )
    for dimension in DIMENSIONS:
        built = built.with_variable(_dimension_variable(dimension))
    for number, placed in enumerate(board.panels, start=1):
        place = models.GridPos(h=placed.height, w=placed.width, x=placed.x, y=placed.y)
        built = built.with_panel(visual(placed.panel).id(number).grid_pos(place))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def _data_source_variable() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type(PLUGIN)


def _dimension_variable(dimension: str) -> builders.QueryVariable:
    sql = grafana_sql(variable_sql(dimension))
    return (
        builders.QueryVariable(dimension)
        .label(dimension.capitalize())
        .datasource(DATA_SOURCE)
        .query({"editorType": "sql", "rawSql": sql})
        .definition(sql)
        .multi(True)  # noqa: FBT003 - the builder's only way
        .include_all(True)  # noqa: FBT003
        .all_value(ALL_VALUES)
        .current(ALL)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
