"""A query to the official ClickHouse data source, which the foundation SDK has no builder for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dashboards.grafana.classic import Builder, Dataquery, common

PLUGIN = "grafana-clickhouse-datasource"
# The dashboard's own variable, so that one file serves every data source.
DATA_SOURCE = common.DataSourceRef(type_val=PLUGIN, uid="${datasource}")
Format = Literal["timeseries", "table"]
FORMATS: dict[Format, int] = {"timeseries": 0, "table": 1}


@dataclass(frozen=True)
class ClickHouseQuery(Dataquery):
    """The plugin's query model; `format` 0 turns long rows into one series for each label."""

    sql: str
    format: Format

    def to_json(self) -> dict[str, object]:
        """As the plugin reads it."""
        return {
            "refId": "A",
            "datasource": DATA_SOURCE,
            "editorType": "sql",
            "rawSql": self.sql,
            "format": FORMATS[self.format],
        }


@dataclass(frozen=True)
class Target(Builder[Dataquery]):
    """A builder around a query, which is what panels take."""

    query: ClickHouseQuery

    def build(self) -> Dataquery:
        """The query."""
        return self.query
