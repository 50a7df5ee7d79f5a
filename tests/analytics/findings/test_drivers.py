"""The rule cost_drivers over facts: the detector's verdicts, from whichever hour judging begins."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from analytics.findings import FindingsSettings
from analytics.findings.detection import judge
from analytics.findings.drivers import as_usage
from analytics.findings.facts import typed
from tests.analytics.findings.traffic import START, WEEK, Change, Endpoint, as_read, facts, frame, row

HOURS = 5 * WEEK
UNTIL = START + timedelta(hours=HOURS)
ONLY = FindingsSettings(cost_rise_enabled=False, cache_enabled=False, outlier_enabled=False, drivers_enabled=True)


def rows_of(*endpoints: Endpoint, seed: int = 1, hours: int = HOURS) -> pl.DataFrame:
    return typed(as_read(facts(list(endpoints), hours, seed)))


def opening_hours(endpoint: Endpoint) -> list[int]:
    return opening_hours_of(rows_of(endpoint))


def opening_hours_of(rows: pl.DataFrame) -> list[int]:
    verdicts = judge(rows, START + timedelta(weeks=3), UNTIL, ONLY).verdicts
    return [int((hour - START) / timedelta(hours=1)) for hour in verdicts.filter("opens")["hour"]]


@pytest.mark.parametrize(
    "change",
    [
        Change(HOURS - 48, input=1.8),
        Change(HOURS - 48, output=2.0),
        Change(HOURS - 48, calls=2.0),
        Change(HOURS - 48, large_share=0.4),
        Change(HOURS - 48, price=1.3),
    ],
)
def test_every_driver_that_makes_requests_dearer_opens_within_hours(change: Change) -> None:
    found = opening_hours(Endpoint("/a", requests=60, changes=(change,)))
    assert found
    assert HOURS - 48 <= found[0] <= HOURS - 30


def test_prices_of_hours_with_unpriced_calls_are_not_believed() -> None:
    partly = rows_of(Endpoint("/a", changes=(Change(HOURS - 48, unpriced_share=0.5),)))
    usage = as_usage(partly).filter(pl.col("hour_start") >= UNTIL - timedelta(hours=40))
    assert usage["price_input_usd_per_mtok"].null_count() > 0
    assert opening_hours(Endpoint("/a", changes=(Change(HOURS - 48, unpriced_share=0.5),))) == []


def test_verdicts_do_not_depend_on_where_the_facts_begin() -> None:
    hours = 12 * WEEK
    rows = rows_of(Endpoint("/a", requests=60, changes=(Change(hours - 40, input=1.6),)), hours=hours)
    until, since = START + timedelta(hours=hours), START + timedelta(hours=hours - 72)
    full = judge(rows, since, until, ONLY).verdicts
    late = judge(rows.filter(pl.col("hour") >= START + timedelta(hours=2 * WEEK)), since, until, ONLY).verdicts
    assert full.filter("opens").height > 0
    assert full.equals(late)


def test_the_rule_runs_only_where_it_is_switched_on() -> None:
    rows = rows_of(Endpoint("/a", changes=(Change(HOURS - 48, input=2.0),)))
    default = FindingsSettings(cost_rise_enabled=False, cache_enabled=False, outlier_enabled=False)
    assert judge(rows, START, UNTIL, default).verdicts.is_empty()
    assert judge(rows, START, UNTIL, ONLY).verdicts.filter("opens").height > 0


def test_a_model_with_some_unpriced_calls_in_every_hour_has_the_price_of_the_others() -> None:
    always = Change(0, unpriced_share=0.03)
    grew = Endpoint("/a", requests=300, changes=(always, Change(HOURS - 48, input=2.0)))
    prices = as_usage(rows_of(grew))["price_input_usd_per_mtok"]
    assert prices.null_count() == 0
    assert prices.median() == pytest.approx(0.8, rel=0.02)
    assert opening_hours(grew)[0] >= HOURS - 48
    assert opening_hours(Endpoint("/a", requests=300, changes=(always,))) == []


def test_prices_that_move_with_long_prompts_are_no_rise_of_prices() -> None:
    assert opening_hours_of(tiered(requests=3)) == []
    assert opening_hours_of(tiered(requests=30)) == []


def tiered(requests: int) -> pl.DataFrame:
    """Facts of a stationary endpoint, a tenth of whose prompts are long and cost twice as much per token."""
    rng = np.random.default_rng([7, requests])
    rows = []
    for hour in range(HOURS):
        calls = int(rng.poisson(requests))
        is_long = rng.random(calls) < 0.1
        read = np.where(is_long, 210_000, rng.lognormal(np.log(60_000), 0.5, calls)).astype(int)
        written = rng.lognormal(6, 0.5, calls).astype(int)
        paid_in, paid_out = (
            Decimal(repr(float((tokens * np.where(is_long, dear, usual)).sum()))).quantize(Decimal("1e-12"))
            for tokens, usual, dear in ((read, 1.25e-6, 2.5e-6), (written, 10e-6, 15e-6))
        )
        tokens = {"input_tokens": int(read.sum()), "output_tokens": int(written.sum())}
        dollars = {"cost_usd": paid_in + paid_out, "cost_fresh_input_usd": paid_in, "cost_output_usd": paid_out}
        tokens["fresh_input_tokens"] = tokens["input_tokens"]
        moment = START + timedelta(hours=hour)
        if calls:
            rows.append(row(moment, endpoint="/a", model="x", requests=calls, calls=calls, **tokens, **dollars))
    return typed(as_read(frame(rows)))
