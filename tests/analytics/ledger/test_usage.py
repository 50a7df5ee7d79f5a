from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.ledger.normaliser import COUNT_FIELDS, Attribute
from tests.analytics.ledger.conftest import empty
from tests.analytics.spans import START, Span, insert_spans

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
}
KEYS = [
    next(source.key for source in sources if isinstance(source, Attribute))
    for sources in COUNT_FIELDS.values()
    if isinstance(sources[0], Attribute)
]
counts = st.one_of(st.integers(-5, 2_000), st.integers(0, 2**70), st.sampled_from(["nan", "inf", "-1", "1e19", "x"]))
scopes = st.sampled_from(["a", "b", "openlit", "genkit", "ai"])
spans = st.tuples(
    st.dictionaries(st.sampled_from(KEYS), counts), scopes, st.sampled_from(["", "r1", "r2"]), st.integers(0, 300),
    st.integers(0, 18 * 10**9),
)  # fmt: skip


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(spans, min_size=1, max_size=30), min_size=1, max_size=4))
def test_no_counts_whatever_stop_the_job_and_none_comes_out_negative(engine, ledger, traces):
    empty(engine)
    insert_spans(
        engine,
        [
            Span(
                f"{number}",
                CHAT | {"gen_ai.response.id": response} | usage,
                trace=f"{trace}",
                parent=f"{number - 1}" if number % 3 else "",
                scope=scope,
                started_at=START + timedelta(seconds=at),
                duration=timedelta(seconds=lasting),
            )
            for trace, members in enumerate(traces)
            for number, (usage, scope, response, at, lasting) in enumerate(members)
        ],
    )
    for call in ledger().iter_rows(named=True):
        if call["input_tokens"] is not None:
            parts = ("fresh_input", "cache_read", "cache_write_5m", "cache_write_1h")
            assert sum(call[f"{part}_tokens"] or 0 for part in parts) == call["input_tokens"]


def test_hour_long_cache_writes_that_no_total_contains_are_part_of_the_input(store, ledger):
    usage = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    insert_spans(store, [Span("a", CHAT | usage | {"pennytrace.usage.cache_write_1h.input_tokens": 100})])
    [call] = ledger().to_dicts()
    assert (call["input_tokens"], call["fresh_input_tokens"], call["cache_write_1h_tokens"]) == (110, 10, 100)
    assert call["usage_note"] == "input sent without cached tokens: they exceed it"


def test_a_span_that_ends_at_the_end_of_time_does_not_stop_the_job(store, ledger):
    insert_spans(store, [Span("a", CHAT, duration=timedelta(days=365 * 500))])
    assert ledger()["duration_ns"].to_list() == [365 * 86_400 * 10**9]


@pytest.mark.parametrize("reading", ["nan", "inf", "-inf", "1e999", "many"])
def test_a_reading_that_is_no_number_is_unknown(store, ledger, reading):
    names = ("utilization", "memory_bytes", "energy_joules", "seconds")
    gpu = {"pennytrace.span.kind": "gpu", "hw.id": "0"} | {f"pennytrace.gpu.{name}": reading for name in names}
    insert_spans(store, [Span("a", CHAT), Span("g", gpu, parent="a")])
    [call] = ledger().to_dicts()
    assert (call["gpu_seconds"], call["gpu_energy_joules"]) == (None, None)
    devices = store.frame_of("SELECT utilization_mean, memory_bytes_mean, energy_joules FROM gpu_hourly")
    assert devices.rows() == [(None, None, None)]
