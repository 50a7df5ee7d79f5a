"""Dollars outlive the spans that they come from."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from analytics.ledger import recompute
from analytics.settings import InstanceRate, LedgerSettings
from storage.retention import JOURNAL_MARGIN, drop_expired
from storage.settings import RetentionSettings
from tests.analytics.spans import Span, insert_spans

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEPT_DAYS = 60
DUE = JUNE + timedelta(days=KEPT_DAYS) + JOURNAL_MARGIN
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4.1",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}
BEFORE = LedgerSettings()
# Any change of rates is another ruleset, and this one has every replica paid by the hour.
AFTER = LedgerSettings(
    instances=(InstanceRate(service="*", model="*", instance_cost_per_hour_usd=Decimal("3.3")),),
)
LAST_HOUR_OF_MAY, FIRST_OF_JUNE, LATER_IN_JUNE = JUNE - HOUR, JUNE, JUNE + 10 * HOUR


def dollars(store):
    rows = store.frame_of("SELECT hour, sum(cost_usd) AS usd, sum(calls) AS calls FROM cost_hourly GROUP BY hour")
    return {row["hour"]: (row["usd"], row["calls"]) for row in rows.to_dicts()}


@pytest.fixture
def priced(store):
    """Calls in the last hour of May, in the first of June whose parent is in May, and well inside June."""
    request = Span("request", {"pennytrace.endpoint": "/a"}, started_at=JUNE - HOUR / 60, duration=2 * HOUR)
    insert_spans(
        store,
        [
            Span("may", CHAT, trace="1", started_at=LAST_HOUR_OF_MAY),
            replace(request, trace="2"),
            Span("across", CHAT, trace="2", parent="request", started_at=FIRST_OF_JUNE),
            Span("june", CHAT, trace="3", started_at=LATER_IN_JUNE),
        ],
    )
    recompute(store, BEFORE, lambda: DUE)
    return store


def drop_may(store):
    settings = RetentionSettings(spans_days=KEPT_DAYS, metric_points_days=KEPT_DAYS, logs_days=KEPT_DAYS)
    assert [each.month for each in drop_expired(store, settings, DUE)] == ["202605"]


@pytest.mark.parametrize("everything", [False, True])
def test_dollars_of_a_dropped_month_stay_when_the_rules_change(priced, everything):
    before = dollars(priced)
    assert len(before) == 3
    drop_may(priced)
    run = recompute(priced, AFTER, lambda: DUE, everything=everything)
    after = dollars(priced)
    assert run.hours > 0
    assert {hour: after[hour] for hour in (LAST_HOUR_OF_MAY, FIRST_OF_JUNE)} == {
        hour: before[hour] for hour in (LAST_HOUR_OF_MAY, FIRST_OF_JUNE)
    }


def test_an_hour_that_lost_a_neighbour_keeps_what_it_learned_from_it(priced):
    drop_may(priced)
    recompute(priced, AFTER, lambda: DUE, everything=True)
    (call,) = priced.frame_of("SELECT endpoint FROM calls WHERE hour = {hour:DateTime}", {"hour": FIRST_OF_JUNE}).rows()
    assert call == ("/a",)


def test_hours_whose_spans_are_kept_are_still_computed_anew(priced):
    drop_may(priced)
    recompute(priced, AFTER, lambda: DUE)
    rulesets = dict(priced.frame_of("SELECT hour, ruleset FROM hour_runs FINAL").rows())
    assert rulesets[LATER_IN_JUNE] != rulesets[FIRST_OF_JUNE] == rulesets[LAST_HOUR_OF_MAY]


def test_a_late_row_of_a_dropped_month_changes_no_dollars(priced):
    before = dollars(priced)
    drop_may(priced)
    late = [Span(name, CHAT, trace=name, started_at=LAST_HOUR_OF_MAY) for name in ("late", "later")]
    insert_spans(priced, late)
    recompute(priced, BEFORE, lambda: DUE)
    assert dollars(priced) == before
