from __future__ import annotations

from datetime import timedelta

import pytest

from tests.analytics.spans import START, Span, insert_spans

OPENAI = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1"}
CHAT = OPENAI | {"gen_ai.operation.name": "chat"}


def usage(input_tokens: int, output_tokens: int) -> dict[str, object]:
    return {"gen_ai.usage.input_tokens": input_tokens, "gen_ai.usage.output_tokens": output_tokens}


def test_an_agent_that_repeats_the_sum_of_its_calls_is_not_billed(store, ledger):
    """langfuse#14754: an agent roll-up plus its children came to twice the cost."""
    agent = OPENAI | {"gen_ai.operation.name": "invoke_agent"} | usage(300, 30)
    insert_spans(
        store,
        [
            Span("agent", agent),
            Span("c1", CHAT | usage(100, 10), parent="agent"),
            Span("c2", CHAT | usage(200, 20), parent="agent"),
        ],
    )
    assert ledger()["input_tokens"].sum() == 300


def test_a_wrapper_that_sums_two_calls_is_not_billed_even_when_it_calls_itself_chat(store, ledger):
    insert_spans(
        store,
        [
            Span("outer", CHAT | usage(300, 30)),
            Span("c1", CHAT | usage(100, 10) | {"gen_ai.response.id": "r1"}, parent="outer"),
            Span("c2", CHAT | usage(200, 20) | {"gen_ai.response.id": "r2"}, parent="outer"),
        ],
    )
    assert sorted(ledger()["input_tokens"]) == [100, 200]


def test_nested_spans_with_two_response_ids_are_two_calls(store, ledger):
    insert_spans(
        store,
        [
            Span("outer", CHAT | usage(300, 30) | {"gen_ai.response.id": "r1"}),
            Span("inner", CHAT | usage(100, 10) | {"gen_ai.response.id": "r2"}, parent="outer"),
        ],
    )
    assert sorted(ledger()["input_tokens"]) == [100, 300]


def test_twins_in_different_traces_become_one_call_that_knows_what_either_knew(store, ledger):
    response = {"gen_ai.response.id": "msg_1", "gen_ai.usage.cache_write.input_tokens": 50}
    split = {"anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 20}
    insert_spans(
        store,
        [
            Span("root", {"pennytrace.endpoint": "/ask"}, trace="1"),
            Span("a", CHAT | usage(100, 10) | response, trace="1", parent="root", scope="instrumentation"),
            Span("b", CHAT | usage(100, 10) | response | split, trace="2", scope="com.anthropic.sdk.python"),
        ],
    )
    [call] = ledger().to_dicts()
    assert (call["input_tokens"], call["cache_write_5m_tokens"], call["cache_write_1h_tokens"]) == (100, 30, 20)
    assert call["endpoint"] == "/ask"


@pytest.mark.parametrize("trace", ["1", "2"])
def test_calls_of_two_tenants_are_two_whatever_ids_they_share(store, ledger, trace):
    chat = CHAT | usage(100, 10) | {"gen_ai.response.id": "msg_1"}
    theirs = Span("call", chat, trace="1", scope="a", tenant="acme")
    insert_spans(store, [theirs, Span("call", chat, trace=trace, scope="b", tenant="rival")])
    calls = ledger()
    assert sorted(calls["tenant"]) == ["acme", "rival"]
    assert calls["billable"].all()
    assert calls["first_of_request"].all()
    assert not calls["possible_duplicate"].any()


def test_another_tenants_call_below_ones_own_does_not_take_its_place(store, ledger):
    chat = CHAT | usage(100, 10)
    insert_spans(store, [Span("a", chat, tenant="acme"), Span("b", chat, parent="a", tenant="rival", scope="other")])
    assert sorted(ledger()["tenant"]) == ["acme", "rival"]


def test_one_instrumentation_that_reuses_a_response_id_reports_two_calls(store, ledger):
    chat = CHAT | usage(100, 10) | {"gen_ai.response.id": "always-the-same"}
    insert_spans(store, [Span("a", chat, trace="1"), Span("b", chat, trace="2")])
    assert len(ledger()) == 2


def test_an_id_that_two_instrumentations_give_to_every_call_makes_no_twins_across_traces(store, ledger):
    chat = CHAT | usage(100, 10) | {"gen_ai.response.id": "chatcmpl-mock"}
    insert_spans(
        store,
        [
            Span(f"{n}", chat, trace=f"{n}", scope="ab"[n % 2], started_at=START + timedelta(seconds=n))
            for n in range(6)
        ],
    )
    assert len(ledger()) == 6


def test_an_id_that_two_instrumentations_give_to_every_call_makes_twins_within_a_trace(store, ledger):
    chat = CHAT | usage(100, 10) | {"gen_ai.response.id": "chatcmpl-mock"}
    insert_spans(store, [Span(f"{n}{scope}", chat, trace=f"{n}", scope=scope) for n in range(6) for scope in "ab"])
    assert len(ledger()) == 6


def test_one_response_id_minutes_apart_is_two_calls(store, ledger):
    chat = CHAT | usage(100, 10) | {"gen_ai.response.id": "r"}
    later = Span("b", chat, trace="2", scope="b", started_at=START + timedelta(minutes=3))
    insert_spans(store, [Span("a", chat, trace="1", scope="a"), later])
    assert len(ledger()) == 2


def test_one_response_id_with_other_counts_and_no_overlap_is_two_calls(store, ledger):
    response = {"gen_ai.response.id": "r"}
    later = Span("b", CHAT | usage(90, 10) | response, trace="2", scope="b", started_at=START + timedelta(seconds=30))
    insert_spans(store, [Span("a", CHAT | usage(100, 10) | response, trace="1", scope="a"), later])
    assert len(ledger()) == 2


def test_all_counts_of_twins_come_from_the_one_that_knows_most(store, ledger):
    response = {"gen_ai.response.id": "r"}
    cached = {"gen_ai.usage.cache_read.input_tokens": 100}
    insert_spans(
        store,
        [
            Span("a", CHAT | usage(50, 10) | response | {"pennytrace.endpoint": "/ask"}, trace="1", scope="a"),
            Span("b", CHAT | usage(150, 10) | response | cached, trace="2", scope="b"),
        ],
    )
    [call] = ledger().to_dicts()
    assert (call["endpoint"], call["input_tokens"], call["cache_read_tokens"]) == ("/ask", 150, 100)
    assert call["fresh_input_tokens"] == 50


def test_a_span_exported_twice_is_one_call(store, ledger):
    span = Span("a", CHAT | usage(100, 10))
    insert_spans(store, [span])
    insert_spans(store, [span], received_at=START + timedelta(seconds=5))
    assert len(ledger()) == 1


def test_a_failed_call_seen_twice_is_one_failed_call(store, ledger):
    failed = CHAT | {"error.type": "RateLimitError"}
    insert_spans(store, [Span("a", failed, is_error=True), Span("b", failed, parent="a", is_error=True)])
    [call] = ledger().to_dicts()
    assert (call["billable"], call["error_type"], call["cost_usd"], call["unpriced_reason"]) == (
        False,
        "RateLimitError",
        None,
        "",
    )


def test_a_retry_is_a_failed_row_beside_the_call_that_was_paid(store, ledger):
    insert_spans(
        store,
        [
            Span("outer", CHAT | usage(100, 10)),
            Span("try", CHAT, parent="outer", is_error=True),
            Span("again", CHAT | usage(100, 10), parent="outer", started_at=START + timedelta(seconds=1)),
        ],
    )
    calls = ledger()
    assert calls["billable"].to_list() == [False, True]
    assert calls["error_type"].to_list() == ["_OTHER", ""]


def test_a_call_whose_attempts_all_failed_but_that_has_usage_is_paid(store, ledger):
    insert_spans(store, [Span("outer", CHAT | usage(100, 10)), Span("try", CHAT, parent="outer", is_error=True)])
    assert ledger()["billable"].sum() == 1


def test_an_error_after_tokens_were_used_is_billed(store, ledger):
    insert_spans(store, [Span("a", CHAT | usage(100, 10) | {"error.type": "Cancelled"}, is_error=True)])
    [call] = ledger().to_dicts()
    assert call["billable"]
    assert call["error_type"] == "Cancelled"
    assert call["cost_usd"] > 0


def test_an_outer_span_without_usage_is_not_an_unpriced_call(store, ledger):
    embeddings = OPENAI | {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "text-embedding-3-small"}
    insert_spans(
        store,
        [Span("outer", embeddings), Span("inner", embeddings | {"gen_ai.usage.input_tokens": 9}, parent="outer")],
    )
    [call] = ledger().to_dicts()
    assert (call["input_tokens"], call["unpriced_reason"]) == (9, "")


def test_calls_that_two_tools_may_both_have_reported_are_marked(store, ledger):
    insert_spans(
        store,
        [
            Span("root", {}),
            Span("hand", CHAT | usage(100, 10), parent="root", scope="langfuse-sdk"),
            Span("native", CHAT | usage(100, 10) | {"gen_ai.response.id": "r"}, parent="root", scope="native"),
        ],
    )
    assert sorted(ledger()["possible_duplicate"]) == [False, True]


def test_an_answer_from_the_applications_cache_costs_nothing_and_says_what_it_saved(store, ledger):
    """langfuse#2112: responses served from a cache were still priced."""
    cache = {"pennytrace.span.kind": "cache", "pennytrace.response_cache.hit": True}
    insert_spans(
        store,
        [
            Span("request", CHAT | {"pennytrace.span.kind": "request", "pennytrace.endpoint": "/ask"}),
            Span("hit", OPENAI | cache | usage(1000, 100), parent="request"),
            Span("request2", {"pennytrace.span.kind": "request", "pennytrace.endpoint": "/ask"}, trace="2"),
            Span("unknown", OPENAI | cache, parent="request2", trace="2", started_at=START + timedelta(seconds=1)),
        ],
    )
    hit, unknown = ledger().to_dicts()
    assert hit["response_cache_hit"]
    assert not hit["billable"]
    assert hit["endpoint"] == "/ask"
    assert (hit["cost_usd"], hit["unpriced_reason"], str(hit["saved_usd"])) == (None, "", "0.002800000000")
    assert unknown["saved_usd"] is None
    [totals] = store.rows("costs_by_dimensions", since=START, until=START + timedelta(hours=1))
    assert (totals["requests"], totals["calls"], totals["response_cache_hits"], totals["input_tokens"]) == (2, 0, 2, 0)
    assert totals["unpriced_cache_hits"] == 1


def test_a_call_without_usage_is_unpriced_and_never_free(store, ledger):
    """litellm#37923: streamed calls were booked as zero dollars."""
    insert_spans(store, [Span("a", CHAT)])
    [call] = ledger().to_dicts()
    assert (call["billable"], call["cost_usd"], call["unpriced_reason"]) == (True, None, "no usage reported")


def test_gpu_spans_below_a_call_add_up_and_unknown_joules_stay_unknown(store, ledger):
    gpu = {"pennytrace.span.kind": "gpu", "hw.name": "H200", "pennytrace.gpu.utilization": 0.5}
    insert_spans(
        store,
        [
            Span("a", CHAT | usage(100, 10)),
            Span("g0", gpu | {"hw.id": "0", "pennytrace.gpu.seconds": 1.5}, parent="a"),
            Span("g1", gpu | {"hw.id": "1", "pennytrace.gpu.seconds": 0.5}, parent="a"),
        ],
    )
    [call] = ledger().to_dicts()
    assert (call["gpu_seconds"], call["gpu_energy_joules"]) == (2.0, None)
    facts = store.frame_of("SELECT gpu_seconds, gpu_energy_joules FROM cost_hourly")
    assert facts.rows() == [(2.0, None)]
    devices = store.frame_of(
        "SELECT gpu_id, samples, utilization_mean, memory_bytes_mean FROM gpu_hourly ORDER BY gpu_id"
    )
    assert devices.rows() == [("0", 1, 0.5, None), ("1", 1, 0.5, None)]


def test_what_a_wrapper_knows_of_its_one_call_is_kept(store, ledger):
    gpu = {"pennytrace.span.kind": "gpu", "hw.id": "0", "pennytrace.gpu.seconds": 1.5}
    engine = {"gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 10}
    insert_spans(
        store,
        [
            Span("wrapper", CHAT | {"pennytrace.span.kind": "request", "pennytrace.model.version": "awq-4"}),
            Span("gpu", gpu, parent="wrapper"),
            Span("engine", engine, parent="wrapper", name="llm_request"),
        ],
    )
    [call] = ledger().to_dicts()
    assert (call["model"], call["model_version"], call["provider"]) == ("gpt-4.1", "awq-4", "openai")
    assert (call["input_tokens"], call["gpu_seconds"]) == (100, 1.5)


def test_a_failed_attempt_below_a_call_whose_usage_is_unknown_stays_a_row_of_its_own(store, ledger):
    insert_spans(store, [Span("outer", CHAT), Span("try", CHAT, parent="outer", is_error=True)])
    assert sorted(zip(*ledger().select("billable", "error_type"), strict=True)) == [(False, "_OTHER"), (True, "")]
