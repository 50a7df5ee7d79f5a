from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from analytics.ledger.gpu_sharing import HOUR_NS, hour_shares, replica_hours, replica_rates
from analytics.settings import InstanceRate, LedgerSettings
from tests.analytics.spans import RESOURCE, START, Span, insert_gauge, insert_spans

RATE = InstanceRate(service="llm", instance_type="p5", instance_cost_per_hour_usd=Decimal("7.2"))
SETTINGS = LedgerSettings(instances=(RATE,))
REPLICA = RESOURCE | {"service.name": "llm", "service.instance.id": "r1"}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": "llama-3-70b",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 10,
}
HOUR = timedelta(hours=1)
PICO = Decimal("0.000000000001")


def call(name: str, start: timedelta, lasting: timedelta, **more: object) -> Span:
    return Span(name, CHAT | more, trace=name, started_at=START + start, duration=lasting, resource=REPLICA)


def test_at_constant_concurrency_a_call_costs_the_textbook_formula(store, ledger):
    calls = [call(f"c{n}", timedelta(minutes=5), timedelta(seconds=100)) for n in range(4)]
    insert_spans(store, calls)
    costs = ledger(SETTINGS)
    textbook = Decimal("7.2") / 3600 * 100 / 4
    assert costs["cost_usd"].to_list() == [textbook] * 4
    assert costs["cost_gpu_busy_usd"].to_list() == [textbook] * 4
    assert costs["price_version"].to_list() == ["instance rate p5"] * 4


def test_an_idle_replica_is_booked_as_idle_and_the_bill_adds_up(store, ledger):
    """modelplane#54: an idle environment cost $22K a month."""
    insert_spans(
        store, [call("a", timedelta(0), timedelta(seconds=60)), call("b", timedelta(minutes=50), timedelta(minutes=1))]
    )
    ledger(SETTINGS)
    [hour] = store.frame_of("SELECT * FROM replica_hourly").to_dicts()
    assert (hour["up_seconds"], hour["busy_seconds"], hour["calls"]) == (51 * 60, 120, 2)
    assert (hour["bill_usd"], hour["allocated_usd"], hour["idle_usd"]) == (
        Decimal("6.12"),
        Decimal("0.24"),
        Decimal("5.88"),
    )


def test_a_call_across_the_hour_is_booked_where_it_started_and_both_hours_conserve(store, ledger):
    insert_spans(
        store,
        [
            call("long", timedelta(minutes=59), timedelta(minutes=3)),
            call("other", timedelta(minutes=61), timedelta(minutes=1)),
        ],
    )
    calls = ledger(SETTINGS)
    per_minute = Decimal("0.12")
    assert calls["cost_usd"].to_list() == [per_minute * Decimal("2.5"), per_minute / 2]
    hours = store.frame_of("SELECT * FROM replica_hourly ORDER BY hour").to_dicts()
    assert [hour["allocated_usd"] for hour in hours] == [per_minute, per_minute * 2]
    assert sum(hour["allocated_usd"] for hour in hours) == calls["cost_usd"].sum()
    assert all(hour["allocated_usd"] + hour["idle_usd"] == hour["bill_usd"] for hour in hours)


def test_a_call_that_ends_in_an_hour_without_other_rows_still_has_that_hour_billed(store, ledger):
    insert_spans(store, [call("long", timedelta(minutes=59), timedelta(minutes=3))])
    ledger(SETTINGS)
    hours = store.frame_of("SELECT hour, bill_usd FROM replica_hourly ORDER BY hour")
    assert hours["bill_usd"].to_list() == [Decimal("0.12"), Decimal("0.24")]


def test_metric_points_keep_a_replica_up_between_calls(store, ledger):
    insert_spans(store, [call("a", timedelta(minutes=30), timedelta(minutes=1))])
    for hours in (1, 2):
        insert_gauge(store, "hw.gpu.utilization", START + hours * HOUR, 0.25, REPLICA, hw_id="0", hw_name="H200")
    ledger(SETTINGS)
    hours = store.frame_of("SELECT up_seconds FROM replica_hourly ORDER BY hour")
    assert hours["up_seconds"].to_list() == [1800, 3600, 0]
    devices = store.frame_of("SELECT gpu_model, samples, utilization_mean FROM gpu_hourly ORDER BY hour")
    assert devices.rows() == [("H200", 1, 0.25)] * 2


def test_gpu_utilisation_comes_from_metrics_where_there_are_any(store, ledger):
    """GPU spans see only the time in which a call ran: 90 % then may be 25 % of the hour."""
    gpu = {"pennytrace.span.kind": "gpu", "hw.id": "0", "hw.name": "H200", "pennytrace.gpu.utilization": 0.9}
    insert_spans(
        store,
        [
            Span("g1", gpu, started_at=START, resource=REPLICA),
            Span("g2", gpu, started_at=START + HOUR, resource=REPLICA),
        ],
    )
    insert_gauge(store, "hw.gpu.utilization", START, 0.25, REPLICA, hw_id="0", hw_name="H200")
    ledger(SETTINGS)
    devices = store.frame_of("SELECT samples, utilization_mean FROM gpu_hourly ORDER BY hour")
    assert devices.rows() == [(2, 0.25), (1, 0.9)]


def test_a_failed_call_on_a_paid_replica_has_its_share(store, ledger):
    """litellm PR#39893: aborted work was paid for and invisible."""
    failed = Span("f", CHAT | {"error.type": "Aborted"}, started_at=START, is_error=True, resource=REPLICA)
    without_usage = {key: value for key, value in failed.attributes.items() if "usage" not in key}
    insert_spans(store, [Span("f", without_usage, started_at=START, is_error=True, resource=REPLICA)])
    [row] = ledger(SETTINGS).to_dicts()
    assert (row["billable"], row["error_type"], row["cost_usd"]) == (True, "Aborted", Decimal("0.002"))


def test_only_calls_of_the_models_that_the_rate_names_share_it(store, ledger):
    settings = LedgerSettings(instances=(RATE.model_copy(update={"model": "llama*"}),))
    bought = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1"}
    insert_spans(
        store,
        [
            call("own", timedelta(0), timedelta(seconds=10)),
            call("bought", timedelta(0), timedelta(seconds=10), **bought),
        ],
    )
    costs = dict(ledger(settings).select("model", "cost_usd").iter_rows())
    assert costs == {"llama-3-70b": Decimal("0.02"), "gpt-4.1": Decimal("0.00028")}


def test_a_rate_for_any_model_leaves_calls_that_have_a_price_of_their_own(store, ledger):
    bought = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1"}
    spans = [
        call("own", timedelta(0), timedelta(seconds=10)),
        call("bought", timedelta(0), timedelta(seconds=10), **bought),
    ]
    insert_spans(store, spans)
    assert dict(ledger(SETTINGS).select("model", "cost_usd").iter_rows()) == {
        "llama-3-70b": Decimal("0.02"),
        "gpt-4.1": Decimal("0.00028"),
    }
    named = LedgerSettings(instances=(RATE.model_copy(update={"model": "gpt-*"}),))
    assert dict(ledger(named).select("model", "cost_usd").iter_rows())["gpt-4.1"] == Decimal("0.02")


def test_a_replica_that_no_rate_matches_is_unpriced(store, ledger):
    other = LedgerSettings(instances=(RATE.model_copy(update={"replica": "gpu-*"}),))
    insert_spans(store, [call("a", timedelta(0), timedelta(seconds=10))])
    assert ledger(other)["cost_usd"].to_list() == [None]


moments = st.integers(0, 3 * HOUR_NS - 1)
lengths = st.integers(0, HOUR_NS)
rates = st.decimals(0, 100, places=12)


@given(st.lists(st.tuples(st.sampled_from("ab"), moments, lengths), min_size=1, max_size=25), rates)
def test_allocated_plus_idle_is_the_bill_whatever_overlaps(drawn, rate):
    origin = round(START.timestamp()) * 10**9
    calls = pl.DataFrame(
        [
            {"row": row, "service": "s", "replica": name, "start_ns": origin + start, "duration_ns": length}
            for row, (name, start, length) in enumerate(drawn)
        ]
    ).with_columns(
        pl.lit("m").alias("model"),
        pl.lit("no price").alias("price_reason"),
        pl.lit(value=False).alias("response_cache_hit"),
    )
    start = pl.col("start_ns")
    presence = calls.group_by("service", "replica", (start - start % HOUR_NS).alias("hour_ns")).agg(
        start.min().alias("first_ns"), (start + pl.col("duration_ns")).max().alias("last_ns")
    )
    paid = replica_rates(presence, [InstanceRate(service="s", instance_cost_per_hour_usd=rate)])
    shares = hour_shares(calls, paid)
    hours = replica_hours(presence, shares, paid, START, START + 9 * HOUR)
    assert (hours["allocated_usd"] + hours["idle_usd"]).to_list() == hours["bill_usd"].to_list()
    assert hours["idle_usd"].min() >= 0
    assert sum(hours["allocated_usd"]) == Decimal(shares["share_pico"].sum()) * PICO
    assert _allocated_exactly(drawn, rate) - Decimal(sum(hours["allocated_usd"])) <= PICO * 2 * len(drawn)
    assert (hours["busy_seconds"] <= hours["up_seconds"]).all()


def _allocated_exactly(drawn: list[tuple[str, int, int]], rate: Decimal) -> Decimal:
    """The rate times the time in which at least one call ran."""
    busy = 0
    for name in {name for name, _, _ in drawn}:
        at = 0
        for start, length in sorted((start, length) for other, start, length in drawn if other == name):
            end = min(start + length, (start // HOUR_NS + 2) * HOUR_NS)
            busy += max(0, end - max(at, start))
            at = max(at, end)
    exact = Fraction(rate) * busy / HOUR_NS
    return Decimal(exact.numerator) / Decimal(exact.denominator)
