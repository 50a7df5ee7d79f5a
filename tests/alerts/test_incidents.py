from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from alerts import (
    IncidentNotFoundError,
    IncidentStateError,
    acknowledge,
    incidents,
    resolve,
    update_incidents,
)
from alerts.grouping import WITHDRAWN
from alerts.incidents import read_incidents
from tests.alerts.conftest import ONSET, make_finding

HOUR = timedelta(hours=1)


def only(store):
    (incident,) = read_incidents(store)
    return incident


def test_findings_of_one_endpoint_that_overlap_are_one_incident(store, findings, settings, clock):
    cache = make_finding("f2", rule="cache_hit_ratio", metric="cache_hit_ratio", unit="1", impact_usd=Decimal(3))
    findings.write(make_finding(), cache, make_finding("f3", endpoint="search"))
    changed = update_incidents(store, settings, clock)
    assert {one.endpoint: one.finding_ids for one in changed} == {"chat": ("f1", "f2"), "search": ("f3",)}
    assert len(changed) == 2


@pytest.mark.parametrize("name", ["service", "environment", "endpoint"])
def test_findings_of_different_series_are_different_incidents(store, findings, settings, clock, name):
    findings.write(make_finding("f1"), make_finding("f2", **{name: "other"}))
    assert len(update_incidents(store, settings, clock)) == 2


def test_the_heaviest_finding_gives_impact_drivers_and_cause_and_the_other_rules_are_named(
    store, findings, settings, clock
):
    light = make_finding("f2", rule="outlier", impact_usd=Decimal(1), drivers=("traffic",), driver_usd=(Decimal(1),))
    findings.write(light, make_finding("f1"))
    (incident,) = update_incidents(store, settings, clock)
    assert incident.impact_usd == Decimal("12.34")
    assert sum(incident.driver_usd) == incident.impact_usd
    assert incident.cause == "prompts 83 % longer since version 2.4.1"
    assert incident.rules == ("cost_per_1k_requests_wow", "outlier")


def test_running_again_changes_nothing(store, findings, settings, clock):
    findings.write(make_finding())
    update_incidents(store, settings, clock)
    before = incidents(store)
    clock.move(minutes=1)
    assert update_incidents(store, settings, clock) == []
    assert incidents(store).equals(before)


def test_an_incident_keeps_its_key_when_its_impact_grows_and_its_sequence_stays(store, findings, settings, clock):
    findings.write(make_finding())
    (first,) = update_incidents(store, settings, clock)
    findings.write(make_finding(impact_usd=Decimal(20), last_hour=ONSET + 2 * HOUR))
    (second,) = update_incidents(store, settings, clock)
    assert (second.incident_key, second.sequence, second.impact_usd) == (first.incident_key, 1, Decimal(20))


def test_an_incident_resolves_when_its_last_finding_ends(store, findings, settings, clock):
    findings.write(make_finding("f1"), make_finding("f2", rule="outlier"))
    update_incidents(store, settings, clock)
    findings.write(make_finding("f1", ended_at=ONSET + 3 * HOUR))
    update_incidents(store, settings, clock)
    assert only(store).state == "open"
    findings.write(make_finding("f2", rule="outlier", ended_at=ONSET + 4 * HOUR))
    (resolved,) = update_incidents(store, settings, clock)
    assert (resolved.state, resolved.sequence, resolved.resolved_at) == ("resolved", 2, ONSET + 4 * HOUR)


def test_a_finding_within_the_reopen_window_reopens_the_incident(store, findings, settings, clock):
    findings.write(make_finding(ended_at=ONSET + 3 * HOUR))
    (first,) = update_incidents(store, settings, clock)
    findings.write(make_finding("f2", started_at=ONSET + 20 * HOUR, last_hour=ONSET + 21 * HOUR))
    (again,) = update_incidents(store, settings, clock)
    assert (again.incident_key, again.state, again.sequence) == (first.incident_key, "open", 2)
    assert again.resolved_at is None


def test_a_finding_after_the_reopen_window_is_a_new_incident(store, findings, settings, clock):
    findings.write(make_finding(ended_at=ONSET + 3 * HOUR))
    findings.write(make_finding("f2", started_at=ONSET + 28 * HOUR, last_hour=ONSET + 28 * HOUR))
    first, second = update_incidents(store, settings, clock)
    assert (first.state, second.state) == ("resolved", "open")
    assert first.incident_key != second.incident_key


def test_the_key_follows_from_the_series_and_the_onset_alone(store, findings, settings, clock):
    findings.write(make_finding())
    (first,) = update_incidents(store, settings, clock)
    store.execute("TRUNCATE TABLE incidents")
    clock.move(days=1)
    findings.write(make_finding(impact_usd=Decimal(99)))
    (again,) = update_incidents(store, settings, clock)
    assert again.incident_key == first.incident_key


def test_a_withdrawn_finding_makes_no_incident(store, findings, settings, clock):
    findings.write(make_finding(is_withdrawn=True))
    assert update_incidents(store, settings, clock) == []


def test_an_incident_whose_findings_are_withdrawn_resolves_and_says_so(store, findings, settings, clock):
    findings.write(make_finding())
    update_incidents(store, settings, clock)
    findings.write(make_finding(is_withdrawn=True))
    (incident,) = update_incidents(store, settings, clock)
    assert (incident.state, incident.sequence, incident.cause) == ("resolved", 2, WITHDRAWN)
    assert update_incidents(store, settings, clock) == []


def test_an_onset_that_late_data_moves_does_not_make_a_second_incident(store, findings, settings, clock):
    findings.write(make_finding("f1"))
    (first,) = update_incidents(store, settings, clock)
    findings.write(make_finding("f1", is_withdrawn=True), make_finding("f2", started_at=ONSET - HOUR))
    (moved,) = update_incidents(store, settings, clock)
    assert (moved.incident_key, moved.state, moved.sequence) == (first.incident_key, "open", 1)
    assert moved.finding_ids == ("f2",)


def test_acknowledging_raises_the_sequence_once_and_lasts_until_the_end(store, findings, settings, clock):
    findings.write(make_finding())
    (incident,) = update_incidents(store, settings, clock)
    acknowledge(store, incident.incident_key, clock)
    acknowledge(store, incident.incident_key, clock)
    assert update_incidents(store, settings, clock) == []
    assert (only(store).state, only(store).sequence) == ("acknowledged", 2)
    findings.write(make_finding(ended_at=ONSET + HOUR))
    update_incidents(store, settings, clock)
    assert (only(store).state, only(store).sequence) == ("resolved", 3)


def test_a_person_who_resolves_is_not_overruled_by_the_finding_that_was_there(store, findings, settings, clock):
    findings.write(make_finding())
    (incident,) = update_incidents(store, settings, clock)
    resolve(store, incident.incident_key, clock)
    findings.write(make_finding(last_hour=ONSET + 5 * HOUR, impact_usd=Decimal(50)))
    update_incidents(store, settings, clock)
    assert (only(store).state, only(store).resolved_at) == ("resolved", None)
    findings.write(make_finding("f2", rule="cache_hit_ratio", started_at=ONSET + 5 * HOUR))
    update_incidents(store, settings, clock)
    assert (only(store).state, only(store).sequence) == ("open", 3)


def test_a_finding_that_late_data_prolongs_reopens_what_had_resolved_by_itself(store, findings, settings, clock):
    findings.write(make_finding(ended_at=ONSET + HOUR))
    update_incidents(store, settings, clock)
    findings.write(make_finding())
    update_incidents(store, settings, clock)
    assert (only(store).state, only(store).sequence) == ("open", 2)


def test_a_resolved_incident_cannot_be_acknowledged(store, findings, settings, clock):
    findings.write(make_finding(ended_at=ONSET + HOUR))
    (incident,) = update_incidents(store, settings, clock)
    with pytest.raises(IncidentStateError, match="which is resolved"):
        acknowledge(store, incident.incident_key, clock)


@pytest.mark.parametrize("change", [acknowledge, resolve])
def test_an_unknown_key_is_named_with_what_to_do(store, clock, change):
    with pytest.raises(IncidentNotFoundError, match=r"got 'nope': `pennytrace alerts list`"):
        change(store, "nope", clock)


def test_a_finding_without_news_for_longer_than_the_maximum_age_counts_as_ended(store, findings, settings, clock):
    findings.write(make_finding())
    update_incidents(store, settings, clock)
    clock.move(days=8)
    (incident,) = update_incidents(store, settings, clock)
    assert (incident.state, incident.resolved_at) == ("resolved", ONSET + HOUR)


def test_a_clock_that_goes_back_does_not_lose_a_change(store, findings, settings, clock):
    findings.write(make_finding())
    (incident,) = update_incidents(store, settings, clock)
    clock.move(hours=-1)
    acknowledge(store, incident.incident_key, clock)
    assert only(store).state == "acknowledged"


def test_incidents_can_be_listed_by_state(store, findings, settings, clock):
    findings.write(make_finding("f1"), make_finding("f2", endpoint="search", ended_at=ONSET + HOUR))
    update_incidents(store, settings, clock)
    assert incidents(store)["state"].to_list().count("open") == 1
    assert incidents(store, "resolved")["endpoint"].to_list() == ["search"]
    assert incidents(store, "acknowledged").is_empty()
