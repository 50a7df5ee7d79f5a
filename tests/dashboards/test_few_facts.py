"""Panels on a store without a row, and then on few rows: without a price, cut hours, odd numbers."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from dashboards.answers import Range, answer_json, columns_json
from dashboards.catalogue import GPU_UTILIZATION, INVOCATIONS, SPEND, all_panels, panel_named
from dashboards.read import Filters, dimension_values, run_panel
from storage.sql_endpoint.allowed import TABLES
from tests.dashboards import facts

if TYPE_CHECKING:
    from dashboards.panel import Panel
    from storage import Store

SINCE = facts.UNTIL - timedelta(days=7)
UNPRICED_HOUR = facts.UNTIL + timedelta(days=30)


def ask(store: Store, name: str, until_days: int = 0) -> pl.DataFrame:
    panel = panel_named(name)
    assert panel is not None
    moved = timedelta(days=until_days)
    return run_panel(store, panel, SINCE + moved, facts.UNTIL + moved)


def test_an_empty_store_has_no_numbers_and_no_invented_zeros(empty_store: Store) -> None:
    for panel in all_panels():
        answer = ask(empty_store, panel.name, until_days=-100)
        if panel.name == "open_incidents":
            assert answer["value"].to_list() == [0]
        else:
            assert answer.to_dict(as_series=False).get("value", []) in ([], [None]), panel.name
    values = dimension_values(empty_store, SINCE - timedelta(days=100), facts.UNTIL - timedelta(days=100))
    assert values == {"service": [], "endpoint": [], "model": [], "tenant": []}


USD_PANELS = [panel for panel in all_panels() if panel.unit == "usd" and panel.name != "incidents"]


@pytest.mark.parametrize("panel", USD_PANELS, ids=lambda panel: panel.name)
def test_no_dollar_panel_draws_a_zero_where_nothing_has_a_price(empty_store: Store, panel: Panel) -> None:
    facts.insert_costs(empty_store, facts.unpriced_rows(UNPRICED_HOUR))
    answer = run_panel(empty_store, panel, UNPRICED_HOUR, UNPRICED_HOUR + timedelta(hours=1))
    money = [column.name for column in panel.columns if column.unit == "usd"] or ["value"]
    assert [answer[name].drop_nulls().to_list() for name in money] == [[]] * len(money)
    assert answer.height == (0 if panel.name == "gpu_idle_by_service" else 1)


def test_the_share_of_unpriced_calls_is_known_where_nothing_has_a_price(empty_store: Store) -> None:
    hour = facts.UNTIL + timedelta(days=50)
    facts.insert_costs(empty_store, facts.unpriced_rows(hour))
    assert ask(empty_store, "unpriced_share", until_days=51)["value"].to_list() == [1.0]


def test_the_prompt_cache_is_unknown_where_no_provider_reported_reads(empty_store: Store) -> None:
    hour = facts.UNTIL + timedelta(days=70)
    facts.insert_costs(empty_store, facts.unpriced_rows(hour))
    assert ask(empty_store, "prompt_cache_hit_ratio", until_days=71)["value"].to_list() == [None]
    assert ask(empty_store, "spend_table", until_days=71)["cache_hit_ratio"].to_list() == [None]
    ratios = ask(empty_store, "cache_hit_ratio", until_days=71).filter(series="prompt cache")
    assert ratios["value"].to_list() == [None]


def test_the_response_cache_answers_at_most_everything(empty_store: Store) -> None:
    hour = facts.UNTIL + timedelta(days=90)
    row = facts.priced_row(hour, 1, calls=0).with_columns(requests=pl.lit(1), response_cache_hits=pl.lit(5))
    facts.insert_costs(empty_store, row)
    ratios = ask(empty_store, "cache_hit_ratio", until_days=91).filter(series="response cache")
    assert ratios["value"].to_list() == [1.0]


@pytest.mark.parametrize("minutes", [60, 45, 15])
def test_the_rate_of_an_hour_that_is_not_over_counts_the_minutes_so_far(empty_store: Store, minutes: int) -> None:
    hour = datetime(2090, minutes // 15, 1, 12, tzinfo=UTC)  # no machine's clock is past it
    facts.insert_costs(empty_store, facts.priced_row(hour, 1, calls=900))
    until = hour + timedelta(minutes=minutes)
    answer = run_panel(empty_store, INVOCATIONS, hour - timedelta(hours=30), until, 6 * 3600)
    assert answer["value"].to_list() == [pytest.approx(900 / minutes)]


def test_the_rate_of_an_hour_that_is_over_is_of_the_whole_hour_however_the_range_cuts_it(empty_store: Store) -> None:
    hour = datetime(2020, 1, 1, 12, tzinfo=UTC)
    facts.insert_costs(empty_store, facts.priced_row(hour, 1, calls=900))
    cut = run_panel(
        empty_store, INVOCATIONS, hour + timedelta(minutes=50), hour + timedelta(minutes=51), step_seconds=86_400
    )
    assert cut["value"].to_list() == [15.0]


def test_one_reading_that_is_not_a_number_leaves_the_others_mean(empty_store: Store) -> None:
    hour = datetime(2021, 1, 1, 12, tzinfo=UTC)
    readings = pl.DataFrame(
        {
            "hour": hour, "generation": 1, "service": "llama", "replica": ["a", "b", "c", "d"], "gpu_id": "0",
            "samples": [9000, 1, 60, 60], "utilization_mean": [0.2, 0.4, float("nan"), float("inf")],
        }
    )  # fmt: skip
    empty_store.insert("gpu_hourly_by_generation", readings)
    facts.finish_hours(empty_store, [hour])
    answer = run_panel(empty_store, GPU_UTILIZATION, hour, hour + timedelta(hours=1))
    assert answer["value"].to_list() == [pytest.approx(0.3)]


def test_a_number_that_json_has_no_word_for_is_unknown() -> None:
    frame = pl.DataFrame({"value": [1.5, float("nan"), float("inf"), float("-inf"), None]})
    assert columns_json(frame) == {"value": [1.5, None, None, None, None]}


def test_a_tile_compares_as_many_whole_hours_that_do_not_overlap(empty_store: Store) -> None:
    now = datetime(2022, 1, 3, 12, 59, tzinfo=UTC)
    hours = [now.replace(minute=0) - timedelta(hours=ago) for ago in range(72)]
    facts.insert_costs(empty_store, pl.concat([facts.priced_row(hour, 1) for hour in hours]))
    answer = answer_json(empty_store, SPEND, Range.parse("24h", "", now), Filters())
    assert Decimal(answer["columns"]["value"][0]) == 25  # the running hour and the one that the range cuts too
    compared = answer["compared"]
    assert compared["hours"] == 24
    assert [Decimal(compared[side][0]) for side in ("value", "before")] == [24, 24]


def test_a_range_of_less_than_an_hour_is_compared_with_nothing(empty_store: Store) -> None:
    hour = datetime(2022, 1, 20, 12, tzinfo=UTC)
    asked = Range(hour + timedelta(minutes=1), hour + timedelta(minutes=50))
    assert "compared" not in answer_json(empty_store, SPEND, asked, Filters())


def test_a_recomputed_hour_shows_its_newest_generation_only(empty_store: Store) -> None:
    hour = facts.UNTIL + timedelta(days=150)
    for generation, dollars in ((1, 5), (2, 3)):
        row = facts.priced_row(hour, dollars).with_columns(generation=pl.lit(generation))
        facts.insert_costs(empty_store, row)
    assert ask(empty_store, "spend", until_days=151)["value"].to_list() == [Decimal(3)]


def test_endpoints_past_the_eight_dearest_are_one_series(empty_store: Store) -> None:
    hour = facts.UNTIL + timedelta(days=250)
    many = pl.concat(
        facts.priced_row(hour, number).with_columns(endpoint=pl.lit(f"/{number}")) for number in range(1, 13)
    )
    facts.insert_costs(empty_store, many)
    series = ask(empty_store, "spend_by_endpoint", until_days=251)
    assert series.height == 9
    assert series.filter(series="(other)")["value"].to_list() == [Decimal(1 + 2 + 3 + 4)]
    assert sum(series["value"].to_list(), Decimal()) == Decimal(78)


@pytest.mark.parametrize("name", ["spend", "requests"])
def test_a_far_future_range_is_empty_and_not_an_error(empty_store: Store, name: str) -> None:
    assert ask(empty_store, name, until_days=20_000)["value"].to_list() == [None]


def test_the_tables_that_a_reader_may_ask_exist_and_are_documented(empty_store: Store) -> None:
    exist = empty_store.frame_of("SELECT name FROM system.tables WHERE database = currentDatabase()")["name"]
    assert set(exist) >= TABLES
    text = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()
    listed = re.search(r"tables of Pennytrace: `([\w\s]+)`", text)
    assert listed
    assert set(listed[1].split()) == TABLES
