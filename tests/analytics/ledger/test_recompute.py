from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.ledger import LedgerRun, recompute
from analytics.ledger.hours import hours_to_compute
from analytics.ledger.prices import PriceBook
from analytics.ledger.recomputation import _delete_stale, _new_generation, ruleset_of
from analytics.settings import InstanceRate, LedgerSettings
from storage import StoreError
from tests.analytics.ledger.conftest import empty
from tests.analytics.spans import RESOURCE, START, Span, insert_spans

HOUR = timedelta(hours=1)
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4.1",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}
DERIVED = ("calls", "cost_hourly", "replica_hourly", "gpu_hourly")
SETTINGS = LedgerSettings(
    spans_per_chunk_max=1000,
    instances=(InstanceRate(service="llm", model="*4*", instance_cost_per_hour_usd=Decimal("3.3")),),
)


def run(store, **options: object) -> LedgerRun:
    return recompute(store, SETTINGS, lambda: START, **options)


def derived(store) -> list[list[tuple[object, ...]]]:
    return [sorted(store.frame_of(f"SELECT * FROM {table}").rows(), key=repr) for table in DERIVED]


def random_spans(seed: int, count: int) -> list[Span]:
    """Traces of calls, cache hits and GPU spans; some last minutes, some four hours."""
    rng = random.Random(seed)
    gpu = {"pennytrace.span.kind": "gpu", "hw.id": "0", "pennytrace.gpu.seconds": 1.0}
    cache = {"pennytrace.span.kind": "cache", "pennytrace.response_cache.hit": True}
    traces = [(timedelta(seconds=rng.randrange(3 * 3600)), rng.choice([300, 4 * 3600])) for _ in range(count // 4 + 1)]
    spans: list[Span] = []
    members: dict[int, list[str]] = {}
    for number in range(count):
        trace = rng.randrange(len(traces))
        kind = rng.choice([CHAT, CHAT, {}, gpu, cache | CHAT])
        response = {"gen_ai.response.id": f"r{trace % 3}-{rng.randrange(3)}"} if rng.random() < 0.5 else {}
        parents = members.setdefault(trace, [])
        spans.append(
            Span(
                f"s{number}",
                kind | response | {"pennytrace.endpoint": rng.choice(["", "/a", "/b"])},
                trace=f"t{trace}",
                parent=rng.choice(parents) if parents and rng.random() < 0.8 else "",
                started_at=START + traces[trace][0] + timedelta(seconds=rng.randrange(traces[trace][1])),
                duration=timedelta(seconds=rng.randrange(2000)),
                is_error=rng.random() < 0.1,
                resource=RESOURCE | {"service.name": rng.choice(["shop", "llm"]), "service.instance.id": "r"},
                scope=rng.choice(["a", "b"]),
            )
        )
        parents.append(f"s{number}")
    return spans


def test_a_second_run_has_nothing_to_do(store):
    insert_spans(store, [Span("a", CHAT), Span("b", CHAT, trace="2", started_at=START + 30 * HOUR)])
    assert run(store).calls == 2
    assert run(store) == LedgerRun(None, 0, 0, 0, 0, 0)


def test_recomputing_everything_changes_nothing(store):
    insert_spans(store, random_spans(1, 120))
    run(store)
    before = derived(store)
    assert run(store, everything=True).hours >= 4
    assert derived(store) == before
    assert [len(rows) > 0 for rows in before] == [True] * 4


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_any_order_any_duplication_and_any_portioning_give_the_same_facts(engine, seed, rng):
    spans = random_spans(seed, 60)
    empty(engine)
    insert_spans(engine, spans)
    recompute(engine, LedgerSettings(instances=SETTINGS.instances), lambda: START)
    expected = derived(engine)
    empty(engine)
    late = {span.id for span in spans if span.started_at < START + rng.randrange(1, 7) * HOUR and rng.random() < 0.5}
    shuffled = rng.sample(spans, len(spans))
    insert_spans(engine, [span for span in shuffled if span.id not in late])
    run(engine)
    insert_spans(engine, [span for span in shuffled if span.id in late])
    insert_spans(engine, shuffled[:5])
    run(engine)
    assert derived(engine) == expected
    run(engine, everything=True)
    assert derived(engine) == expected


def test_portions_of_any_size_give_the_same_facts(store, monkeypatch):
    spans = random_spans(7, 150)
    insert_spans(store, spans)
    run(store)
    expected = derived(store)
    monkeypatch.setattr("analytics.ledger.hours.SKIPPED_SPANS_MAX", 0)
    for spans_max in (1, 40, 75):
        small = SETTINGS.model_copy(update={"spans_per_chunk_max": spans_max})
        recompute(store, small, lambda: START, everything=True)
        assert derived(store) == expected


@pytest.mark.parametrize(
    ("ledger_settings", "reached"), [(LedgerSettings(), (2, 3, 4, 5, 6)), (SETTINGS, (1, 2, 3, 4, 5, 6, 7))]
)
def test_a_late_row_reopens_its_hour_and_those_within_reach(store, ledger_settings, reached):
    insert_spans(store, [Span(f"s{n}", CHAT, trace=f"{n}", started_at=START + n * HOUR) for n in range(9)])
    recompute(store, ledger_settings, lambda: START)
    insert_spans(store, [Span("late", CHAT, trace="late", started_at=START + 4 * HOUR)])
    ruleset = ruleset_of(ledger_settings, PriceBook())
    hours = [hour.start for hour in hours_to_compute(store, ledger_settings, ruleset, everything=False)]
    assert hours == [START + n * HOUR for n in reached]
    later = recompute(store, ledger_settings, lambda: START)
    assert later == LedgerRun(
        first_hour=START + reached[0] * HOUR,
        hours=len(reached),
        calls=len(reached) + 1,
        unpriced_calls=0,
        failed_calls=0,
        response_cache_hits=0,
    )
    assert store.frame_of("SELECT sum(calls) AS n FROM cost_hourly")["n"].to_list() == [10]


def test_rows_that_arrive_during_a_run_are_not_lost(store):
    insert_spans(store, [Span("a", CHAT)])

    def arrive(done: int, total: int) -> None:
        assert done == total
        insert_spans(store, [Span("b", CHAT, trace="2")])

    run(store, progress=arrive)
    assert run(store).calls == 2


def test_neighbours_without_rows_leave_no_trace(store):
    insert_spans(store, [Span("a", CHAT)])
    run(store)
    assert store.frame_of("SELECT hour FROM hour_runs FINAL").height == 1


def test_older_generations_are_deleted(store):
    insert_spans(store, random_spans(2, 60))
    run(store)
    visible = store.frame_of("SELECT count() AS n FROM calls")["n"].to_list()
    run(store, everything=True)
    run(store, everything=True)
    assert store.frame_of("SELECT count() AS n FROM calls_by_generation")["n"].to_list() == visible


def test_what_a_run_that_broke_off_left_behind_never_shows(store):
    insert_spans(store, [Span("a", CHAT), Span("b", CHAT, trace="2", started_at=START + 40 * HOUR)])
    small = LedgerSettings(spans_per_chunk_max=1000)

    def break_off(*_hours: int) -> None:
        raise StoreError

    leftover = pl.DataFrame({"hour": [START], "generation": [1]}).cast(
        {"hour": pl.Datetime("ms", "UTC"), "generation": pl.UInt64}
    )
    store.insert("calls_by_generation", leftover)
    with pytest.raises(StoreError):
        recompute(store, small, lambda: START, break_off)
    run(store, everything=True)
    assert store.frame_of("SELECT count() AS n FROM calls")["n"].to_list() == [2]
    assert store.frame_of("SELECT count() AS n FROM calls_by_generation")["n"].to_list() == [2]


def test_progress_counts_hours(store):
    insert_spans(store, [Span(f"s{n}", CHAT, trace=f"{n}", started_at=START + n * HOUR) for n in range(3)])
    seen: list[tuple[int, int]] = []
    run(store, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (9, 9)


def test_facts_add_up_to_the_calls(store):
    insert_spans(store, random_spans(3, 150))
    run(store)
    calls = store.frame_of("SELECT * FROM calls")
    facts = store.frame_of("SELECT * FROM cost_hourly")
    paid = calls.filter("billable")
    assert facts["cost_usd"].sum() == paid["cost_usd"].sum()
    assert facts["saved_usd"].sum() == calls["saved_usd"].sum()
    assert facts["requests"].sum() == calls["first_of_request"].sum()
    assert facts["calls"].sum() == len(paid)
    assert facts["input_tokens"].sum() == paid["input_tokens"].sum()
    assert facts["response_cache_hits"].sum() == calls["response_cache_hit"].sum()
    parts = [name for name in facts.columns if name.startswith("cost_") and name != "cost_usd"]
    assert sum(facts[part].sum() for part in parts) == facts["cost_usd"].sum()


def test_an_hour_with_more_spans_than_a_portion_is_still_computed_whole(store):
    insert_spans(store, [replace(Span("a", CHAT), id=f"s{n}", trace=f"{n}") for n in range(1500)])
    assert run(store).calls == 1500


def test_two_jobs_at_once_do_not_double_the_dollars(store):
    insert_spans(store, [Span("a", CHAT), Span("b", CHAT, trace="2")])
    others: list[int] = []

    def meanwhile(*_hours: int) -> None:
        if not others:
            others.append(1)
            run(store, everything=True)

    recompute(store, SETTINGS, lambda: START, meanwhile, everything=True)
    both = [_new_generation(store, START) for _ in range(50)]
    assert len(set(both)) == 50
    assert store.frame_of("SELECT sum(calls) AS n FROM cost_hourly")["n"].to_list() == [2]


def test_rows_that_another_job_has_not_committed_yet_are_left_alone(store):
    insert_spans(store, [Span("a", CHAT)])
    newer = pl.DataFrame({"hour": [START], "generation": [2**63]}).cast(
        {"hour": pl.Datetime("ms", "UTC"), "generation": pl.UInt64}
    )
    run(store)
    store.insert("calls_by_generation", newer)
    _delete_stale(store, START, START)
    assert store.frame_of("SELECT count() AS n FROM calls_by_generation")["n"].to_list() == [2]


def test_a_changed_rate_reaches_hours_that_no_row_came_for(store):
    insert_spans(store, [Span("a", CHAT, resource=RESOURCE | {"service.name": "llm"})])
    run(store)
    rate = SETTINGS.instances[0]
    dearer = rate.model_copy(update={"instance_cost_per_hour_usd": rate.instance_cost_per_hour_usd * 2})
    before = store.frame_of("SELECT sum(cost_usd) AS usd FROM cost_hourly")["usd"][0]
    changed = SETTINGS.model_copy(update={"instances": (dearer,)})
    assert recompute(store, changed, lambda: START).calls == 1
    after = store.frame_of("SELECT sum(cost_usd) AS usd FROM cost_hourly")["usd"][0]
    assert abs(after - 2 * before) <= Decimal("0.000000000001")
    assert recompute(store, changed, lambda: START).hours == 0


def test_an_hour_that_no_longer_has_rows_is_committed_empty(store):
    across = timedelta(minutes=3)
    late = START + timedelta(minutes=59)
    insert_spans(
        store, [Span("a", CHAT, started_at=late, duration=across, resource=RESOURCE | {"service.name": "llm"})]
    )
    run(store)
    assert store.frame_of("SELECT * FROM replica_hourly").height == 2
    recompute(store, LedgerSettings(), lambda: START)
    assert store.frame_of("SELECT * FROM replica_hourly").is_empty()
    assert store.frame_of("SELECT * FROM replica_hourly_by_generation").is_empty()
