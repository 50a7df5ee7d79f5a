"""What was spent, by any dimensions, and the single calls behind it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from analytics.ledger.facts import DIMENSIONS
from analytics.ledger.pricing import MONEY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from storage import Store

CALLS_MAX = 1_000_000

_COUNTS = (
    "requests",
    "calls",
    "input_tokens",
    "fresh_input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "response_cache_hits",
    "unpriced_calls",
    "failed_calls",
)
_PARTS = ("fresh_input", "cache_read", "cache_write", "output", "gpu_busy")


class UnknownDimensionError(ValueError):
    """A report was asked for by something that is no dimension; `allowed` are those that are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.allowed = DIMENSIONS
        super().__init__(
            f"expected dimensions out of {', '.join(DIMENSIONS)}; got {name!r}: leave it out or correct it"
        )


@dataclass(frozen=True)
class CallFilters:
    """Values that a call must have one of; an empty filter lets everything through."""

    service: Sequence[str] = ()
    endpoint: Sequence[str] = ()
    model: Sequence[str] = ()
    tenant: Sequence[str] = ()
    provider: Sequence[str] = ()


def report(store: Store, by: Sequence[str], since: datetime, until: datetime) -> pl.DataFrame:
    """Requests, calls, tokens and dollars per combination of `by`, dearest first.

    Whole hours that begin in [since, until) count. cost_per_1k_requests_usd is NULL without requests, and
    cache_hit_ratio (cache reads by input tokens) without input. Raises UnknownDimensionError.
    """
    for name in by:
        if name not in DIMENSIONS:
            raise UnknownDimensionError(name)
    facts = store.frame("costs_by_dimensions", since=since, until=until)
    grouped = facts.group_by(list(dict.fromkeys(by))).agg(_SUMS) if by else facts.select(_SUMS)
    return _with_ratios(grouped).sort("cost_usd", *by, descending=[True, *(False for _ in by)])


def totals(store: Store, since: datetime, until: datetime) -> dict[str, Any]:
    """The same sums and ratios over everything."""
    return report(store, (), since, until).row(0, named=True)


_SUMS = [
    *(pl.col(name).sum() for name in _COUNTS),
    pl.col("cost_usd").cast(MONEY).sum(),
    pl.col("saved_usd").cast(MONEY).sum(),
]


def _with_ratios(sums: pl.DataFrame) -> pl.DataFrame:
    requests, tokens = pl.col("requests"), pl.col("input_tokens")
    rates = [cost * 1000 / count if count else None for cost, count in sums.select("cost_usd", "requests").iter_rows()]
    rounded = [rate.quantize(_PICODOLLAR) if rate is not None else None for rate in rates]
    return sums.with_columns(
        pl.Series("cost_per_1k_requests_usd", rounded, dtype=MONEY),
        pl.when(tokens > 0).then(pl.col("cache_read_tokens") / tokens).alias("cache_hit_ratio"),
        pl.when(requests > 0).then(pl.col("response_cache_hits") / requests).alias("response_cache_hit_ratio"),
    )


_PICODOLLAR = Decimal("0.000000000001")


def calls(
    store: Store,
    since: datetime,
    until: datetime,
    limit: int = CALLS_MAX,
    filters: CallFilters | None = None,
) -> pl.DataFrame:
    """Billed calls that started in [since, until), oldest first, with the names of `calls --json`.

    cost_parts is a struct of dollars, NULL where the call is unpriced; unpriced_reason is NULL where it is
    priced. Ids are lower-case hex.
    """
    chosen = filters or CallFilters()
    found = store.frame(
        "billed_calls",
        since=since,
        until=until,
        limit=limit,
        **{name: list(getattr(chosen, name)) for name in CallFilters.__dataclass_fields__},
    )
    parts = pl.struct(pl.col(f"cost_{part}_usd").alias(part) for part in _PARTS)
    return found.with_columns(pl.when(pl.col("cost_usd").is_not_null()).then(parts).alias("cost_parts")).drop(
        f"cost_{part}_usd" for part in _PARTS
    )
