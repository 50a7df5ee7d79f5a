from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from analytics.ledger import recompute
from analytics.report import CallFilters, UnknownDimensionError, calls, report, totals
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
    first, second = report(shop, ["endpoint", "model"], START, END).to_dicts()
    assert (first["endpoint"], first["model"], first["requests"], first["calls"]) == ("/a", "gpt-4.1", 2, 2)
    assert first["cost_usd"] == Decimal("0.0087")
    assert first["cost_per_1k_requests_usd"] == Decimal("4.35")
    assert first["cache_hit_ratio"] == 0.15
    assert (second["requests"], second["calls"], second["unpriced_calls"], second["failed_calls"]) == (2, 1, 1, 1)
    assert second["cache_hit_ratio"] is None


def test_totals_are_those_of_the_rows(shop):
    rows, total = report(shop, ["endpoint"], START, END), totals(shop, START, END)
    for name in ("requests", "calls", "input_tokens", "output_tokens", "cost_usd", "unpriced_calls", "failed_calls"):
        assert total[name] == rows[name].sum()


def test_a_ratio_without_a_denominator_is_unknown(store):
    total = totals(store, *PERIOD)
    assert (total["requests"], total["cost_usd"]) == (0, 0)
    assert (total["cost_per_1k_requests_usd"], total["cache_hit_ratio"]) == (None, None)
    assert report(store, ["endpoint"], *PERIOD).is_empty()


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
    total = totals(store, *PERIOD)
    sent, made = trace["ContextTokens"].sum(), trace["GeneratedTokens"].sum()
    assert (total["requests"], total["calls"], total["unpriced_calls"]) == (len(trace), len(trace), 0)
    assert (total["input_tokens"], total["output_tokens"]) == (sent, made)
    # No price is older than a model's first known one: gpt-4o at $2.50 and $10 per million tokens.
    assert total["cost_usd"] == (sent * Decimal("2.5") + made * Decimal(10)) / 1_000_000
