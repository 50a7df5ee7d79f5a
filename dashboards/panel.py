"""What a panel is: a question in SQL and how to read its answer.

A panel's SQL is dashboards/panels/<name>.sql, one SELECT. What it returns depends on its kind:

- stat: one row with the column `value`;
- timeseries: the columns `time`, `series`, `value`, ordered by time;
- table: any rows, with the columns that the panel lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Unit = Literal["usd", "ratio", "tokens", "count", "per_minute", "text", "time", "state"]
Kind = Literal["timeseries", "stat", "table"]
Level = Literal["warning", "critical"]

# The dimensions that a reader can narrow a panel to; a panel ignores those that its facts do not have.
DIMENSIONS = ("service", "endpoint", "model", "tenant")


@dataclass(frozen=True)
class Threshold:
    """From `value` on (or down from it, where less is worse) the panel says `level`."""

    value: float
    level: Level


@dataclass(frozen=True)
class Column:
    """A column of a table: its name in the SQL, its heading, its unit."""

    name: str
    title: str
    unit: Unit


@dataclass(frozen=True)
class Panel:
    """One question and how to read its answer."""

    name: str
    title: str
    description: str
    unit: Unit
    kind: Kind
    thresholds: tuple[Threshold, ...] = ()
    columns: tuple[Column, ...] = ()
    # Parts of one whole: drawn on top of each other.
    stacked: bool = False
    # A stat that the page sets against the same length of time before; False where that means nothing.
    compared: bool = False

    @property
    def sql(self) -> str:
        """The SELECT with {name:Type} parameters."""
        return panel_sql(self.name)

    @property
    def filters(self) -> tuple[str, ...]:
        """The dimensions that the panel's facts can be narrowed to."""
        return tuple(dimension for dimension in DIMENSIONS if f"{{{dimension}:" in self.sql)


@dataclass(frozen=True)
class Placed:
    """A panel's place on a board, in Grafana's grid of 24 columns (one row is 30 pixels)."""

    panel: Panel
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Board:
    """Panels that answer one reader's questions together."""

    name: str
    title: str
    description: str
    panels: tuple[Placed, ...]


@cache
def panel_sql(name: str) -> str:
    """The text of dashboards/panels/<name>.sql."""
    return files("dashboards").joinpath("panels", f"{name}.sql").read_text()


@cache
def variable_sql(dimension: str) -> str:
    """The SELECT that lists the values of a dimension within a time range."""
    return files("dashboards").joinpath("variables", f"{dimension}.sql").read_text()


def sql_parameters(sql: str) -> set[str]:
    """Names of the {name:Type} parameters of a statement."""
    return set(re.findall(r"\{(\w+):", sql))
