from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from analytics.ledger import recompute
from analytics.report import CallFilters, UnknownDimensionError, calls, report
from analytics.settings import LedgerSettings
from storage import EmbeddedLocation, Store
from tests.analytics.spans import START, Span, insert_spans

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[2].parent / "shared" / "data"
END = START + timedelta(days=2)
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
PERIOD = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def usage(input_tokens: int, output_tokens: int, cached: int) -> dict[str, object]:
    return {
        "gen_ai.usage.input_tokens": input_tokens,
        "gen_ai.usage.output_tokens": output_tokens,
        "gen_ai.usage.cache_read.input_tokens": cached,
    }


SPANS = [
    Span("a", CHAT | usage(1000, 100, 600) | {"gen_ai.request.model": "gpt-4.1", "pennytrace.endpoint": "/a"}, "1"),
    Span("b", CHAT | usage(3000, 100, 0) | {"gen_ai.request.model": "gpt-4.1", "pennytrace.endpoint": "/a"}, "2"),
    Span("c", CHAT | {"gen_ai.request.model": "gpt-4.1", "pennytrace.endpoint": "/b"}, "3"),
    Span("d", CHAT | {"gen_ai.request.model": "gpt-4.1", "pennytrace.endpoint": "/b"}, "4", is_error=True),
]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("store")))
    yield store
    store.close()


@pytest.fixture
def store(empty_store: Store) -> Store:
    for table in ("spans", "dirty_hours", "hour_runs", "calls_by_generation", "cost_hourly_by_generation"):
        empty_store.execute(f"TRUNCATE TABLE {table}")
    return empty_store


@pytest.fixture
def shop(store: Store) -> Store:
    insert_spans(store, SPANS)
    recompute(store, LedgerSettings(), lambda: START)
    return store


def test_a_report_groups_by_dimensions_dearest_first(shop):
    first, second = report(shop, ["endpoint", "model"], START, END).rows.to_dicts()
    assert (first["endpoint"], first["model"], first["requests"], first["calls"]) == ("/a", "gpt-4.1", 2, 2)
    assert first["cost_usd"] == Decimal("0.0087")
    assert first["cost_per_1k_requests_usd"] == Decimal("4.35")
    assert first["cache_hit_ratio"] == 0.15
    assert (second["requests"], second["calls"], second["unpriced_calls"], second["failed_calls"]) == (2, 1, 1, 1)
    assert second["cache_hit_ratio"] is None


def test_totals_are_those_of_the_rows(shop):
    found = report(shop, ["endpoint"], START, END)
    rows, total = found.rows, found.totals
    for name in ("requests", "calls", "input_tokens", "output_tokens", "cost_usd", "unpriced_calls", "failed_calls"):
        assert total[name] == rows[name].sum()
    assert report(shop, (), START, END).rows.to_dicts() == [total]


def test_a_ratio_without_a_denominator_is_unknown(store):
    total = report(store, (), *PERIOD).totals
    assert (total["requests"], total["cost_usd"]) == (0, 0)
    assert (total["cost_per_1k_requests_usd"], total["cache_hit_ratio"]) == (None, None)
    assert report(store, ["endpoint"], *PERIOD).rows.is_empty()


def test_a_group_without_any_price_has_unknown_dollars_and_comes_last(shop):
    """phoenix#8213: unknown models shown as free."""
    *_, unpriced = report(shop, ["endpoint"], START, END).rows.to_dicts()
    assert (unpriced["endpoint"], unpriced["calls"], unpriced["unpriced_calls"]) == ("/b", 1, 1)
    assert (unpriced["cost_usd"], unpriced["cost_per_1k_requests_usd"], unpriced["cost_per_1k_calls_usd"]) == (
        None,
    ) * 3
    assert report(shop, (), START, END).totals["cost_usd"] == Decimal("0.0087")


def test_a_group_by_model_has_its_cost_per_thousand_calls(store):
    chat = CHAT | usage(1000, 100, 0) | {"pennytrace.endpoint": "/a"}
    insert_spans(
        store,
        [
            Span("a", chat | {"gen_ai.request.model": "gpt-4.1-mini"}),
            Span("b", chat | {"gen_ai.request.model": "gpt-4.1"}, started_at=START + timedelta(seconds=2)),
            Span("c", chat | {"gen_ai.request.model": "gpt-4.1"}, started_at=START + timedelta(seconds=4)),
        ],
    )
    recompute(store, LedgerSettings(), lambda: START)
    dear, _ = report(store, ["model"], START, END).rows.to_dicts()
    assert (dear["requests"], dear["calls"], dear["cost_per_1k_requests_usd"]) == (0, 2, None)
    assert dear["cost_per_1k_calls_usd"] == Decimal("2.8")


def test_the_hit_ratio_of_the_prompt_cache_is_of_the_input_of_calls_that_report_reads(store):
    silent = {name: count for name, count in usage(7000, 100, 0).items() if "cache" not in name}
    chat = CHAT | {"gen_ai.request.model": "gpt-4.1"}
    insert_spans(
        store,
        [
            Span("a", chat | usage(1000, 100, 600) | {"pennytrace.endpoint": "/a"}, "1"),
            Span("b", chat | silent | {"pennytrace.endpoint": "/a"}, "2"),
            Span("c", chat | silent | {"pennytrace.endpoint": "/b"}, "3"),
        ],
    )
    recompute(store, LedgerSettings(), lambda: START)
    ratios = report(store, ["endpoint"], START, END).rows.select("endpoint", "cache_hit_ratio")
    assert dict(ratios.iter_rows()) == {"/a": 0.6, "/b": None}


def test_answers_of_the_applications_cache_are_a_share_of_all_answers(store):
    hit = {"pennytrace.span.kind": "cache", "pennytrace.response_cache.hit": True, "gen_ai.request.model": "gpt-4.1"}
    known = hit | {"gen_ai.provider.name": "openai", "pennytrace.endpoint": "/known"} | usage(1000, 100, 0)
    hits = [Span(f"h{n}", known, "1", started_at=START + timedelta(seconds=n)) for n in range(3)]
    call = CHAT | usage(1000, 100, 0) | {"gen_ai.request.model": "gpt-4.1", "pennytrace.endpoint": "/known"}
    insert_spans(store, [*hits, Span("c", call, "1"), Span("u", hit | {"pennytrace.endpoint": "/unknown"}, "2")])
    recompute(store, LedgerSettings(), lambda: START)
    found = {row["endpoint"]: row for row in report(store, ["endpoint"], START, END).rows.to_dicts()}
    assert found["/known"]["response_cache_hit_ratio"] == 0.75
    assert found["/known"]["saved_usd"] == Decimal("0.0084")
    assert (found["/unknown"]["response_cache_hit_ratio"], found["/unknown"]["saved_usd"]) == (1.0, None)


@pytest.mark.parametrize(
    ("since", "until", "requests"), [(30, 59, 4), (59, 60, 4), (60, 120, 0), (-60, 0, 0), (-1, 1, 4)]
)
def test_a_period_counts_whole_hours_from_the_one_that_it_begins_in(shop, since, until, requests):
    totals = report(shop, (), START + timedelta(minutes=since), START + timedelta(minutes=until)).totals
    assert totals["requests"] == requests


def test_an_unknown_dimension_is_refused_with_those_that_exist(store):
    with pytest.raises(UnknownDimensionError, match=r"service, .*tier; got 'endpoint; DROP'"):
        report(store, ["endpoint; DROP"], START, END)


def test_calls_are_the_billed_ones_with_the_canonical_names(shop):
    rows = calls(shop, *PERIOD).sort("span_id").to_dicts()
    assert Counter(row["endpoint"] for row in rows) == {"/a": 2, "/b": 1}
    priced = next(row for row in rows if row["cache_read_tokens"] == 600)
    assert priced["cost_usd"] == sum(priced["cost_parts"].values()) == Decimal("0.0019")
    assert priced["unpriced_reason"] is None
    assert (len(priced["trace_id"]), len(priced["span_id"]), priced["duration_ms"]) == (32, 16, 1000.0)
    unpriced = next(row for row in rows if row["endpoint"] == "/b")
    assert (unpriced["cost_usd"], unpriced["cost_parts"]) == (None, None)
    assert unpriced["unpriced_reason"] == "no usage reported"


def test_calls_can_be_filtered_and_limited(shop):
    assert calls(shop, *PERIOD, filters=CallFilters(endpoint=["/b", "/c"])).height == 1
    assert calls(shop, *PERIOD, filters=CallFilters(endpoint=["/a"], model=["other"])).height == 0
    assert calls(shop, *PERIOD, limit=2).height == 2
    assert calls(shop, START + timedelta(seconds=1), END).height == 0


@pytest.mark.parametrize("name", ["code", "conv"])
def test_the_azure_traces_cost_what_an_independent_sum_says(store, name):
    path = DATA / f"azure_llm_2023_{name}.parquet"
    if not path.exists():
        pytest.skip("needs the shared data folder")
    trace = pl.read_parquet(path).with_columns(
        pl.col("TIMESTAMP").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_zone="UTC").alias("at")
    )
    insert_spans(
        store,
        (
            Span(
                str(row),
                CHAT | usage(sent, made, 0) | {"gen_ai.request.model": "gpt-4o", "pennytrace.endpoint": "/azure"},
                trace=str(row),
                started_at=at,
            )
            for row, (sent, made, at) in enumerate(trace.select("ContextTokens", "GeneratedTokens", "at").iter_rows())
        ),
    )
    recompute(store, LedgerSettings(), lambda: START)
    total = report(store, (), *PERIOD).totals
    sent, made = trace["ContextTokens"].sum(), trace["GeneratedTokens"].sum()
    assert (total["requests"], total["calls"], total["unpriced_calls"]) == (len(trace), len(trace), 0)
    assert (total["input_tokens"], total["output_tokens"]) == (sent, made)
    # No price is older than a model's first known one: gpt-4o at $2.50 and $10 per million tokens.
    assert total["cost_usd"] == (sent * Decimal("2.5") + made * Decimal(10)) / 1_000_000
