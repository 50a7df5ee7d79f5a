"""Hourly facts for tests, inserted as a finished run of the job leaves them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from storage import Store

UNTIL = datetime(2026, 3, 2, 12, tzinfo=UTC)
# Dollars per million input tokens; None: no known price, and a provider that reports no cache reads.
MODELS: dict[str, Decimal | None] = {
    "gpt-4o-mini": Decimal("0.15"),
    "claude-sonnet-4-5": Decimal(3),
    "gpt-4o": Decimal("2.5"),
    "in-house-7b": None,
}
# The second model that a request calls: its rows have calls and no requests.
SECOND_MODEL = "gpt-4o"
# Requests an hour, at most.
ENDPOINTS = {
    "/v1/chat": 60,
    "/v1/search": 30,
    "/v1/summarise": 20,
    "/v1/classify": 90,
}
# Calls the model without a price alone, so that none of its dollars is known.
UNPRICED_ENDPOINT = "/v1/internal"
HOURS = 14 * 24  # two weeks, so that a week has one before it
MONEY = pl.Decimal(38, 12)


def cost_rows(hours: int, seed: int = 1) -> pl.DataFrame:
    """`hours` hours of cost_hourly rows that end at UNTIL: every endpoint on every model, two tenants.

    A request makes up to three calls or is answered by the response cache; some of either have no price.
    """
    draw = random.Random(seed)
    pairs = [(endpoint, share, model) for endpoint, share in ENDPOINTS.items() for model in MODELS]
    pairs.append((UNPRICED_ENDPOINT, 15, "in-house-7b"))
    return pl.DataFrame(
        [
            _cost_row(draw, UNTIL - timedelta(hours=ago), endpoint, share, model, tenant)
            for ago in range(hours, 0, -1)
            for endpoint, share, model in pairs
            for tenant in ("acme", "globex")
        ],
        schema_overrides=dict.fromkeys(("cost_usd", "cost_fresh_input_usd", "cost_output_usd", "saved_usd"), MONEY),
    )


def _cost_row(
    draw: random.Random, hour: datetime, endpoint: str, share: int, model: str, tenant: str
) -> dict[str, object]:
    requests = draw.randint(share // 2, share)
    # One draw in ten is an hour in which the response cache answered everything.
    hits = requests if draw.random() < 0.1 else draw.randint(0, requests // 2)
    calls = (requests - hits) * draw.randint(1, 3)
    is_priced, rate = MODELS[model] is not None, MODELS[model] or Decimal()
    fresh, read, output = (calls * draw.randint(low, low * 3) for low in (200, 100, 50))
    if not is_priced:
        fresh, read = fresh + read, 0
    input_usd, output_usd = fresh * rate / 1_000_000, output * 4 * rate / 1_000_000
    return {
        "hour": hour,
        "generation": 1,
        "service": "gateway" if endpoint != "/v1/classify" else "batch",
        "endpoint": endpoint,
        "tenant": tenant,
        "model": model,
        "requests": 0 if model == SECOND_MODEL else requests,
        "calls": calls,
        "unpriced_calls": draw.randint(0, min(calls, 1)) if is_priced else calls,
        "response_cache_hits": hits,
        "unpriced_cache_hits": draw.randint(0, min(hits, 1)) if is_priced else hits,
        "input_tokens": fresh + read,
        "cache_reporting_input_tokens": fresh + read if is_priced else 0,
        "fresh_input_tokens": fresh,
        "cache_read_tokens": read,
        "output_tokens": output,
        "cost_usd": input_usd + output_usd,
        "cost_fresh_input_usd": input_usd,
        "cost_output_usd": output_usd,
        "saved_usd": hits * rate / 1000,
    }


def unpriced_rows(hour: datetime) -> pl.DataFrame:
    """An hour whose calls and cache answers all have no price."""
    rows = cost_rows(1).filter(pl.col("endpoint") == UNPRICED_ENDPOINT).head(1)
    return rows.with_columns(
        hour=pl.lit(hour, pl.Datetime("us", "UTC")),
        calls=pl.lit(4),
        unpriced_calls=pl.lit(4),
        response_cache_hits=pl.lit(3),
        unpriced_cache_hits=pl.lit(3),
    )


def priced_row(hour: datetime, cost_usd: int, calls: int = 10) -> pl.DataFrame:
    """One row of an hour, every call of which has a price."""
    return cost_rows(1).head(1).with_columns(
        hour=pl.lit(hour, pl.Datetime("us", "UTC")),
        calls=pl.lit(calls),
        unpriced_calls=pl.lit(0),
        cost_usd=pl.lit(Decimal(cost_usd), MONEY),
    )  # fmt: skip


def finish_hours(store: Store, hours: list[datetime], generation: int = 1) -> None:
    """Commit the generation for these hours."""
    unique = sorted(set(hours))
    store.insert(
        "hour_runs",
        pl.DataFrame({"hour": unique, "generation": generation, "batches_seen": 1, "finished_at": unique}),
    )


def insert_costs(store: Store, rows: pl.DataFrame) -> None:
    """Insert cost rows and commit their hours."""
    store.insert("cost_hourly_by_generation", rows)
    finish_hours(store, rows["hour"].to_list(), int(rows["generation"][0]))


def insert_gpus(store: Store, hours: int) -> None:
    """One replica and its GPU for each hour that has costs; the newest hour has no reading."""
    times = [UNTIL - timedelta(hours=ago) for ago in range(hours, 0, -1)]
    rate = Decimal("12.29")
    idle = [Decimal(index % 7) for index in range(hours)]
    store.insert(
        "replica_hourly_by_generation",
        pl.DataFrame(
            {
                "hour": times, "generation": 1, "service": "llama", "replica": "r1", "instance_type": "p4d",
                "instance_cost_per_hour_usd": rate, "up_seconds": 3600.0, "busy_seconds": 900.0, "calls": 10,
                "allocated_usd": [rate - each for each in idle], "idle_usd": idle, "bill_usd": rate,
            },
            schema_overrides={
                "instance_cost_per_hour_usd": pl.Decimal(18, 12),
                "allocated_usd": MONEY,
                "idle_usd": MONEY,
                "bill_usd": MONEY,
            },
        ),
    )  # fmt: skip
    store.insert(
        "gpu_hourly_by_generation",
        pl.DataFrame(
            {
                "hour": times, "generation": 1, "service": "llama", "replica": "r1", "gpu_id": "0", "gpu_model": "H100",
                "samples": 60, "utilization_mean": [0.25 + (index % 5) / 10 for index in range(hours - 1)] + [None],
            }
        ),
    )  # fmt: skip


def insert_incidents(store: Store) -> None:
    """An open incident and a resolved one, each written twice as the alerts do when it changes."""
    opened = UNTIL - timedelta(hours=30)
    common = {
        "service": "gateway",
        "environment": "prod",
        "deploy": "gateway 2.4.1",
        "rules": ["cost_per_1k_requests_wow"],
    }
    for sequence, state in ((1, "open"), (2, "resolved")):
        for key, endpoint in (("a", "/v1/chat"), ("b", "/v1/search")):
            if key == "a" and state == "resolved":
                continue
            store.insert(
                "incidents",
                pl.DataFrame(
                    [
                        common
                        | {
                            "incident_key": key, "sequence": sequence, "state": state, "endpoint": endpoint,
                            "title": f"{endpoint} costs 62 % more per 1,000 requests",
                            "cause": "prompts 83 % longer since version 2.4.1 <script>alert(1)</script>",
                            "opened_at": opened, "impact_usd": Decimal("184.2"),
                            "resolved_at": UNTIL - timedelta(hours=2) if state == "resolved" else None,
                            "updated_at": opened + timedelta(hours=sequence),
                        }
                    ],
                    schema_overrides={"impact_usd": MONEY, "resolved_at": pl.Datetime("us", "UTC")},
                ),
            )  # fmt: skip
