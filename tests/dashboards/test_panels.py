"""Every panel's SQL on a week of facts, against the facts themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest

from dashboards.catalogue import BOARDS, INCIDENTS, SPEND, all_panels, panel_named
from dashboards.panel import DIMENSIONS
from dashboards.read import Filters, dimension_values, run_panel
from tests.dashboards import facts

if TYPE_CHECKING:
    from dashboards.panel import Panel
    from storage import Store

SINCE = facts.UNTIL - timedelta(days=7)
PANELS = [pytest.param(panel, id=panel.name) for panel in all_panels()]


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return facts.cost_rows(facts.HOURS).filter(pl.col("hour") >= SINCE)


def ask(store: Store, name: str, filters: Filters | None = None, step_seconds: int = 3600) -> pl.DataFrame:
    panel = panel_named(name)
    assert panel is not None
    return run_panel(store, panel, SINCE, facts.UNTIL, step_seconds, filters)


def total(rows: pl.DataFrame, column: str) -> Decimal:
    return sum(rows[column].drop_nulls().to_list(), Decimal())


def count(rows: pl.DataFrame, column: str) -> int:
    return int(rows[column].sum())


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_answers_in_the_columns_of_its_kind(store: Store, panel: Panel) -> None:
    answer = run_panel(store, panel, SINCE, facts.UNTIL)
    if panel.kind == "stat":
        assert answer.columns == ["value"]
        assert answer.height == 1
    elif panel.kind == "timeseries":
        assert answer.columns == ["time", "series", "value"]
        assert answer["time"].is_sorted()
        assert answer.schema["time"] == pl.Datetime("ms", "UTC")
        assert answer.select("time", "series").is_unique().all()
    else:
        assert answer.columns == [column.name for column in panel.columns]
    assert answer.height > 0


@pytest.mark.parametrize("panel", PANELS)
def test_money_is_exact_in_every_panel(store: Store, panel: Panel) -> None:
    answer = run_panel(store, panel, SINCE, facts.UNTIL)
    names = [column.name for column in panel.columns if column.unit == "usd"] or ["value"] * (panel.unit == "usd")
    assert all(answer.schema[name] == pl.Decimal(38, 12) for name in names)


def test_spend_is_the_sum_of_the_facts(store: Store, rows: pl.DataFrame) -> None:
    assert ask(store, "spend")["value"][0] == total(rows, "cost_usd")


@pytest.mark.parametrize("step_seconds", [3600, 6 * 3600, 86_400, 7 * 86_400])
def test_spend_by_endpoint_adds_up_to_spend_in_steps_of_any_length(
    store: Store, rows: pl.DataFrame, step_seconds: int
) -> None:
    series = ask(store, "spend_by_endpoint", step_seconds=step_seconds)
    assert total(series, "value") == total(rows, "cost_usd")
    expected = {key: total(group, "cost_usd") for (key,), group in rows.group_by("endpoint")}
    assert {key: total(group, "value") for (key,), group in series.group_by("series")} == expected


def test_the_table_of_spend_adds_up_to_spend(store: Store, rows: pl.DataFrame) -> None:
    table = ask(store, "spend_table")
    assert total(table, "spend_usd") == total(rows, "cost_usd")
    assert table["calls"].sum() == count(rows, "calls")
    assert table["spend_usd"].is_sorted(descending=True, nulls_last=True)


def test_the_table_says_what_a_thousand_calls_cost_also_of_a_model_that_no_request_calls_first(
    store: Store, rows: pl.DataFrame
) -> None:
    found = ask(store, "spend_table").filter(endpoint="/v1/chat", model=facts.SECOND_MODEL)
    expected = rows.filter(endpoint="/v1/chat", model=facts.SECOND_MODEL)
    assert count(expected, "requests") == 0
    assert found["cost_per_1k_calls_usd"][0] == pytest.approx(
        total(expected, "cost_usd") * 1000 / count(expected, "calls"), abs=Decimal("1e-12")
    )


@pytest.mark.parametrize("name", ["requests", "cost_per_1k_requests", "cost_per_1k_requests_by_endpoint"])
def test_requests_are_not_narrowed_by_model(store: Store, name: str) -> None:
    panel = panel_named(name)
    assert panel is not None
    assert panel.filters == ("service", "endpoint", "tenant")
    narrow = ask(store, name, Filters(model=(facts.SECOND_MODEL,)))
    assert narrow.equals(ask(store, name))


def test_requests_saved_dollars_and_idle_dollars_are_the_sums_of_the_facts(store: Store, rows: pl.DataFrame) -> None:
    assert ask(store, "requests")["value"][0] == count(rows, "requests")
    assert ask(store, "saved_by_response_cache")["value"][0] == total(rows, "saved_usd")
    idle = total(ask(store, "gpu_idle_by_service"), "value")
    assert ask(store, "gpu_idle")["value"][0] == idle > 0


def test_cost_per_1k_requests_is_spend_over_requests(store: Store, rows: pl.DataFrame) -> None:
    expected = total(rows, "cost_usd") * 1000 / count(rows, "requests")
    assert ask(store, "cost_per_1k_requests")["value"][0] == pytest.approx(expected, abs=Decimal("1e-12"))


def test_ratios_are_ratios_of_sums(store: Store, rows: pl.DataFrame) -> None:
    assert ask(store, "unpriced_share")["value"][0] == pytest.approx(
        count(rows, "unpriced_calls") / count(rows, "calls")
    )
    expected = count(rows, "cache_read_tokens") / count(rows, "cache_reporting_input_tokens")
    assert ask(store, "prompt_cache_hit_ratio")["value"][0] == pytest.approx(expected)
    answers = count(rows, "response_cache_hits") + count(rows, "calls")
    response = ask(store, "cache_hit_ratio", step_seconds=3600 * 24 * 28).filter(series="response cache")
    assert response["value"].to_list() == [pytest.approx(count(rows, "response_cache_hits") / answers)]


def test_tokens_and_invocations_add_up_to_the_facts(store: Store, rows: pl.DataFrame) -> None:
    tokens = {key: count(group, "value") for (key,), group in ask(store, "tokens").group_by("series")}
    assert tokens["fresh input"] + tokens["cache read"] + tokens["cache write"] == count(rows, "input_tokens")
    assert tokens["output"] == count(rows, "output_tokens")
    rates = ask(store, "invocation_rate_by_model", step_seconds=7200)
    assert rates["value"].sum() * 120 == pytest.approx(count(rows, "calls"))


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_filter_narrows_spend_to_its_values(store: Store, rows: pl.DataFrame, dimension: str) -> None:
    values = rows[dimension].unique().sort().to_list()[:2]
    expected = total(rows.filter(pl.col(dimension).is_in(values)), "cost_usd")
    assert ask(store, "spend", Filters(**{dimension: tuple(values)}))["value"][0] == expected


def test_filters_on_several_dimensions_narrow_together(store: Store, rows: pl.DataFrame) -> None:
    narrow = rows.filter((pl.col("endpoint") == "/v1/chat") & (pl.col("tenant") == "acme"))
    answer = ask(store, "spend", Filters(endpoint=("/v1/chat",), tenant=("acme",)))
    assert answer["value"][0] == total(narrow, "cost_usd")


def test_a_filter_value_is_data_and_not_sql(store: Store) -> None:
    hostile = ("x') OR 1=1 --", "a\\", "'", "日本\n")
    assert ask(store, "spend", Filters(endpoint=hostile))["value"][0] is None


def test_an_hour_that_the_range_cuts_counts_whole(store: Store, rows: pl.DataFrame) -> None:
    answer = run_panel(store, SPEND, SINCE + timedelta(minutes=30), facts.UNTIL)
    assert answer["value"][0] == total(rows, "cost_usd")


def test_a_range_in_another_zone_is_the_same_range(store: Store, rows: pl.DataFrame) -> None:
    zone = datetime.fromisoformat("2026-01-01T00:00:00+09:00").tzinfo
    answer = run_panel(store, SPEND, SINCE.astimezone(zone), facts.UNTIL.astimezone(zone))
    assert answer["value"][0] == total(rows, "cost_usd")


def test_an_hour_without_gpu_readings_is_a_gap_and_not_zero(store: Store) -> None:
    readings = ask(store, "gpu_utilization")
    assert readings["value"][-1] is None
    assert readings["value"][:-1].min() == pytest.approx(0.25)


def test_incidents_show_their_newest_state_unresolved_first(store: Store) -> None:
    answer = run_panel(store, INCIDENTS, SINCE, facts.UNTIL)
    assert answer["state"].to_list() == ["open", "resolved"]
    assert ask(store, "open_incidents")["value"][0] == 1


def test_an_incident_resolved_before_the_range_is_not_listed(store: Store) -> None:
    answer = run_panel(store, INCIDENTS, facts.UNTIL - timedelta(hours=1), facts.UNTIL)
    assert answer["state"].to_list() == ["open"]


def test_values_to_filter_by_come_dearest_first(store: Store, rows: pl.DataFrame) -> None:
    spend = {key: total(group, "cost_usd") for (key,), group in rows.group_by("endpoint")}
    assert dimension_values(store, SINCE, facts.UNTIL)["endpoint"] == sorted(spend, key=spend.__getitem__, reverse=True)


def test_panels_do_not_overlap_on_any_board() -> None:
    for board in BOARDS:
        cells = [
            (x, y)
            for placed in board.panels
            for x in range(placed.x, placed.x + placed.width)
            for y in range(placed.y, placed.y + placed.height)
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24
