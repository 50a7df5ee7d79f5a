"""Hourly facts as seeded endpoints would make them: every call drawn, then added up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from storage import Store

START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
WEEK = 168
# Dollars per token of fresh input, cache read and output.
PRICES = {"small": (0.15e-6, 0.075e-6, 0.6e-6), "large": (3e-6, 0.3e-6, 15e-6), "mid": (0.8e-6, 0.08e-6, 4e-6)}


@dataclass(frozen=True)
class Change:
    """Factors on an endpoint's drivers from hour `start` to before `end`."""

    start: int
    end: int = 10**6
    input: float = 1.0
    output: float = 1.0
    traffic: float = 1.0
    prompt_cache: float = 1.0
    response_cache: float = 1.0
    version: str = ""
    price: float = 1.0
    large_share: float | None = None
    calls: float = 1.0
    unpriced_share: float = 0.0


@dataclass(frozen=True)
class Endpoint:
    """Mean traffic an hour and the log-normal tokens of a call."""

    name: str
    requests: float = 20.0
    model: str = "mid"
    input_median: float = 1500.0
    input_sigma: float = 0.8
    output_median: float = 250.0
    output_sigma: float = 0.8
    prompt_cache: float = 0.0
    response_cache: float = 0.0
    reports_cache_reads: bool = True
    first_hour: int = 0
    changes: tuple[Change, ...] = field(default=())


def season(hour: int) -> float:
    """Day and week in traffic: four times as much at noon as at night, half at weekends."""
    day = 1 + 0.6 * np.sin((hour % 24 - 8) / 24 * 2 * np.pi)
    return float(day * (0.5 if hour % WEEK >= 120 else 1.1))


def facts(endpoints: list[Endpoint], hours: int, seed: int, start: datetime = START) -> pl.DataFrame:
    """Rows of cost_hourly without generation."""
    rows = [
        row
        for place, endpoint in enumerate(endpoints)
        for row in _endpoint_rows(endpoint, hours, np.random.default_rng([seed, place]), start)
    ]
    return frame(rows)


def frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    """The rows with the types of cost_hourly."""
    money = {name: pl.Decimal(38, 12) for name in rows[0] if name.endswith("_usd")}
    return pl.DataFrame(rows, schema_overrides={**money, "hour": pl.Datetime("ms", "UTC")}, infer_schema_length=None)


def _endpoint_rows(endpoint: Endpoint, hours: int, rng: np.random.Generator, start: datetime):
    for hour in range(endpoint.first_hour, hours):
        at = [change for change in endpoint.changes if change.start <= hour < change.end]
        mean = endpoint.requests * season(hour) * np.prod([change.traffic for change in at])
        requests = int(rng.poisson(mean))
        if not requests:
            continue
        hit = endpoint.response_cache * np.prod([change.response_cache for change in at])
        hits = int(rng.binomial(requests, hit))
        calls = round((requests - hits) * float(np.prod([change.calls for change in at])))
        large = next((change.large_share for change in at if change.large_share is not None), 0.0)
        dear = int(rng.binomial(calls, large))
        version = next((change.version for change in at if change.version), "1.0.0")
        moment = start + timedelta(hours=hour)
        drift = (
            float(np.prod([change.input for change in at])),
            float(np.prod([change.output for change in at])),
            float(np.prod([change.prompt_cache for change in at])),
            float(np.prod([change.price for change in at])),
            sum(change.unpriced_share for change in at),
        )
        yield _row(endpoint, endpoint.model, moment, version, requests, hits, calls - dear, drift, rng)
        if dear:
            yield _row(endpoint, "large", moment, version, 0, 0, dear, drift, rng)


def _row(endpoint, model, moment, version, requests, hits, calls, drift, rng):
    inputs, outputs, cache, dearer, unpriced_share = drift
    input_tokens = np.round(rng.lognormal(np.log(endpoint.input_median * inputs), endpoint.input_sigma, calls))
    output_tokens = np.round(rng.lognormal(np.log(endpoint.output_median * outputs), endpoint.output_sigma, calls))
    is_cached = rng.random(calls) < endpoint.prompt_cache * cache
    read = np.floor(input_tokens * 0.95) * is_cached
    unpriced = round(calls * unpriced_share)
    paid_in, paid_read, paid_out = (int(tokens[unpriced:].sum()) for tokens in (input_tokens, read, output_tokens))
    tokens_in, tokens_read = int(input_tokens.sum()), int(read.sum())
    fresh_price, read_price, output_price = (Decimal(repr(price * dearer)) for price in PRICES[model])
    parts = [
        ((paid_in - paid_read) * fresh_price).quantize(Decimal("1e-12")),
        (paid_read * read_price).quantize(Decimal("1e-12")),
        (paid_out * output_price).quantize(Decimal("1e-12")),
    ]
    return row(
        moment,
        endpoint=endpoint.name,
        service_version=version,
        model=model,
        requests=requests,
        calls=calls,
        unpriced_calls=unpriced,
        response_cache_hits=hits,
        input_tokens=tokens_in,
        cache_reporting_input_tokens=tokens_in if endpoint.reports_cache_reads else 0,
        fresh_input_tokens=tokens_in - tokens_read,
        cache_read_tokens=tokens_read,
        output_tokens=int(output_tokens.sum()),
        cost_usd=sum(parts),
        cost_fresh_input_usd=parts[0],
        cost_cache_read_usd=parts[1],
        cost_output_usd=parts[2],
    )


def row(hour: datetime, **known: object) -> dict[str, object]:
    """A row of cost_hourly: what is not given is '' or 0."""
    names = ("service", "service_version", "environment", "endpoint", "tenant")
    names += ("provider", "model", "model_version", "variant", "tier")
    counts = ("requests", "calls", "failed_calls", "unpriced_calls", "response_cache_hits", "unpriced_cache_hits")
    counts += ("input_tokens", "cache_reporting_input_tokens", "fresh_input_tokens", "cache_read_tokens")
    counts += ("cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens")
    dollars = ("cost_usd", "cost_fresh_input_usd", "cost_cache_read_usd", "cost_cache_write_usd")
    dollars += ("cost_output_usd", "cost_gpu_busy_usd", "saved_usd")
    defaults: dict[str, object] = {
        "hour": hour,
        **dict.fromkeys(names, ""),
        **dict.fromkeys(counts, 0),
        **dict.fromkeys(("duration_seconds", "gpu_seconds", "gpu_energy_joules"), 0.0),
        **dict.fromkeys(dollars, Decimal(0)),
        "service": "shop",
        "environment": "production",
        "provider": "acme",
    }
    return defaults | known


def commit(store: Store, rows: pl.DataFrame, generation: int = 1) -> None:
    """Write the rows as the ledger does: facts under a generation, then the hours' runs."""
    store.insert("cost_hourly_by_generation", rows.with_columns(pl.lit(generation, pl.UInt64).alias("generation")))
    runs = rows.select("hour").unique().sort("hour")
    finished = pl.lit(START).cast(pl.Datetime("ms", "UTC"))
    store.insert(
        "hour_runs",
        runs.with_columns(
            pl.lit(generation, pl.UInt64).alias("generation"),
            pl.lit(1, pl.UInt64).alias("batches_seen"),
            pl.lit("").alias("ruleset"),
            finished.alias("finished_at"),
        ),
    )


def as_read(rows: pl.DataFrame) -> pl.DataFrame:
    """What the query findings_facts would return for these rows."""
    written = (pl.col("cache_write_5m_tokens") + pl.col("cache_write_1h_tokens")).alias("cache_write_tokens")
    keys = ["hour", "service", "environment", "endpoint", "provider", "model", "tier"]
    answers = (pl.col("calls") + pl.col("response_cache_hits")).alias("answers")
    return (
        rows.with_columns(written, answers).group_by(keys, maintain_order=True).agg(pl.col(pl.Decimal, pl.Int64).sum())
    )
