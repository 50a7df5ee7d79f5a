"""The checked-in Grafana files: up to date, well-formed, and answering what the panels answer."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from dashboards.catalogue import OVERVIEW, panel_named
from dashboards.grafana import CHECKED_IN, build
from dashboards.grafana.macros import ALL_VALUES, grafana_sql
from dashboards.panel import DIMENSIONS
from dashboards.read import Filters, run_panel
from tests.dashboards import facts

if TYPE_CHECKING:
    from pathlib import Path

    from storage import Store

SINCE = facts.UNTIL - timedelta(days=7)
DASHBOARD: dict[str, Any] = json.loads((CHECKED_IN / "dashboards" / "overview.json").read_text())
TITLES = {placed.panel.title: placed.panel.name for placed in OVERVIEW.panels}
PANELS = [pytest.param(panel, id=TITLES[panel["title"]]) for panel in DASHBOARD["panels"]]


def as_the_plugin_sends_it(sql: str, chosen: dict[str, list[str]] | None = None) -> str:
    """The statement after Grafana filled in variables and the plugin's backend its macros."""
    for dimension in DIMENSIONS:
        values = (chosen or {}).get(dimension)
        quoted = ",".join("'" + value.replace("'", r"\'") + "'" for value in values) if values else ALL_VALUES
        sql = sql.replace(f"${{{dimension}:singlequote}}", quoted)
    milliseconds = {"$__fromTime_ms": SINCE, "$__toTime_ms": facts.UNTIL}
    for macro, moment in milliseconds.items():
        sql = sql.replace(macro, f"fromUnixTimestamp64Milli({int(moment.timestamp() * 1000)})")
    return sql.replace("$__interval_s", "3600")


def test_the_checked_in_files_are_what_build_writes(tmp_path: Path) -> None:
    written = build(tmp_path)
    assert len(written) == 3
    for path in written:
        name = path.relative_to(tmp_path)
        assert (CHECKED_IN / name).read_text() == path.read_text(), f"run `pennytrace dashboards build`: {name}"


def test_every_panel_of_the_board_is_on_the_dashboard_in_its_place() -> None:
    assert DASHBOARD["schemaVersion"] == 42
    places = {panel["title"]: panel["gridPos"] for panel in DASHBOARD["panels"]}
    assert places == {
        placed.panel.title: {"h": placed.height, "w": placed.width, "x": placed.x, "y": placed.y}
        for placed in OVERVIEW.panels
    }
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_what_a_dashboard_linter_asks_for(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"]
    assert panel["datasource"] == {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"}
    assert panel["fieldConfig"]["defaults"]["unit"]
    (target,) = panel["targets"]
    assert target["editorType"] == "sql"
    assert target["format"] == (0 if panel["type"] == "timeseries" else 1)
    assert not re.search(r"\{\w+:\w", target["rawSql"].replace(":singlequote}", "}"))


def test_variables_offer_every_dimension_with_all_chosen_first() -> None:
    first, *others = DASHBOARD["templating"]["list"]
    assert (first["name"], first["label"], first["query"]) == (
        "datasource",
        "Data source",
        "grafana-clickhouse-datasource",
    )
    assert [variable["name"] for variable in others] == list(DIMENSIONS)
    for variable in others:
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["current"]["value"] == "$__all"


@pytest.mark.parametrize("panel", PANELS)
def test_a_dashboard_query_answers_what_the_panel_answers(store: Store, panel: dict[str, Any]) -> None:
    ours = panel_named(TITLES[panel["title"]])
    assert ours is not None
    sql = panel["targets"][0]["rawSql"]
    assert store.frame_of(as_the_plugin_sends_it(sql)).equals(run_panel(store, ours, SINCE, facts.UNTIL))
    chosen = {"endpoint": ["/v1/chat", "it's"], "tenant": ["acme"]}
    narrow = run_panel(
        store, ours, SINCE, facts.UNTIL, filters=Filters(**{name: tuple(values) for name, values in chosen.items()})
    )
    assert store.frame_of(as_the_plugin_sends_it(sql, chosen)).equals(narrow)


def test_variable_queries_list_the_values_of_the_facts(store: Store) -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        values = store.frame_of(as_the_plugin_sends_it(variable["query"]["rawSql"]))["value"]
        assert set(values) == set(facts.cost_rows(1)[variable["name"]].to_list())


def test_a_parameter_without_a_grafana_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="got 'region'"):
        grafana_sql("SELECT {region:String}")


def test_the_data_source_takes_its_secret_from_the_environment() -> None:
    text = (CHECKED_IN / "provisioning" / "datasources" / "pennytrace.yaml").read_text()
    assert "password: ${PENNYTRACE_SQL_PASSWORD}" in text
    assert "defaultDatabase: pennytrace" in text
    assert "protocol: http" in text


def test_time_series_queries_have_no_column_that_long_to_wide_cannot_use(store: Store) -> None:
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "timeseries":
            answer = store.frame_of(as_the_plugin_sends_it(panel["targets"][0]["rawSql"]))
            kinds = answer.dtypes
            assert kinds[0] == pl.Datetime("ms", "UTC")
            assert kinds[1] == pl.String
            assert kinds[2].is_numeric()
