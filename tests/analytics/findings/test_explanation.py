"""The split of a change into drivers: exact, without a preferred order, and right where the answer is known."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.findings import explain_change
from analytics.findings.explanation import OTHER, apportion, explain_cost_per_request
from analytics.findings.facts import typed
from tests.analytics.findings.traffic import START, as_read, commit, frame, row

if TYPE_CHECKING:
    import polars as pl

    from storage import Store

MICRO = Decimal("0.000001")


def usage(
    model: str, calls: int, tokens: tuple[int, int, int], prices: tuple[int, int, int], **more: Any
) -> dict[str, Any]:
    """A row with `calls` calls of (fresh, cached, output) tokens at prices in millionths of a dollar."""
    fresh, read, output = (count * calls for count in tokens)
    dollars = [count * price * MICRO for count, price in zip((fresh, read, output), prices, strict=True)]
    known: dict[str, Any] = {
        "endpoint": "/a",
        "model": model,
        "requests": calls,
        "calls": calls,
        "input_tokens": fresh + read,
        "cache_reporting_input_tokens": fresh + read,
        "fresh_input_tokens": fresh,
        "cache_read_tokens": read,
        "output_tokens": output,
        "cost_usd": sum(dollars) + more.get("cost_gpu_busy_usd", Decimal(0)),
        "cost_fresh_input_usd": dollars[0],
        "cost_cache_read_usd": dollars[1],
        "cost_output_usd": dollars[2],
    }
    return row(START, **(known | more))


def read(*rows: dict[str, Any]) -> pl.DataFrame:
    return typed(as_read(frame(list(rows))))


PRICES = (3, 1, 15)
PLAIN = usage("m", 100, (1000, 500, 200), PRICES)

counts = st.integers(0, 3000)
one_model = st.builds(
    usage,
    st.sampled_from(["a", "b", "c", "d"]),
    st.integers(0, 500),
    st.tuples(counts, counts, counts),
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)),
    response_cache_hits=st.integers(0, 600),
    cost_gpu_busy_usd=st.decimals(0, 100, places=9).map(Decimal),
)
some_rows = st.lists(one_model, min_size=1, max_size=5)
requests = st.integers(1, 2000)


def with_requests(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [{**row, "requests": count if place == 0 else 0} for place, row in enumerate(rows)]


@settings(max_examples=150, deadline=None)
@given(some_rows, requests, some_rows, requests)
def test_the_parts_add_up_to_the_change_exactly(
    before: list[dict[str, Any]], requests_before: int, after: list[dict[str, Any]], requests_after: int
) -> None:
    old, new = read(*with_requests(before, requests_before)), read(*with_requests(after, requests_after))
    explanation = explain_cost_per_request(old, new)
    assert sum(explanation.parts_usd.values(), Decimal(0)) == explanation.change_usd
    expected = Decimal(explanation.cost_usd) - explanation.baseline_cost_usd * requests_after / requests_before
    assert abs(explanation.change_usd - expected) <= MICRO


@settings(max_examples=50, deadline=None)
@given(some_rows, some_rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_models_does_not_matter(
    before: list[dict[str, Any]], after: list[dict[str, Any]], random: Any
) -> None:
    before, after = with_requests(before, 50), with_requests(after, 70)
    straight = explain_cost_per_request(read(*before), read(*after))
    random.shuffle(before)
    random.shuffle(after)
    assert explain_cost_per_request(read(*before), read(*after)).parts_usd == straight.parts_usd


@settings(max_examples=50, deadline=None)
@given(some_rows)
def test_swapping_before_and_after_turns_every_part_around(rows: list[dict[str, Any]]) -> None:
    old, new = read(PLAIN), read(*with_requests(rows, 100))
    there, back = explain_cost_per_request(old, new).parts_usd, explain_cost_per_request(new, old).parts_usd
    assert set(there) == set(back)
    assert all(abs(there[name] + back[name]) <= 10 * MICRO for name in there)


@pytest.mark.parametrize(
    ("driver", "changed"),
    [
        ("input_tokens", usage("m", 100, (2000, 1000, 200), PRICES)),
        ("output_tokens", usage("m", 100, (1000, 500, 400), PRICES)),
        ("prompt_cache", usage("m", 100, (1400, 100, 200), PRICES)),
        ("prompt_cache", usage("m", 100, (1500, 0, 200), PRICES)),
        ("unit_price", usage("m", 100, (1000, 500, 200), (4, 1, 20))),
        ("retries", usage("m", 150, (1000, 500, 200), PRICES, requests=100)),
        ("response_cache", usage("m", 40, (1000, 500, 200), PRICES, requests=100, response_cache_hits=60)),
        (
            "gpu_utilisation",
            usage("m", 100, (1000, 500, 200), PRICES, cost_gpu_busy_usd=Decimal(7)),
        ),
    ],
)
def test_a_change_of_one_driver_is_all_its_own(driver: str, changed: dict[str, Any]) -> None:
    explanation = explain_cost_per_request(read(PLAIN), read(changed))
    assert explanation.change_usd != 0
    assert explanation.parts_usd[driver] == explanation.change_usd


def test_a_new_model_is_a_change_of_mix_and_not_of_tokens_or_prices() -> None:
    small, large = (1000, 0, 100), (4000, 0, 900)
    before = read(usage("small", 100, small, PRICES))
    after = read(usage("small", 60, small, PRICES), usage("large", 40, large, (9, 9, 50)))
    explanation = explain_cost_per_request(before, after)
    assert explanation.parts_usd["model_mix"] == explanation.change_usd > 0


def test_more_requests_at_the_same_cost_are_no_change_of_cost_per_request() -> None:
    explanation = explain_cost_per_request(read(PLAIN), read(usage("m", 700, (1000, 500, 200), PRICES)))
    assert explanation.change_usd == 0
    assert not any(explanation.parts_usd.values())


def test_the_split_is_the_mean_over_both_orders_of_two_drivers() -> None:
    before = read(usage("m", 1, (1000, 0, 0), (2, 0, 0)))
    after = read(usage("m", 1, (3000, 0, 0), (5, 0, 0)))
    parts = explain_cost_per_request(before, after).parts_usd
    # Tokens first: 2000 x 2, then 3000 x 3; price first: 1000 x 3, then 2000 x 5 (millionths of a dollar).
    assert parts["input_tokens"] == (4000 + 10000) * MICRO / 2
    assert parts["unit_price"] == (9000 + 3000) * MICRO / 2


def test_several_cached_answers_in_a_request_are_still_split_exactly() -> None:
    agent = usage("m", 30, (1000, 0, 100), PRICES, requests=20, response_cache_hits=50)
    explanation = explain_cost_per_request(read(PLAIN), read(agent))
    assert sum(explanation.parts_usd.values()) == explanation.change_usd
    assert OTHER not in explanation.parts_usd


def test_cost_outside_of_any_call_is_named_as_such() -> None:
    fee = usage("none", 0, (0, 0, 0), PRICES, requests=0, cost_usd=Decimal(5))
    explanation = explain_cost_per_request(read(PLAIN), read(PLAIN, fee))
    assert explanation.parts_usd[OTHER] == explanation.change_usd == 5


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(-1e6, 1e6), min_size=1))
def test_rounding_never_makes_or_loses_a_cent(parts: dict[str, float]) -> None:
    total = sum((Decimal(repr(part)) for part in parts.values()), Decimal(0)).quantize(MICRO)
    split = apportion(parts, total)
    assert sum(split.values()) == total
    assert OTHER not in split
    assert all(abs(split[name] - Decimal(repr(part))) <= 10 * MICRO for name, part in parts.items())


def test_a_change_between_two_windows_has_traffic_as_a_part(store: Store) -> None:
    later = START + timedelta(hours=5)
    doubled = {**usage("m", 200, (1000, 500, 200), PRICES), "hour": later}
    commit(store, frame([PLAIN, doubled]))
    explanation = explain_change(
        store,
        service="shop",
        environment="production",
        endpoint="/a",
        start=later,
        end=later + timedelta(hours=1),
        baseline_start=START,
        baseline_end=START + timedelta(hours=1),
    )
    assert explanation.parts_usd["traffic"] == explanation.change_usd == PLAIN["cost_usd"]


def test_an_endpoint_without_a_baseline_cost_more_because_of_traffic(store: Store) -> None:
    commit(store, frame([PLAIN]))
    explanation = explain_change(
        store,
        service="shop",
        environment="production",
        endpoint="/a",
        start=START,
        end=START + timedelta(hours=1),
        baseline_start=START - timedelta(hours=1),
        baseline_end=START,
    )
    assert explanation.parts_usd["traffic"] == explanation.change_usd == PLAIN["cost_usd"]
