"""`observe` around a block, and calls that are begun and ended by hand."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import pennytrace
from pennytrace import observe, start


def completion(response_id="chatcmpl-1", prompt=100, output=20):
    usage = SimpleNamespace(prompt_tokens=prompt, completion_tokens=output)
    return SimpleNamespace(id=response_id, object="chat.completion", model="gpt-4o-2024-08-06", usage=usage)


def test_a_block_is_a_call_like_a_decorated_function(spans):
    with observe(endpoint="/chat", model="gpt-4o", provider="openai") as call:
        call.record_usage(completion())
    assert spans.one().name == "/chat"
    assert dict(spans.one().attributes) == {
        "pennytrace.span.kind": "request",
        "pennytrace.endpoint": "/chat",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
    }


def test_what_runs_in_the_block_is_below_it_and_finds_it(spans, provider):
    with observe(endpoint="/chat", tenant="acme"):
        pennytrace.record_usage(input_tokens=3, output_tokens=1)
        provider.get_tracer("app").start_span("db").end()
        with observe(model="small") as inner:
            inner.record_usage(input_tokens=5, output_tokens=2)
    outer = spans.named("/chat")
    assert spans.named("db").parent.span_id == outer.context.span_id
    billed = {s.name: s.attributes["gen_ai.usage.input_tokens"] for s in spans.all() if s.parent and s.name != "db"}
    assert billed == {"chat small": 5, "chat": 3}
    assert spans.named("chat small").attributes["pennytrace.tenant"] == "acme"
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_an_error_leaves_the_block_and_is_recorded_with_what_was_paid(spans):
    def failing():
        with observe(endpoint="/chat", model="m"):
            pennytrace.record_usage(input_tokens=70, output_tokens=0)
            raise TimeoutError

    with pytest.raises(TimeoutError):
        failing()
    span = spans.one()
    assert (span.attributes["error.type"], span.status.status_code) == ("TimeoutError", StatusCode.ERROR)
    assert span.attributes["gen_ai.usage.input_tokens"] == 70


def test_an_async_block_is_measured_while_it_waits(spans):
    async def main():
        async with observe(endpoint="/a", model="m") as call:
            await asyncio.sleep(0.02)
            call.record_usage(input_tokens=1, output_tokens=1)

    asyncio.run(main())
    assert spans.one().end_time - spans.one().start_time >= 20_000_000


def test_one_observe_object_can_be_kept_and_shared_by_tasks_and_threads_and_functions(spans):
    kept = observe(endpoint="/shared", model="m")

    async def task(number):
        async with kept as call:
            await asyncio.sleep(0.001 * (number % 3))
            call.record_usage(input_tokens=number, output_tokens=0)

    async def main():
        await asyncio.gather(*(task(number) for number in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept(lambda: pennytrace.record_usage(input_tokens=99, output_tokens=0))()
    counts = sorted(s.attributes["gen_ai.usage.input_tokens"] for s in spans.all())
    assert counts == sorted([*range(10)] * 2 + [99])
    assert all(span.parent is None for span in spans.all())


def test_a_call_by_hand_begins_in_one_place_and_ends_in_another(spans):
    call = start(endpoint="/stream", model="m", provider="vllm", tenant="acme")
    assert trace.get_current_span() is trace.INVALID_SPAN

    def elsewhere():
        call.chunk("Hel")
        call.chunk("lo")
        call.record_usage(input_tokens=10, output_tokens=2, cache_read_tokens=4)
        call.end()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    attributes = spans.one().attributes
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.time_to_first_chunk"] >= 0
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 4
    assert attributes["pennytrace.tenant"] == "acme"


def test_a_call_by_hand_ends_once_and_says_why_it_failed(spans):
    call = start(endpoint="/x")
    call.end(ValueError("not recorded"))
    call.end()
    call.record_usage(input_tokens=1, output_tokens=1)
    assert spans.one().attributes["error.type"] == "ValueError"
    assert "gen_ai.usage.input_tokens" not in spans.one().attributes


def test_spans_and_statements_within_active_belong_to_the_call(spans, provider):
    call = start(endpoint="/x")
    with call.active():
        pennytrace.record_usage(input_tokens=8, output_tokens=1)
        provider.get_tracer("app").start_span("db").end()
    call.end()
    assert spans.named("db").parent.span_id == spans.named("/x").context.span_id
    assert spans.named("/x").attributes["gen_ai.usage.input_tokens"] == 8
    with call.active():
        assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_cached_answer_and_a_tenant_can_be_said_of_a_call_by_hand(spans):
    with observe(endpoint="/faq", model="gpt-4o") as call:
        call.set_tenant("acme")
        call.record_cached(completion())
    assert spans.of_kind("cache")[0].attributes["gen_ai.usage.input_tokens"] == 100
    assert spans.named("/faq").attributes["pennytrace.tenant"] == "acme"


def test_a_block_in_a_generator_that_is_dropped_ends_as_abandoned(spans):
    def chunks():
        with observe(endpoint="/s", model="m") as call:
            call.record_usage(input_tokens=6, output_tokens=1)
            yield "a"
            yield "b"

    stream = chunks()
    next(stream)
    stream.close()
    assert spans.one().attributes["pennytrace.stream.abandoned"] is True
    assert "error.type" not in spans.one().attributes
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 6


def test_whole_numbers_of_other_types_are_counts_and_anything_else_is_refused(spans):
    before = spans.handle.counts().errors
    with observe(endpoint="/x") as call:
        call.record_usage(input_tokens=np.int64(7), output_tokens=2.0)
        for wrong in (-1, 1.5, True, "12"):
            call.record_usage(input_tokens=wrong, output_tokens=1)
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 7
    assert type(spans.one().attributes["gen_ai.usage.output_tokens"]) is int
    assert spans.handle.counts().errors == before + 4


def test_a_wrong_option_is_refused_at_once():
    with pytest.raises(pennytrace.ConfigurationError, match="expected options of @observe among endpoint, model"):
        start(endpint="/x")
    with pytest.raises(pennytrace.ConfigurationError):
        observe(endpint="/x")
