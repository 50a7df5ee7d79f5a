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
MODELS = {"gpt-4o-mini": Decimal("0.15"), "claude-sonnet-4-5": Decimal(3), "gpt-4o": Decimal("2.5")}
# Requests an hour, at most.
ENDPOINTS = {
    "/v1/chat": 60,
    "/v1/search": 30,
    "/v1/summarise": 20,
    "/v1/classify": 90,
}
HOURS = 14 * 24  # two weeks, so that a week has one before it
MONEY = pl.Decimal(38, 12)


def cost_rows(hours: int, seed: int = 1) -> pl.DataFrame:
    """`hours` hours of cost_hourly rows that end at UNTIL: every endpoint on every model, two tenants."""
    draw = random.Random(seed)
    return pl.DataFrame(
        [
            _cost_row(draw, UNTIL - timedelta(hours=ago), endpoint, share, model, rate, tenant)
            for ago in range(hours, 0, -1)
            for endpoint, share in ENDPOINTS.items()
            for model, rate in MODELS.items()
            for tenant in ("acme", "globex")
        ],
        schema_overrides=dict.fromkeys(("cost_usd", "cost_fresh_input_usd", "cost_output_usd", "saved_usd"), MONEY),
    )


def _cost_row(
    draw: random.Random, hour: datetime, endpoint: str, share: int, model: str, rate: Decimal, tenant: str
) -> dict[str, object]:
    requests = draw.randint(share // 2, share)
    fresh, read, output = (requests * draw.randint(low, low * 3) for low in (200, 100, 50))
    input_usd, output_usd = fresh * rate / 1_000_000, output * 4 * rate / 1_000_000
    return {
        "hour": hour,
        "generation": 1,
        "service": "gateway" if endpoint != "/v1/classify" else "batch",
        "endpoint": endpoint,
        "tenant": tenant,
        "model": model,
        "requests": requests,
        "calls": requests,
        "unpriced_calls": draw.randint(0, 1),
        "response_cache_hits": requests // 10,
        "input_tokens": fresh + read,
        "fresh_input_tokens": fresh,
        "cache_read_tokens": read,
        "output_tokens": output,
        "cost_usd": input_usd + output_usd,
        "cost_fresh_input_usd": input_usd,
        "cost_output_usd": output_usd,
        "saved_usd": input_usd / 10,
    }


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
