"""Who called whom: parents, ancestors, and what spans inherit from them.

Rows are numbered; a climb is a gather over an array of parents, one step for all rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]
    Flags = NDArray[np.bool_]

# Deeper than any trace people write by hand; it also ends a climb in parents that form a ring.
DEPTH_MAX = 64
NO_ROW = -1


@dataclass(frozen=True)
class Lineage:
    """Every row's parent and hour.

    A climb ends where an ancestor started more than an hour before the hour of the row that it began at, so
    that what a row inherits does not depend on how much was read around it.
    """

    parents: Rows
    hours: Rows

    def nearest(self, rows: Rows, has: Flags) -> Rows:
        """For each of `rows` the nearest row, itself included, that `has`; NO_ROW where none does."""
        found = np.full(len(rows), NO_ROW, dtype=np.int64)
        climbing, at = np.arange(len(rows)), rows
        for _ in range(DEPTH_MAX):
            hit = has[at]
            found[climbing[hit]] = at[hit]
            climbing, at = self._step(rows, climbing[~hit], at[~hit])
            if not len(at):
                break
        return found

    def roots(self, rows: Rows) -> Rows:
        """For each of `rows` its topmost ancestor, itself if it has none."""
        found = rows.copy()
        climbing, at = np.arange(len(rows)), rows
        for _ in range(DEPTH_MAX):
            climbing, at = self._step(rows, climbing, at)
            if not len(at):
                break
            found[climbing] = at
        return found

    def ancestor_pairs(self, rows: Rows, marked: Flags) -> tuple[Rows, Rows]:
        """Every pair (row, ancestor of it that is marked), as two arrays of rows."""
        descendants: list[Rows] = []
        ancestors: list[Rows] = []
        climbing, at = np.arange(len(rows)), rows
        for _ in range(DEPTH_MAX):
            climbing, at = self._step(rows, climbing, at)
            if not len(at):
                break
            hit = marked[at] & (at != rows[climbing])
            descendants.append(rows[climbing[hit]])
            ancestors.append(at[hit])
        empty = np.empty(0, dtype=np.int64)
        return np.concatenate([empty, *descendants]), np.concatenate([empty, *ancestors])

    def inherited(self, spans: pl.DataFrame, rows: Rows, column: str) -> pl.Series:
        """The text that each of `rows` or its nearest ancestor has in `column`, '' where none has any."""
        source = pl.Series(self.nearest(rows, (spans[column] != "").to_numpy()))
        return spans[column].gather(source.set(source == NO_ROW, None)).fill_null("")

    def _step(self, rows: Rows, climbing: Rows, at: Rows) -> tuple[Rows, Rows]:
        above = self.parents[at]
        going_on = (above != NO_ROW) & (np.abs(self.hours[above] - self.hours[rows[climbing]]) <= 1)
        return climbing[going_on], above[going_on]


def lineage_of(spans: pl.DataFrame) -> Lineage:
    """Who called whom among numbered spans; a parent that was not read is none."""
    numbered = spans.select("trace_key", "span_key", pl.col("row").alias("parent_row"))
    joined = spans.select("trace_key", "parent_key").join(
        numbered.unique(["trace_key", "span_key"], keep="first", maintain_order=True),
        left_on=["trace_key", "parent_key"],
        right_on=["trace_key", "span_key"],
        how="left",
        maintain_order="left",
    )
    return Lineage(joined["parent_row"].fill_null(NO_ROW).to_numpy(), spans["hour_number"].to_numpy())


def with_dimensions(spans: pl.DataFrame, lineage: Lineage, calls: pl.DataFrame) -> pl.DataFrame:
    """Calls, which are rows of spans, with endpoint, tenant and variant, inherited where they have none of their own.

    The endpoint falls back to the nearest http.route and then to the name of the root span. A tenant that came
    with the API key stands above what the span says.
    """
    rows = calls["row"].to_numpy()
    root_name = spans["name"].gather(lineage.roots(rows))
    endpoints = pl.DataFrame(
        {
            "endpoint": lineage.inherited(spans, rows, "endpoint"),
            "route": lineage.inherited(spans, rows, "route"),
            "root_name": root_name,
        }
    )
    tenants = lineage.inherited(spans, rows, "sent_tenant")
    return calls.with_columns(
        endpoints.select(_first_known("endpoint", "route", "root_name")).to_series().alias("endpoint"),
        endpoints.select((pl.col("endpoint") == "") & (pl.col("route") == "")).to_series().alias("is_endpoint_guessed"),
        pl.when(pl.col("key_tenant") != "").then("key_tenant").otherwise(tenants).alias("tenant"),
        lineage.inherited(spans, rows, "variant").alias("variant"),
    )


def _first_known(*names: str) -> pl.Expr:
    return pl.coalesce(*(pl.when(pl.col(name) != "").then(pl.col(name)) for name in names), pl.lit(""))
