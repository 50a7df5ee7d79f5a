"""What was spent, by any dimensions, and the single calls behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
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
    "cache_reporting_input_tokens",
    "response_cache_hits",
    "unpriced_cache_hits",
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


@dataclass(frozen=True)
class Report:
    """Groups, and the same sums and ratios over all of them, from one look at the facts."""

    rows: pl.DataFrame
    totals: dict[str, Any]


def report(store: Store, by: Sequence[str], since: datetime, until: datetime) -> Report:
    """Requests, calls, tokens and dollars per combination of `by`, dearest first, unpriced ones last.

    Whole hours count: from the one that `since` is in, those that begin before `until`. What has no price adds
    nothing to dollars, so that with some calls unpriced cost_usd and the rates are lower bounds; with all of them
    they are NULL, as saved_usd is where no cache hit's worth is known. A rate is also NULL without what it is
    per, cache_hit_ratio (cache reads by input of the calls that report them) where none does, and
    response_cache_hit_ratio (hits by hits and calls) without either. Raises UnknownDimensionError.
    """
    for name in by:
        if name not in DIMENSIONS:
            raise UnknownDimensionError(name)
    first_hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    facts = store.frame("costs_by_dimensions", since=first_hour, until=until)
    totals = _with_ratios(facts.select(_SUMS)).row(0, named=True)
    if not by:
        return Report(_with_ratios(facts.select(_SUMS)), totals)
    rows = _with_ratios(facts.group_by(list(dict.fromkeys(by))).agg(_SUMS))
    return Report(rows.sort("cost_usd", *by, descending=[True, *(False for _ in by)], nulls_last=True), totals)


_SUMS = [
    *(pl.col(name).sum() for name in _COUNTS),
    pl.col("cost_usd").cast(MONEY).sum(),
    pl.col("saved_usd").cast(MONEY).sum(),
]


def _with_ratios(sums: pl.DataFrame) -> pl.DataFrame:
    calls, hits, reporting = pl.col("calls"), pl.col("response_cache_hits"), pl.col("cache_reporting_input_tokens")
    is_unpriced = (calls > 0) & (pl.col("unpriced_calls") == calls)
    is_worth_unknown = (hits > 0) & (pl.col("unpriced_cache_hits") == hits)
    known = sums.with_columns(
        pl.when(~is_unpriced).then("cost_usd").alias("cost_usd"),
        pl.when(~is_worth_unknown).then("saved_usd").alias("saved_usd"),
    )
    return known.with_columns(
        _per_thousand(known, "requests").alias("cost_per_1k_requests_usd"),
        _per_thousand(known, "calls").alias("cost_per_1k_calls_usd"),
        pl.when(reporting > 0).then(pl.col("cache_read_tokens") / reporting).alias("cache_hit_ratio"),
        pl.when(hits + calls > 0).then(hits / (hits + calls)).alias("response_cache_hit_ratio"),
    )


def _per_thousand(sums: pl.DataFrame, count: str) -> pl.Series:
    rates: list[Decimal | None] = [
        (cost * 1000 / number).quantize(_PICODOLLAR) if number and cost is not None else None
        for cost, number in sums.select("cost_usd", count).iter_rows()
    ]
    return pl.Series(rates, dtype=MONEY)


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
