"""Rules hour by hour, without the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import ValidationError

from analytics.findings import FindingsSettings
from analytics.findings.detection import judge
from analytics.findings.facts import dense_hours, typed
from analytics.findings.outliers import learn
from analytics.findings.rules import target_of
from analytics.findings.windows import RESPONSE_CACHE_HIT_RATIO, compare
from tests.analytics.findings.traffic import START, WEEK, Change, Endpoint, as_read, facts, frame, row

if TYPE_CHECKING:
    import polars as pl

HOURS = 5 * WEEK
UNTIL = START + timedelta(hours=HOURS)
GREW = (Change(HOURS - 48, input=2.0),)


def opening_rules(endpoint: Endpoint, seed: int = 1, **settings: object) -> set[str]:
    """Names of the rules that hold on the endpoint in any hour after the fourth week."""
    return set(judged(endpoint, seed, **settings).filter("opens")["rule"])


def judged(endpoint: Endpoint, seed: int = 1, **settings: object) -> pl.DataFrame:
    """Verdicts of all rules on the endpoint after the fourth week."""
    rows = typed(as_read(facts([endpoint], HOURS, seed)))
    return judge(rows, START + timedelta(weeks=4), UNTIL, FindingsSettings.model_validate(settings)).verdicts


def test_a_prompt_twice_as_long_is_a_rise_an_outlier_and_a_driver_s_movement() -> None:
    found = opening_rules(Endpoint("/a", changes=GREW), drivers_enabled=True)
    assert found == {"cost_per_1k_requests_wow", "outlier", "cost_drivers"}


def test_a_rise_of_a_few_cents_a_day_is_none() -> None:
    cheap = Endpoint("/a", model="small", input_median=100, output_median=10, changes=GREW)
    assert opening_rules(cheap) == set()
    assert opening_rules(cheap, min_impact_usd_per_day="0") >= {"outlier"}


def test_the_week_after_a_cheap_week_is_not_a_rise() -> None:
    cheap_week = (Change(HOURS - 300, HOURS - 150, input=0.4, output=0.5),)
    assert opening_rules(Endpoint("/a", changes=cheap_week)) == set()


def test_many_more_requests_at_the_same_cost_each_are_not_a_rise() -> None:
    assert opening_rules(Endpoint("/a", changes=(Change(HOURS - 48, traffic=6.0),))) == set()


def test_a_handful_of_requests_is_not_judged() -> None:
    assert opening_rules(Endpoint("/a", requests=2, changes=GREW)) == set()


def test_retries_and_a_dearer_model_are_seen_as_a_rise() -> None:
    retried = Endpoint("/a", changes=(Change(HOURS - 48, calls=2.0),))
    moved = Endpoint("/a", changes=(Change(HOURS - 48, large_share=0.5),))
    for endpoint in (retried, moved):
        assert "cost_per_1k_requests_wow" in opening_rules(endpoint)


def test_a_fixed_target_holds_for_the_endpoints_that_its_glob_matches() -> None:
    steady = Endpoint("/chat/a", prompt_cache=0.3, requests=40)
    assert opening_rules(steady) == set()
    assert opening_rules(steady, prompt_cache_targets={"/chat/*": 0.6}) == {"cache_hit_ratio"}
    assert opening_rules(steady, prompt_cache_targets={"/other": 0.6}) == set()
    assert opening_rules(steady, response_cache_targets={"/chat/*": 0.2}) == {"cache_hit_ratio"}


def test_an_endpoint_that_never_reports_cache_reads_misses_no_target() -> None:
    silent = Endpoint("/a", requests=40, reports_cache_reads=False)
    assert opening_rules(silent, prompt_cache_targets={"*": 0.6}) == set()
    assert opening_rules(replace(silent, reports_cache_reads=True), prompt_cache_targets={"*": 0.6}) != set()


def test_the_ratio_of_the_response_cache_is_hits_of_answers_and_never_over_one() -> None:
    hours = [row(START + timedelta(hours=n), requests=10, calls=10, response_cache_hits=30) for n in range(WEEK)]
    dense = dense_hours(typed(as_read(frame(hours))), START + timedelta(weeks=1))
    ratios = compare(dense, RESPONSE_CACHE_HIT_RATIO, 24, 4, 168)["actual"].drop_nulls()
    assert ratios.unique().to_list() == [0.75]


@pytest.mark.parametrize("start", [HOURS - 48, HOURS - WEEK - 24])
def test_prices_that_appear_are_not_a_rise(start: int) -> None:
    unpriced = Endpoint("/a", requests=40, changes=(Change(0, start, unpriced_share=0.5),))
    assert opening_rules(unpriced) == set()


def test_a_rise_is_not_judged_while_the_unpriced_share_differs_from_its_baseline() -> None:
    half_priced = (*GREW, Change(HOURS - 48, unpriced_share=0.2))
    # cost_drivers looks at tokens and known prices, not at what the calls came to.
    verdicts = judged(Endpoint("/a", requests=40, changes=half_priced), drivers_enabled=False)
    verdicts = verdicts.filter(metric="cost_per_1k_requests")
    late = verdicts.filter(verdicts["hour"] >= UNTIL - timedelta(hours=12))
    assert not late["known"].any()
    assert not late["opens"].any()
    assert not late["stays"].any()


def test_a_rise_is_seen_where_the_same_share_has_always_been_unpriced() -> None:
    partly = Endpoint("/a", requests=40, changes=(*GREW, Change(0, unpriced_share=0.3)))
    assert opening_rules(partly) == {"cost_per_1k_requests_wow", "outlier"}


def test_the_first_matching_glob_gives_the_target() -> None:
    targets = {"/chat/*": 0.6, "*": 0.1}
    assert target_of("/chat/a", targets) == 0.6
    assert target_of("/search", targets) == 0.1
    assert target_of("/search", {}) is None


def test_a_rule_that_is_switched_off_says_nothing() -> None:
    off = {"cost_rise_enabled": False, "cache_enabled": False, "outlier_enabled": False, "drivers_enabled": False}
    assert opening_rules(Endpoint("/a", changes=GREW), **off) == set()


def test_an_impossible_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="prompt_cache_targets"):
        FindingsSettings(prompt_cache_targets={"/chat": 70.0})


def test_verdicts_on_the_past_do_not_depend_on_later_hours() -> None:
    rows = typed(as_read(facts([Endpoint("/a", prompt_cache=0.5, changes=GREW)], HOURS, 2)))
    settings = FindingsSettings()
    cut = UNTIL - timedelta(hours=20)
    since = START + timedelta(weeks=3)
    full = judge(rows, since, UNTIL, settings).verdicts
    early = judge(rows.filter(rows["hour"] < cut), since, cut, settings).verdicts
    assert full.filter("opens").height > 0
    assert full.filter(full["hour"] < cut).equals(early)


def test_verdicts_do_not_depend_on_where_judging_begins() -> None:
    rows = typed(as_read(facts([Endpoint("/a", changes=GREW)], HOURS, 3)))
    since = START + timedelta(hours=HOURS - 30)
    full = judge(rows, START, UNTIL, FindingsSettings()).verdicts
    late = judge(rows, since, UNTIL, FindingsSettings()).verdicts
    assert full.filter(full["hour"] >= since).equals(late)


def test_training_is_not_moved_by_a_few_wild_windows() -> None:
    rng = np.random.default_rng(1)
    windows = rng.normal(0.0, 0.1, (200, 5))
    windows[:20] += 3.0
    normal = learn(windows, np.full(200, 100.0), 1e-6)
    assert normal is not None
    assert np.abs(normal.centre).max() < 0.05
    far = normal.distances(np.full((1, 5), 3.0), np.array([100.0]))
    assert far[0] > 100 * normal.limit


def test_windows_with_few_requests_are_less_surprising() -> None:
    windows = np.random.default_rng(2).normal(0.0, 0.1, (200, 5))
    normal = learn(windows, np.full(200, 100.0), 1e-6)
    assert normal is not None
    same = np.full((2, 5), 0.5)
    much, little = normal.distances(same, np.array([100.0, 25.0]))
    assert little == pytest.approx(much / 4)


def test_too_few_windows_teach_nothing() -> None:
    assert learn(np.zeros((10, 5)), np.ones(10), 1e-6) is None


def test_a_driver_that_is_often_unknown_is_left_out() -> None:
    windows = np.random.default_rng(3).normal(0.0, 0.1, (200, 5))
    windows[:150, 2] = np.nan
    normal = learn(windows, np.full(200, 100.0), 1e-6)
    assert normal is not None
    assert normal.drivers.tolist() == [0, 1, 3, 4]
