"""Why an endpoint's dollars changed: an exact split into drivers.

The cost of a window is a product and sum of its drivers:

    requests x answers per request x share of answers that a model gave (the rest are response-cache hits)
             x sum over models (share of calls x (input tokens x (fresh, read and written shares x their prices)
                                                  + output tokens x price + GPU dollars + other fees, per call))

A driver's part is its Shapley value: the mean, over every order in which the drivers could have moved from
the old window to the new, of what its own move changed. So parts add up to the whole change, no order is
preferred, and a driver that did not move gets nothing. Where one side lacks a value (a model, a price), it
borrows the other side's: a new model is then a change of mix, not of tokens or prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from math import factorial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analytics.findings.facts import COUNTS, DOLLARS, MODEL, read_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from storage import Store

    Floats = NDArray[np.float64]

# Each driver with the factors that move with it. Costs that belong to no model call are `other`.
FACTORS: Mapping[str, tuple[str, ...]] = {
    "traffic": ("requests",),
    "response_cache": ("called_share",),
    "retries": ("answers_per_request",),
    "model_mix": ("call_share",),
    "input_tokens": ("input_tokens",),
    "prompt_cache": ("fresh_share", "read_share", "write_share"),
    "output_tokens": ("output_tokens",),
    "unit_price": ("fresh_price", "read_price", "write_price", "output_price", "fees_per_call"),
    "gpu_utilisation": ("gpu_per_call",),
}
TRAFFIC = "traffic"
OTHER = "other"
# Dollars are split in millionths: below a cent, and within what a float carries of any sum up to $1 billion.
QUANTUM_USD = Decimal("0.000001")

Factors = dict[str, "Floats"]


@dataclass(frozen=True)
class Explanation:
    """A change in dollars, its parts (which add up to it exactly) and the factors before and after."""

    change_usd: Decimal
    parts_usd: dict[str, Decimal]
    cost_usd: Decimal
    baseline_cost_usd: Decimal
    before: Factors
    after: Factors


def explain_change(
    store: Store,
    *,
    service: str,
    environment: str,
    endpoint: str,
    start: datetime,
    end: datetime,
    baseline_start: datetime,
    baseline_end: datetime,
) -> Explanation:
    """Split what an endpoint cost from `start` to before `end`, less what it cost in the baseline.

    Traffic is one of the parts, so give windows of equal length. No rows on one side is no cost there.
    """
    wanted = {"service": service, "environment": environment, "endpoint": endpoint}
    after = read_facts(store, start, end).filter(**wanted)
    before = read_facts(store, baseline_start, baseline_end).filter(**wanted)
    change = total_usd(after) - total_usd(before)
    return split(before, after, change, list(FACTORS))


def explain_cost_per_request(before: pl.DataFrame, after: pl.DataFrame) -> Explanation:
    """Split cost beyond what `after`'s requests would have cost at `before`'s cost per request.

    Traffic has no part in it. The baseline needs requests, else ZeroDivisionError.
    """
    with localcontext(prec=60):
        requests = Decimal(int(after["requests"].sum())) / Decimal(int(before["requests"].sum()))
        baseline = total_usd(before) * requests
        change = (total_usd(after) - baseline).quantize(QUANTUM_USD, ROUND_HALF_EVEN)
    return split(before, after, change, [driver for driver in FACTORS if driver != TRAFFIC])


def total_usd(rows: pl.DataFrame) -> Decimal:
    """Exact sum of the rows' cost."""
    return Decimal(rows["cost_usd"].sum() or 0)


def split(before: pl.DataFrame, after: pl.DataFrame, change_usd: Decimal, drivers: Sequence[str]) -> Explanation:
    """Split `change_usd` into the drivers' parts; a driver that is left out stands still at its new value."""
    old, new = factors(before, after)
    parts = dict(zip(drivers, shapley(old, new, drivers), strict=True))
    return Explanation(
        change_usd=change_usd,
        parts_usd=apportion(parts, change_usd),
        cost_usd=total_usd(after),
        baseline_cost_usd=total_usd(before),
        before=old,
        after=new,
    )


def factors(before: pl.DataFrame, after: pl.DataFrame) -> tuple[Factors, Factors]:
    """The factors of both sides over the models of either, what is missing borrowed from the other side."""
    models = pl.concat([before, after]).select(MODEL).unique().sort(MODEL)
    old, new = _own_factors(before, models), _own_factors(after, models)
    filled_old = {name: _first_known(old[name], new[name]) for name in old}
    return filled_old, {name: _first_known(new[name], old[name]) for name in new}


def _own_factors(rows: pl.DataFrame, models: pl.DataFrame) -> Factors:
    sums = rows.group_by(MODEL).agg(pl.col(*COUNTS, *DOLLARS).sum())
    table = models.join(sums, on=MODEL, how="left", maintain_order="left").fill_null(0)
    by: Factors = {name: table[name].cast(pl.Float64).to_numpy() for name in [*COUNTS, *DOLLARS]}
    requests, answers, calls = (by[name].sum(keepdims=True) for name in ("requests", "answers", "calls"))
    tokens = by["input_tokens"]
    fees = by["cost_usd"] - sum(by[name] for name in DOLLARS[1:])
    for dollars, units in _PRICED:
        fees = fees + np.where(by[units] > 0, 0.0, by[dollars])
    return {
        "requests": requests,
        "answers_per_request": _divide(answers, requests),
        "called_share": _divide(calls, answers),
        "call_share": _divide(by["calls"], np.broadcast_to(calls, tokens.shape)),
        "input_tokens": _divide(tokens, by["calls"]),
        "fresh_share": _divide(by["fresh_input_tokens"], tokens),
        "read_share": _divide(by["cache_read_tokens"], tokens),
        "write_share": _divide(by["cache_write_tokens"], tokens),
        "output_tokens": _divide(by["output_tokens"], by["calls"]),
        "fresh_price": _divide(by["cost_fresh_input_usd"], by["fresh_input_tokens"]),
        "read_price": _divide(by["cost_cache_read_usd"], by["cache_read_tokens"]),
        "write_price": _divide(by["cost_cache_write_usd"], by["cache_write_tokens"]),
        "output_price": _divide(by["cost_output_usd"], by["output_tokens"]),
        "fees_per_call": _divide(fees, by["calls"]),
        "gpu_per_call": _divide(by["cost_gpu_busy_usd"], by["calls"]),
        # No factors of the cost, but what is said of it.
        "reporting_share": _divide(by["cache_reporting_input_tokens"], tokens),
        "unpriced_share": _divide(by["unpriced_calls"].sum(keepdims=True), calls),
    }


_PRICED = (
    ("cost_fresh_input_usd", "fresh_input_tokens"),
    ("cost_cache_read_usd", "cache_read_tokens"),
    ("cost_cache_write_usd", "cache_write_tokens"),
    ("cost_output_usd", "output_tokens"),
)


def _divide(top: Floats, bottom: Floats) -> Floats:
    quotient: Floats = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return quotient


def _first_known(own: Floats, other: Floats) -> Floats:
    return np.nan_to_num(np.where(np.isnan(own), other, own))


def cost_of(at: Factors) -> Floats:
    """Dollars of the factors, models along the last axis."""
    price_of_input = (
        at["fresh_share"] * at["fresh_price"]
        + at["read_share"] * at["read_price"]
        + at["write_share"] * at["write_price"]
    )
    per_call = (
        at["input_tokens"] * price_of_input
        + at["output_tokens"] * at["output_price"]
        + at["gpu_per_call"]
        + at["fees_per_call"]
    )
    calls = at["requests"] * at["answers_per_request"] * at["called_share"]
    total: Floats = (calls * at["call_share"] * per_call).sum(axis=-1)
    return total


def shapley(old: Factors, new: Factors, drivers: Sequence[str]) -> list[float]:
    """Shapley value of each driver's move from old to new, from the cost of all 2^k mixtures."""
    count = len(drivers)
    mixtures = np.arange(2**count)
    moved = {driver: (mixtures >> place & 1).astype(bool) for place, driver in enumerate(drivers)}
    at: Factors = {}
    for driver, names in FACTORS.items():
        mask = moved.get(driver, np.ones(len(mixtures), dtype=bool))[:, None]
        at.update({name: np.where(mask, new[name], old[name]) for name in names})
    cost = cost_of(at)
    sizes = sum((mask.astype(np.int64) for mask in moved.values()), np.zeros(len(mixtures), dtype=np.int64))
    orders = np.array([factorial(size) * factorial(max(count - size - 1, 0)) for size in range(count + 1)])
    weights = orders[sizes] / factorial(count)
    parts: list[float] = []
    for place, driver in enumerate(drivers):
        without = mixtures[~moved[driver]]
        parts.append(float(np.sum(weights[without] * (cost[without | 1 << place] - cost[without]))))
    return parts


def apportion(parts: Mapping[str, float], total_usd: Decimal) -> dict[str, Decimal]:
    """The parts in dollars, adding up to the total exactly: what rounding leaves goes to the largest part.

    A gap too large for rounding (cost without any call) becomes the part `other`.
    """
    rounded = {name: Decimal(repr(part)).quantize(QUANTUM_USD) for name, part in parts.items()}
    gap = total_usd - sum(rounded.values(), Decimal(0))
    size = max([abs(total_usd), *map(abs, rounded.values())])
    if abs(gap) > QUANTUM_USD * (len(rounded) + 1) + size * Decimal("1e-9"):
        return {**rounded, OTHER: gap}
    if gap:
        largest = max(rounded, key=lambda name: abs(rounded[name]))
        rounded[largest] += gap
    return rounded
