"""The detector over usage frames: what rings, what it is called, what does not ring."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from analytics.detection import DetectionSettings, UsageError, backtest
from analytics.detection.tune import RISES, tune
from analytics.detection.usage import COUNTS, PRICES
from tests.analytics.detection.usage import HOURS, START, WEEK, Change, Endpoint, frame

SETTINGS = DetectionSettings()
AT = 6 * WEEK + 30
INCIDENTS = {
    "prompt_bloat": Change(AT, AT + 72, input=1.7),
    "output_bloat": Change(AT, AT + 72, output=1.8),
    "cache_collapse": Change(AT, AT + 72, hits=0.02),
    "routing_shift": Change(AT, AT + 72, large=0.5),
    "retry_storm": Change(AT, AT + 12, calls=2.0),
}
HARMLESS = {
    "many times the traffic": Change(AT, AT + 20, requests=5.0),
    "a quiet week": Change(AT - WEEK, AT, requests=0.4),
    "hours without rows": Change(AT, AT + 5, requests=0.0),
    "the time after a cheap week": Change(AT - WEEK, AT, input=0.6, output=0.6),
    "cheaper prices": Change(AT, price=0.7),
}


def alarms(endpoint: Endpoint, settings: DetectionSettings = SETTINGS) -> pl.DataFrame:
    return backtest(frame([endpoint]), settings).alarms


def hour(row: dict[str, object]) -> int:
    return int((row["hour_start"] - START) / timedelta(hours=1))


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("kind", INCIDENTS)
def test_an_incident_rings_once_within_hours_under_its_own_name(kind: str, learned: bool) -> None:
    settings = DetectionSettings(learned_enabled=learned)
    found = alarms(Endpoint(changes=(INCIDENTS[kind],)), settings)
    begun = found.filter("notifies").to_dicts()
    assert [row["kind"] for row in begun] == [kind]
    assert 0 <= hour(begun[0]) - AT <= 12


@pytest.mark.parametrize("what", HARMLESS)
def test_nothing_rings_for(what: str) -> None:
    assert alarms(Endpoint(changes=(HARMLESS[what],))).is_empty()


def test_a_dearer_price_rings_in_its_third_hour_and_is_called_one() -> None:
    begun = alarms(Endpoint(changes=(Change(AT, price=1.2),))).filter("notifies").to_dicts()
    assert [(hour(row), row["kind"]) for row in begun] == [(AT + 2, "price_change")]


def test_a_dearer_price_must_cost_enough_hold_and_be_an_old_enough_endpoint_s() -> None:
    dearer = Endpoint(changes=(Change(AT, price=1.2),))
    assert alarms(dearer, DetectionSettings(min_impact_usd_per_day="100000")).is_empty()
    late = alarms(dearer, DetectionSettings(hold_hours=6)).filter("notifies")
    assert [hour(row) for row in late.to_dicts()] == [AT + 6]
    young = Endpoint(first_hour=HOURS - 300, changes=(Change(HOURS - 60, price=1.2),))
    assert alarms(young).is_empty()


def test_a_price_for_a_few_hours_that_was_paid_before_does_not_ring() -> None:
    odd = [Change(AT - 24 * day, AT - 24 * day + 1, price=1.5) for day in range(1, 14)]
    assert alarms(Endpoint(changes=(*odd, Change(AT, AT + 6, price=1.4)))).is_empty()


@pytest.mark.parametrize("price", [3.0, 0.0, None])
def test_an_endpoint_without_prompts_rings_whatever_its_prompts_would_cost(price: float | None) -> None:
    grew = frame([Endpoint(changes=(Change(AT, AT + 72, output=3.0),))]).with_columns(
        pl.lit(0).alias("input_tokens"),
        pl.lit(0).alias("cached_tokens"),
        pl.lit(price, pl.Float64).alias("price_input_usd_per_mtok"),
        pl.lit(price, pl.Float64).alias("price_cached_usd_per_mtok"),
    )
    found = backtest(grew, DetectionSettings(min_impact_usd_per_day="0.1"), explain=True).alarms.filter("notifies")
    assert found["kind"].to_list() == ["output_bloat"]
    assert found["excess_usd"][0] > 0


def test_rows_of_the_same_endpoint_hour_and_model_are_added_up_in_any_order() -> None:
    rows = frame([Endpoint(changes=(INCIDENTS["prompt_bloat"],))])
    dear = rows.with_columns(*[pl.col(name) * 2 for name in PRICES])
    both = pl.concat([rows, dear])
    ways = [backtest(both.sample(fraction=1.0, shuffle=True, seed=seed), SETTINGS, explain=True) for seed in range(4)]
    assert all(way.alarms.equals(ways[0].alarms) for way in ways)
    once = rows.with_columns(*[pl.col(name) * 2 for name in COUNTS], *[pl.col(name) * 1.5 for name in PRICES])
    assert ways[0].alarms.drop("score").equals(backtest(once, SETTINGS, explain=True).alarms.drop("score"))
    assert ways[0].alarms.height > 0


def test_a_price_that_rises_less_than_the_setting_asks_for_does_not_ring() -> None:
    dearer = Endpoint(changes=(Change(AT, price=1.2),))
    assert alarms(dearer, DetectionSettings(price_rise_min=0.25)).is_empty()


def test_tokens_that_grow_for_weeks_are_called_a_slow_drift() -> None:
    days = [Change(AT - 240 + 24 * day, AT + 200, input=1.02, output=1.02) for day in range(18)]
    begun = alarms(Endpoint(changes=tuple(days))).filter("notifies")
    assert begun["kind"].to_list()[0] == "slow_drift"


def test_a_young_endpoint_is_not_judged() -> None:
    young = Endpoint(first_hour=HOURS - 300, changes=(Change(HOURS - 60, input=3.0),))
    done = backtest(frame([young]), SETTINGS)
    assert done.alarms.is_empty()
    assert done.endpoint_weeks == 0


def test_an_alarm_is_silent_after_the_hours_that_the_setting_allows() -> None:
    long = Endpoint(changes=(Change(AT, AT + 130, input=2.0),))
    assert alarms(long).height <= 24
    assert alarms(long, DetectionSettings(ring_hours_max=6)).height <= 6


def test_a_rise_that_costs_less_a_day_than_the_setting_does_not_ring() -> None:
    grew = Endpoint(changes=(INCIDENTS["prompt_bloat"],))
    assert alarms(grew, DetectionSettings(min_impact_usd_per_day="100000")).is_empty()


def test_alarms_do_not_depend_on_later_hours() -> None:
    rows = frame([Endpoint(f"/{kind}", changes=(change,)) for kind, change in INCIDENTS.items()])
    full = backtest(rows, SETTINGS, explain=True).alarms
    assert full.height > 0
    for cut in (AT + 3, AT + 40):
        until = START + timedelta(hours=cut)
        early = backtest(rows.filter(pl.col("hour_start") < until), SETTINGS, explain=True).alarms
        assert early.equals(full.filter(pl.col("hour_start") < until))


def test_alarms_of_an_endpoint_do_not_depend_on_the_others_nor_on_the_order_of_rows() -> None:
    rows = frame([Endpoint(f"/{kind}", changes=(change,)) for kind, change in INCIDENTS.items()])
    full = backtest(rows, SETTINGS).alarms
    shuffled = backtest(rows.sample(fraction=1.0, shuffle=True, seed=3), SETTINGS).alarms
    assert shuffled.equals(full)
    for kind in INCIDENTS:
        own = backtest(rows.filter(endpoint=f"/{kind}"), SETTINGS).alarms
        assert own.equals(full.filter(endpoint=f"/{kind}"))


def test_the_parts_of_an_alarm_add_up_to_its_excess_exactly() -> None:
    rows = frame([Endpoint(f"/{kind}", changes=(change,)) for kind, change in INCIDENTS.items()])
    found = backtest(rows, SETTINGS, explain=True).alarms.filter("notifies")
    assert found.height == len(INCIDENTS)
    parts = ["calls_usd", "mix_usd", "input_usd", "cache_usd", "output_usd"]
    for row in found.to_dicts():
        assert sum(row[name] for name in parts) == row["excess_usd"] > 0
        largest = max(parts, key=lambda name: row[name])
        named = {"prompt_bloat": "input", "output_bloat": "output", "cache_collapse": "cache"}
        named |= {"routing_shift": "mix", "retry_storm": "calls"}
        assert largest == f"{named[row['kind']]}_usd"


def test_times_without_a_zone_are_utc() -> None:
    rows = frame([Endpoint(changes=(INCIDENTS["prompt_bloat"],))])
    naive = rows.with_columns(pl.col("hour_start").dt.replace_time_zone(None))
    assert backtest(naive, SETTINGS).alarms.equals(backtest(rows, SETTINGS).alarms)


def test_an_empty_usage_has_no_alarms() -> None:
    done = backtest(frame([Endpoint()]).clear(), SETTINGS)
    assert (done.alarms.height, done.endpoints, done.endpoint_weeks) == (0, 0, 0)


def test_a_usage_that_lacks_a_column_or_a_whole_hour_is_refused() -> None:
    rows = frame([Endpoint()], hours=48)
    with pytest.raises(UsageError, match="calls is missing"):
        backtest(rows.drop("calls"), SETTINGS)
    with pytest.raises(UsageError, match="whole hours"):
        backtest(rows.with_columns(pl.col("hour_start") + timedelta(minutes=5)), SETTINGS)
    for name, broken in (("calls", "x"), ("price_input_usd_per_mtok", "x")):
        with pytest.raises(UsageError, match=f"expected numbers in {name}"):
            backtest(rows.with_columns(pl.lit(broken).alias(name)), SETTINGS)
    fourth = pl.int_range(pl.len()) == 3
    for name, broken in (("input_tokens", float("nan")), ("calls", -1), ("requests", None), (PRICES[0], -0.1)):
        one = pl.when(fourth).then(pl.lit(broken, pl.Float64)).otherwise(pl.col(name)).alias(name)
        with pytest.raises(UsageError, match=f"zero or more in {name}"):
            backtest(rows.with_columns(one), SETTINGS)
    for name in ("hour_start", "endpoint", "model"):
        with pytest.raises(UsageError, match=f"every row of {name}, got 1 without"):
            backtest(rows.with_columns(pl.when(~fourth).then(pl.col(name)).alias(name)), SETTINGS)
    with pytest.raises(UsageError, match="expected times"):
        backtest(rows.with_columns(pl.lit("now").alias("hour_start")), SETTINGS)


def test_higher_thresholds_ring_less_and_miss_more() -> None:
    rows = frame([Endpoint(f"/{place}", requests=30.0 * (place + 1)) for place in range(6)])
    shown = tune(rows, SETTINGS)
    names = [f"found_{round((rise - 1) * 100)}_percent" for rise in RISES]
    assert np.all(np.diff(shown["alarms"]) <= 0)
    for name in names:
        assert np.all(np.diff(shown[name]) <= 1e-9)
    present = shown.filter(learned_score_min=SETTINGS.learned_score_min)
    assert present["found_100_percent"][0] >= 0.8


def test_thresholds_that_are_shown_can_be_set_and_dearer_prices_are_counted_at_all_of_them() -> None:
    dearer = frame([Endpoint(changes=(Change(AT, price=1.2),))])
    shown = tune(dearer, DetectionSettings(learned_score_min=19.5, rule_margin_min=0.5))
    for row in shown.to_dicts():
        DetectionSettings(learned_score_min=row["learned_score_min"], rule_margin_min=row["rule_margin_min"])
    assert shown["alarms"].min() >= 1
