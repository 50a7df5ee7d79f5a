from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

import polars as pl
import pytest
from genai_prices import Usage, calc_price, data_snapshot
from genai_prices.types import ModelPrice

from analytics.ledger.prices import PriceBook
from analytics.ledger.pricing import PARTS, with_costs
from tests.analytics.spans import START, Span, insert_spans

PICODOLLAR = Decimal("0.000000000001")
CHAT = {"gen_ai.operation.name": "chat"}
TOKEN_COLUMNS = (
    "input_tokens",
    "fresh_input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def make_calls(rows: list[dict[str, object]]) -> pl.DataFrame:
    plain = {"tier": "", "operation": "chat", "usage_note": "", "billable": True, "response_cache_hit": False}
    frame = pl.DataFrame([plain | row | {"row": number} for number, row in enumerate(rows)])
    return frame.with_columns(
        pl.col(*TOKEN_COLUMNS).cast(pl.Int64),
        pl.col("started_at").dt.cast_time_unit("ns"),
        pl.col("row").cast(pl.Int64),
    )


def random_call(rng: random.Random, provider: str, model: str) -> dict[str, object]:
    read, short, long, fresh = (rng.choice([0, rng.randrange(300_000)]) for _ in range(4))
    output = rng.randrange(100_000)
    return {
        "provider": provider,
        "model": model,
        "tier": rng.choice(["", "default", "batch", "flex", "priority"]),
        "started_at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(60 * 24 * 900)),
        "input_tokens": read + short + long + fresh,
        "fresh_input_tokens": fresh,
        "cache_read_tokens": read,
        "cache_write_5m_tokens": short,
        "cache_write_1h_tokens": long,
        "output_tokens": output,
        "reasoning_tokens": rng.choice([0, rng.randrange(output + 1)]),
    }


def independent_cost(call: dict[str, object]) -> Decimal:
    """What genai-prices itself says of one call."""
    usage = Usage(
        input_tokens=call["input_tokens"],
        cache_read_tokens=call["cache_read_tokens"],
        cache_write_tokens=call["cache_write_5m_tokens"] + call["cache_write_1h_tokens"],
        cache_write_5m_tokens=call["cache_write_5m_tokens"],
        cache_write_1h_tokens=call["cache_write_1h_tokens"],
        output_tokens=call["output_tokens"],
        output_reasoning_tokens=call["reasoning_tokens"],
    )
    tier = call["tier"]
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier} if tier else None
    return calc_price(
        usage,
        call["model"],
        provider_id=call["provider"],
        genai_request_timestamp=call["started_at"],
        price_context=context,
    ).total_price


@cache
def token_priced_models() -> list[tuple[str, str]]:
    found = []
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            prices = model.prices if isinstance(model.prices, ModelPrice) else model.prices[0].prices
            first = next((known for known in provider.models if known.is_match(model.id)), None)
            if first is model and (prices.input_mtok is not None or prices.output_mtok is not None):
                found.append((provider.id, model.id))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_costs_equal_genai_prices_for_any_usage_of_any_model(seed):
    rng = random.Random(seed)
    rows = [random_call(rng, *rng.choice(token_priced_models())) for _ in range(400)]
    priced = with_costs(make_calls(rows), PriceBook())
    assert set(priced["unpriced_reason"]) == {""}
    for call, cost in zip(rows, priced["cost_usd"], strict=True):
        assert abs(cost - independent_cost(call)) < PICODOLLAR, call


def test_the_parts_add_up_to_the_cost_exactly():
    rng = random.Random(4)
    rows = [random_call(rng, *rng.choice(token_priced_models())) for _ in range(1000)]
    priced = with_costs(make_calls(rows), PriceBook())
    for row in priced.iter_rows(named=True):
        parts = [row[f"cost_{part}_usd"] for part in PARTS]
        assert sum(parts) == row["cost_usd"]
        assert min(parts) >= 0


def one_cost(**call: object) -> Decimal | None:
    plain = dict.fromkeys(TOKEN_COLUMNS, 0) | {"provider": "openai", "model": "gpt-4.1", "started_at": START}
    return with_costs(make_calls([plain | call]), PriceBook())["cost_usd"][0]


def test_a_call_costs_what_it_cost_at_the_time_of_the_call():
    """langfuse#12184, agentsview#1540: o3 fell from $10 to $2 in June 2025."""
    million = {"input_tokens": 1_000_000, "fresh_input_tokens": 1_000_000, "model": "o3"}
    assert one_cost(**million, started_at=datetime(2025, 6, 1, tzinfo=UTC)) == 10
    assert one_cost(**million, started_at=datetime(2025, 7, 1, tzinfo=UTC)) == 2


def test_cached_tokens_cost_their_own_rate():
    """phoenix#13379, phoenix#10036, litellm#11364: cached tokens charged as output or as fresh input."""
    sonnet = {"provider": "anthropic", "model": "claude-sonnet-4-5", "input_tokens": 100_000}
    assert one_cost(**sonnet, cache_read_tokens=100_000) == Decimal("0.03")
    assert one_cost(**sonnet, cache_write_5m_tokens=100_000) == Decimal("0.375")
    assert one_cost(**sonnet, cache_write_1h_tokens=100_000) == Decimal("0.6")


def test_a_long_context_puts_the_whole_call_on_the_higher_rate():
    sonnet = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
    assert one_cost(**sonnet, input_tokens=200_000, fresh_input_tokens=200_000) == Decimal("0.6")
    assert one_cost(**sonnet, input_tokens=200_001, fresh_input_tokens=200_001) == Decimal("1.200006")


def test_a_price_by_the_time_of_day_changes_within_the_day():
    rng = random.Random(0)
    at = [datetime(2026, 10, 1, hour, minute, tzinfo=UTC) for hour in range(24) for minute in (0, 29, 30, 59)]
    rows = [random_call(rng, "deepseek", "deepseek-v4-flash") | {"started_at": moment, "tier": ""} for moment in at]
    costs = with_costs(make_calls(rows), PriceBook())["cost_usd"]
    assert [abs(cost - independent_cost(row)) < PICODOLLAR for cost, row in zip(costs, rows, strict=True)] == [
        True
    ] * 96
    same = [
        row | {"input_tokens": 100, "fresh_input_tokens": 100} | dict.fromkeys(TOKEN_COLUMNS[2:], 0) for row in rows
    ]
    assert with_costs(make_calls(same), PriceBook())["cost_usd"].n_unique() > 1


def test_an_unknown_model_is_unpriced_and_the_nearest_names_are_known(store, ledger):
    usage = {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 5}
    insert_spans(
        store,
        [Span("a", CHAT | usage | {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1-minni"})],
    )
    [call] = ledger().to_dicts()
    assert call["cost_usd"] is None
    assert call["unpriced_reason"] == "no price for model 'gpt-4.1-minni' of provider 'openai'"
    assert PriceBook().nearest_names("openai", "gpt-4.1-minni")[0] == "gpt-4.1-mini"


def test_a_model_of_a_provider_that_nobody_knows_is_not_priced_as_somebody_elses(store, ledger):
    """langfuse#3794: a self-hosted model shown at $0."""
    usage = {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 5}
    insert_spans(store, [Span("a", CHAT | usage | {"gen_ai.provider.name": "vllm", "gen_ai.request.model": "gpt-4.1"})])
    assert ledger()["unpriced_reason"].to_list() == ["no price for model 'gpt-4.1' of provider 'vllm'"]


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        ({"input_tokens": 5}, "output tokens not reported"),
        ({"output_tokens": 5}, "input tokens not reported"),
        ({"input_tokens": 900_000_000, "output_tokens": 900_000_000}, ""),
    ],
)
def test_half_known_usage_is_not_priced(store, ledger, usage, reason):
    sent = {f"gen_ai.usage.{name}": count for name, count in usage.items()}
    insert_spans(
        store, [Span("a", CHAT | sent | {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1"})]
    )
    assert ledger()["unpriced_reason"].to_list() == [reason]


def test_priced_calls_know_their_price_version(store, ledger):
    usage = {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 5}
    insert_spans(
        store, [Span("a", CHAT | usage | {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1"})]
    )
    assert ledger()["price_version"].to_list() == [PriceBook().version]
    assert PriceBook().version.startswith("genai-prices ")
