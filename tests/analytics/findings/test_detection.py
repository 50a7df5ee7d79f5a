"""The detector over the real store: what it finds, what it leaves alone, and that running it again is harmless."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest

from analytics.findings import FindingsSettings, detect, findings
from tests.analytics.findings.traffic import START, WEEK, Change, Endpoint, commit, facts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage import Store

SETTINGS = FindingsSettings()
HOURS = 5 * WEEK
PROMPT_GREW = HOURS - 70
CACHE_BROKE = HOURS - 45
PROMPT = Endpoint("/summarize", changes=(Change(PROMPT_GREW, input=1.8, version="2.4.1"),))
CACHE = Endpoint("/chat", model="large", prompt_cache=0.74, changes=(Change(CACHE_BROKE, prompt_cache=0.07),))
CLEAN = [
    Endpoint("/classify", input_median=400, output_median=150),
    Endpoint("/search", prompt_cache=0.6),
    Endpoint("/answer", response_cache=0.4, model="large"),
    Endpoint("/spike", changes=(Change(HOURS - 60, HOURS - 40, traffic=5),)),
    Endpoint("/holiday", changes=(Change(HOURS - 200, HOURS - 50, traffic=0.4),)),
    Endpoint("/missing", changes=(Change(HOURS - 60, HOURS - 52, traffic=0),)),
    Endpoint("/new", first_hour=HOURS - 90),
]


def at(hour: int, minute: int = 6) -> Callable[[], datetime]:
    return lambda: START + timedelta(hours=hour, minutes=minute)


def hour_of(moment: datetime) -> int:
    return int((moment - START) / timedelta(hours=1))


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_exactly_the_planted_incidents_are_found(store: Store, seed: int) -> None:
    commit(store, facts([PROMPT, CACHE, *CLEAN], HOURS, seed))
    detect(store, SETTINGS, at(HOURS))
    found = findings(store)
    assert set(found["endpoint"]) == {"/summarize", "/chat"}
    rules = {(row["endpoint"], row["rule"]) for row in found.iter_rows(named=True)}
    assert {("/summarize", "cost_per_1k_requests_wow"), ("/chat", "cache_hit_ratio")} <= rules
    onsets = {"/summarize": PROMPT_GREW, "/chat": CACHE_BROKE}
    for row in found.iter_rows(named=True):
        late = hour_of(row["started_at"]) - onsets[row["endpoint"]]
        assert row["ended_at"] is None
        assert -5 <= late <= (24 if row["rule"] == "outlier" else 5)


def test_a_finding_names_its_cause_and_the_deploy_that_coincided(store: Store) -> None:
    commit(store, facts([PROMPT, CACHE], HOURS, seed=1))
    detect(store, SETTINGS, at(HOURS))
    found = {(row["endpoint"], row["rule"]): row for row in findings(store).iter_rows(named=True)}
    grew = found["/summarize", "cost_per_1k_requests_wow"]
    assert grew["drivers"][0] == "input_tokens"
    assert grew["deploy"] == "2.4.1"
    assert grew["cause"].startswith("prompts ")
    assert grew["cause"].endswith(", since version 2.4.1")
    broke = found["/chat", "cache_hit_ratio"]
    assert broke["drivers"][0] == "prompt_cache"
    assert broke["deploy"] == ""
    assert "prompt-cache hits down from" in broke["cause"]


def test_the_drivers_of_every_finding_add_up_to_its_impact(store: Store) -> None:
    commit(store, facts([PROMPT, CACHE], HOURS, seed=2))
    detect(store, SETTINGS, at(HOURS))
    rows = findings(store).to_dicts()
    assert rows
    for row in rows:
        assert sum(row["driver_usd"], Decimal(0)) == row["impact_usd"]
        assert row["impact_usd"] > 0
        assert len(row["drivers"]) == len(row["driver_usd"])


def test_a_broken_response_cache_is_found_and_named(store: Store) -> None:
    broken = Endpoint("/faq", response_cache=0.4, changes=(Change(HOURS - 48, response_cache=0.0),))
    commit(store, facts([broken], HOURS, seed=3))
    detect(store, SETTINGS, at(HOURS))
    row = findings(store).filter(rule="cache_hit_ratio").row(0, named=True)
    assert row["metric"] == "response_cache_hit_ratio"
    assert row["drivers"][0] == "response_cache"
    assert row["cause"].startswith("response-cache hits down from 4")


def test_running_again_changes_nothing(store: Store) -> None:
    commit(store, facts([PROMPT, CACHE], HOURS, seed=4))
    first = detect(store, SETTINGS, at(HOURS))
    before = findings(store)
    again = detect(store, SETTINGS, at(HOURS, minute=30))
    partly = detect(store, SETTINGS, at(HOURS, minute=40), since=START + timedelta(hours=HOURS - 2))
    assert len(first.opened) == before.height > 0
    for run in (again, partly):
        assert run.opened == run.updated == run.closed == run.withdrawn == ()
    assert findings(store).equals(before)


def test_a_finding_is_updated_while_it_lasts_and_closed_once_when_it_ends(store: Store) -> None:
    end = HOURS - 24
    passing = Endpoint("/summarize", changes=(Change(end - 60, end, input=2.5),))
    commit(store, facts([passing], HOURS + 24, seed=5))
    rule = FindingsSettings(cache_enabled=False, outlier_enabled=False, drivers_enabled=False)
    opened = detect(store, rule, at(end - 20))
    updated = detect(store, rule, at(end - 10))
    closed = detect(store, rule, at(HOURS + 24))
    assert len(opened.opened) == 1
    assert updated.updated == closed.closed == opened.opened
    assert updated.opened == closed.opened == ()
    row = findings(store).row(0, named=True)
    assert abs(hour_of(row["ended_at"]) - end) <= 6
    assert findings(store, open_only=True).is_empty()


def test_a_finding_that_corrected_facts_no_longer_show_is_withdrawn(store: Store) -> None:
    wrong = facts([PROMPT], HOURS, seed=6)
    commit(store, wrong)
    first = detect(store, SETTINGS, at(HOURS))
    commit(store, facts([Endpoint("/summarize")], HOURS, seed=6), generation=2)
    second = detect(store, SETTINGS, at(HOURS))
    assert second.withdrawn == first.opened != ()
    assert findings(store).is_empty()
    assert detect(store, SETTINGS, at(HOURS)).withdrawn == ()


def test_a_withdrawn_finding_that_is_true_after_all_is_opened_again(store: Store) -> None:
    commit(store, facts([PROMPT], HOURS, seed=6))
    first = detect(store, SETTINGS, at(HOURS))
    commit(store, facts([Endpoint("/summarize")], HOURS, seed=6), generation=2)
    detect(store, SETTINGS, at(HOURS, minute=7))
    commit(store, facts([PROMPT], HOURS, seed=6), generation=3)
    assert detect(store, SETTINGS, at(HOURS, minute=8)).opened == first.opened


def test_the_past_is_judged_the_same_when_the_future_is_not_yet_known(store: Store) -> None:
    commit(store, facts([PROMPT, CACHE], HOURS, seed=7))
    opened: dict[str, datetime] = {}
    for hour in range(HOURS - 80, HOURS + 1, 8):
        run = detect(store, SETTINGS, at(hour), since=START + timedelta(hours=hour - 24))
        assert run.withdrawn == ()
        opened |= dict.fromkeys(run.opened, START + timedelta(hours=hour))
    stepwise = findings(store).drop("updated_at")
    store.execute("TRUNCATE TABLE findings")
    detect(store, SETTINGS, at(HOURS))
    assert stepwise.height == len(opened) > 0
    assert stepwise.equals(findings(store).drop("updated_at"))


@pytest.mark.parametrize("seed", [21, 22])
def test_late_facts_tell_an_episode_that_began_before_them_and_has_ended(store: Store, seed: int) -> None:
    late_from, end = HOURS - 240, HOURS - 200
    grew = Endpoint("/summarize", changes=(Change(late_from - 3, end, input=2.5),))
    known = Endpoint("/summarize", changes=(Change(late_from - 3, late_from, input=2.5),))
    commit(store, facts([known], HOURS, seed))
    # cost_drivers sees three hours of it.
    slow = SETTINGS.model_copy(update={"drivers_enabled": False})
    assert detect(store, slow, at(HOURS)).opened == ()
    late = START + timedelta(hours=late_from)
    commit(store, facts([grew], HOURS, seed).filter(pl.col("hour") >= late), generation=2)
    detect(store, slow, at(HOURS), since=late)
    partly = findings(store).drop("updated_at")
    store.execute("TRUNCATE TABLE findings")
    detect(store, slow, at(HOURS))
    assert partly.filter(pl.col("started_at") < late).height > 0
    assert partly.equals(findings(store).drop("updated_at"))


def test_the_hour_that_is_not_over_is_not_judged(store: Store) -> None:
    commit(store, facts([PROMPT], HOURS, seed=8))
    assert detect(store, SETTINGS, at(HOURS, minute=3)).until == START + timedelta(hours=HOURS - 1)
    assert detect(store, SETTINGS, at(HOURS, minute=5)).until == START + timedelta(hours=HOURS)


def test_an_endpoint_with_too_little_history_is_counted_as_cold_and_never_a_finding(store: Store) -> None:
    young = Endpoint("/young", first_hour=HOURS - 8 * 24, changes=(Change(HOURS - 40, input=3.0),))
    commit(store, facts([young, Endpoint("/old")], HOURS, seed=9))
    run = detect(store, SETTINGS, at(HOURS))
    assert (run.series, run.cold_series) == (2, 1)
    assert findings(store).is_empty()


def test_an_empty_store_has_no_findings(store: Store) -> None:
    run = detect(store, SETTINGS, at(HOURS))
    assert (run.series, run.cold_series, run.opened) == (0, 0, ())
    assert findings(store).is_empty()


def test_an_episode_across_the_edge_of_the_look_back_keeps_its_identity(store: Store) -> None:
    chronic = Endpoint("/chronic", prompt_cache=0.3, requests=30)
    settings = FindingsSettings(
        look_back_weeks=1, prompt_cache_targets={"/chronic": 0.6}, cost_rise_enabled=False, outlier_enabled=False
    )
    commit(store, facts([chronic], HOURS, seed=10))
    first = detect(store, settings, at(HOURS - 24))
    second = detect(store, settings, at(HOURS))
    assert len(first.opened) == 1
    assert second.opened == second.withdrawn == ()
    assert second.updated == first.opened


def test_rows_of_findings_carry_the_values_that_the_table_promises(store: Store) -> None:
    commit(store, facts([PROMPT], HOURS, seed=2))
    detect(store, SETTINGS, at(HOURS))
    row = findings(store).filter(rule="cost_per_1k_requests_wow").row(0, named=True)
    own = facts([PROMPT], HOURS, seed=2).filter(pl.col("hour") >= row["started_at"])
    per_1k = float(own["cost_usd"].sum()) / own["requests"].sum() * 1000
    assert row["actual"] == pytest.approx(per_1k, rel=1e-5)
    excess = (row["actual"] - row["expected"]) * own["requests"].sum() / 1000
    assert float(row["impact_usd"]) == pytest.approx(excess, rel=1e-4)
    assert (row["metric"], row["unit"], row["tenant"]) == ("cost_per_1k_requests", "USD", "")
