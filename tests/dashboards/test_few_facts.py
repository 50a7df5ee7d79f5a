"""Panels on a store without a row, and then on rows that have no price."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest

from dashboards.catalogue import all_panels, panel_named
from dashboards.read import dimension_values, run_panel
from tests.dashboards import facts

if TYPE_CHECKING:
    from storage import Store

SINCE = facts.UNTIL - timedelta(days=7)


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


def test_spend_is_unknown_where_no_call_has_a_price(empty_store: Store) -> None:
    row = facts.cost_rows(1).head(1).with_columns(
        hour=pl.lit(facts.UNTIL) + pl.duration(days=50),
        unpriced_calls=pl.col("calls"),
        cost_usd=pl.lit(Decimal(0), facts.MONEY),
    )  # fmt: skip
    facts.insert_costs(empty_store, row)
    for name in ("spend", "cost_per_1k_requests", "cost_per_1k_requests_by_endpoint"):
        assert ask(empty_store, name, until_days=51)["value"].to_list() == [None]
    assert ask(empty_store, "unpriced_share", until_days=51)["value"].to_list() == [1.0]
    assert ask(empty_store, "spend_table", until_days=51)["spend_usd"].to_list() == [None]


def test_a_recomputed_hour_shows_its_newest_generation_only(empty_store: Store) -> None:
    hour = facts.UNTIL + timedelta(days=150)
    for generation, dollars in ((1, 5), (2, 3)):
        row = facts.cost_rows(1).head(1).with_columns(
            hour=pl.lit(hour), generation=generation, cost_usd=pl.lit(Decimal(dollars), facts.MONEY), unpriced_calls=0
        )  # fmt: skip
        facts.insert_costs(empty_store, row)
    assert ask(empty_store, "spend", until_days=151)["value"].to_list() == [Decimal(3)]


def test_endpoints_past_the_eight_dearest_are_one_series(empty_store: Store) -> None:
    row = facts.cost_rows(1).head(1)
    hour = facts.UNTIL + timedelta(days=250)
    many = pl.concat(
        row.with_columns(
            hour=pl.lit(hour), endpoint=pl.lit(f"/{number}"), cost_usd=pl.lit(Decimal(number), facts.MONEY)
        )
        for number in range(1, 13)
    )
    facts.insert_costs(empty_store, many)
    series = ask(empty_store, "spend_by_endpoint", until_days=251)
    assert series.height == 9
    assert series.filter(series="(other)")["value"].to_list() == [Decimal(1 + 2 + 3 + 4)]
    assert sum(series["value"].to_list(), Decimal()) == Decimal(78)


@pytest.mark.parametrize("name", ["spend", "requests"])
def test_a_far_future_range_is_empty_and_not_an_error(empty_store: Store, name: str) -> None:
    assert ask(empty_store, name, until_days=20_000)["value"].to_list() == [None]
