"""Usage of seeded endpoints for the detector's tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
WEEK = 168
HOURS = 7 * WEEK
PRICES = {"small": (0.15, 0.075, 0.6), "large": (3.0, 0.3, 15.0)}


@dataclass(frozen=True)
class Change:
    """Factors from hour `start` to before `end`; `hits` and `large` are levels, not factors."""

    start: int
    end: int = 10**6
    requests: float = 1.0
    calls: float = 1.0
    input: float = 1.0
    output: float = 1.0
    price: float = 1.0
    hits: float | None = None
    large: float | None = None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of two models, most of whose calls go to the small one."""

    name: str = "/a"
    requests: float = 300.0
    hits: float = 0.5
    large: float = 0.1
    first_hour: int = 0
    changes: tuple[Change, ...] = field(default=())


def frame(endpoints: list[Endpoint], hours: int = HOURS, seed: int = 1) -> pl.DataFrame:
    """Usage rows; the same seed draws the same natural noise whatever changes."""
    return pl.concat([_rows(one, hours, np.random.default_rng([seed, *one.name.encode()])) for one in endpoints])


def _rows(endpoint: Endpoint, hours: int, rng: np.random.Generator) -> pl.DataFrame:
    hour = np.arange(hours)
    noise = {name: np.exp(rng.normal(0, 0.04, hours)) for name in ("requests", "input", "output", "mix")}
    rate = endpoint.requests * (1 + 0.5 * np.sin((hour % 24 - 8) / 24 * 2 * np.pi)) * noise["requests"]
    retries = rng.random(hours) * 0.02
    level = {"requests": rate, "calls": 1 + retries, "input": 900 * noise["input"], "output": 200 * noise["output"]}
    level |= {"hits": np.full(hours, endpoint.hits), "large": np.full(hours, endpoint.large) * noise["mix"]}
    price = np.ones(hours)
    for change in endpoint.changes:
        span = slice(change.start, change.end)
        for name in ("requests", "calls", "input", "output"):
            level[name][span] *= getattr(change, name)
        price[span] *= change.price
        for name in ("hits", "large"):
            if getattr(change, name) is not None:
                level[name][span] = getattr(change, name)
    share = {"small": 1 - level["large"], "large": level["large"]}
    parts = [_of_model(endpoint.name, model, share[model], level, price) for model in PRICES]
    return pl.concat(parts).filter(
        (pl.col("requests") > 0) & (pl.col("hour_start") >= START + timedelta(hours=endpoint.first_hour))
    )


def _of_model(
    name: str, model: str, share: np.ndarray, level: dict[str, np.ndarray], price: np.ndarray
) -> pl.DataFrame:
    requests = np.round(level["requests"] * share)
    calls = np.round(requests * level["calls"])
    tokens = np.round(calls * level["input"])
    return pl.DataFrame(
        {
            "endpoint": [name] * len(price),
            "hour_start": [START + timedelta(hours=place) for place in range(len(price))],
            "model": [model] * len(price),
            "requests": requests.astype(np.int64),
            "calls": calls.astype(np.int64),
            "input_tokens": tokens.astype(np.int64),
            "cached_tokens": np.floor(tokens * level["hits"]).astype(np.int64),
            "output_tokens": np.round(requests * level["output"]).astype(np.int64),
            "price_input_usd_per_mtok": PRICES[model][0] * price,
            "price_cached_usd_per_mtok": PRICES[model][1] * price,
            "price_output_usd_per_mtok": PRICES[model][2] * price,
        },
        schema_overrides={"hour_start": pl.Datetime("us", "UTC")},
    )
