import asyncio
import functools
import inspect
import threading
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

import pennytrace
from pennytrace import observe
from pennytrace.testing import strict


def completion(response_id="chatcmpl-1", prompt=100, output=20):
    usage = SimpleNamespace(prompt_tokens=prompt, completion_tokens=output)
    return SimpleNamespace(id=response_id, object="chat.completion", model="gpt-4o-2024-08-06", usage=usage)


def test_a_decorated_function_returns_its_result_and_ends_one_span_with_usage(spans):
    @observe(endpoint="/chat", model="gpt-4o", provider="openai")
    def chat():
        return completion()

    assert chat().id == "chatcmpl-1"
    span = spans.one()
    assert (span.name, span.kind) == ("/chat", SpanKind.CLIENT)
    assert dict(span.attributes) == {
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


def test_it_works_bare_and_a_function_that_calls_no_model_gets_no_gen_ai_attributes(spans):
    @observe
    def lookup(key):
        return {"key": key}

    assert lookup("a") == {"key": "a"}
    assert spans.one().name.endswith("lookup")
    assert dict(spans.one().attributes) == {"pennytrace.span.kind": "request"}


def test_a_coroutine_is_awaited_inside_its_span(spans):
    @observe(endpoint="/chat")
    async def chat():
        await asyncio.sleep(0.03)
        return completion()

    asyncio.run(chat())
    assert spans.one().end_time - spans.one().start_time >= 30_000_000
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 100


def test_methods_and_class_methods_keep_their_receiver(spans):
    class Model:
        scale = 3

        @observe(endpoint="/m")
        def predict(self, x):
            return x * self.scale

        @classmethod
        @observe(endpoint="/c")
        def make(cls):
            return cls()

        @staticmethod
        @observe(endpoint="/s")
        def double(x):
            return 2 * x

    assert (Model.make().predict(2), Model.double(4)) == (6, 8)
    assert [s.name for s in spans.all()] == ["/c", "/m", "/s"]


def test_every_kind_of_function_stays_what_it_was():
    def plain(a: int, *, b: str = "x") -> str:
        """Doc."""

    async def coroutine(): ...

    def generator():
        yield

    async def async_generator():
        yield

    for function in (plain, coroutine, generator, async_generator):
        observed = observe(endpoint="/e")(function)
        assert observed.__wrapped__ is function
        assert observed.__name__ == function.__name__
        assert inspect.signature(observed) == inspect.signature(function)
        for question in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        ):
            assert question(observed) == question(function)


def test_a_partial_can_be_observed(spans):
    assert observe(endpoint="/p")(functools.partial(max, 3))(7) == 7
    assert spans.one().name == "/p"


def test_the_users_exception_propagates_unchanged_and_its_type_is_recorded_but_not_its_words(spans):
    boom = ValueError("no such document")

    @observe(endpoint="/chat", model="gpt-4o")
    def chat():
        raise boom

    with pytest.raises(ValueError, match="no such document") as caught:
        chat()
    assert caught.value is boom
    span = spans.one()
    assert span.attributes["error.type"] == "ValueError"
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.events[0].attributes) == {"exception.type": "builtins.ValueError"}
    assert "no such document" not in span.to_json()
    assert span.attributes["gen_ai.operation.name"] == "chat"
    assert "gen_ai.usage.input_tokens" not in span.attributes


def test_wrong_arguments_are_the_callers_type_error_and_end_the_span(spans):
    @observe(endpoint="/a")
    async def coroutine(): ...

    @observe(endpoint="/g")
    def generator():
        yield

    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        asyncio.run(coroutine(x=1))
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        next(generator(x=1))
    assert [s.attributes["error.type"] for s in spans.all()] == ["TypeError", "TypeError"]


def test_a_cancelled_coroutine_ends_its_span_with_what_was_recorded(spans):
    @observe(endpoint="/chat", model="m")
    async def chat():
        pennytrace.record_usage(input_tokens=70)
        await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(chat())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert spans.one().attributes["error.type"] == "CancelledError"
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 70


def test_a_function_that_returns_a_coroutine_is_observed_to_the_coroutines_end(spans):
    async def create():
        await asyncio.sleep(0.02)
        return completion()

    class Client:
        async def __call__(self):
            return await create()

    asyncio.run(observe(endpoint="/a")(functools.partial(lambda make: make(), create))())
    asyncio.run(observe(endpoint="/b")(Client())())
    assert [s.attributes["gen_ai.usage.input_tokens"] for s in spans.all()] == [100, 100]
    assert all(s.end_time - s.start_time >= 20_000_000 for s in spans.all())


def test_stated_counts_win_over_what_the_result_says(spans):
    @observe(endpoint="/chat")
    def chat():
        pennytrace.record_usage(
            input_tokens=50,
            output_tokens=5,
            cache_read_tokens=20,
            cache_write_5m_tokens=4,
            cache_write_1h_tokens=6,
            reasoning_tokens=2,
            model="m",
            provider="acme",
            response_id="r1",
        )

    chat()
    found = {k: v for k, v in spans.one().attributes.items() if "usage" in k or "response" in k}
    assert found == {
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.cache_write.input_tokens": 10,
        "pennytrace.usage.cache_write_1h.input_tokens": 6,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "gen_ai.response.id": "r1",
        "gen_ai.response.model": "m",
    }


def test_a_stated_total_silences_the_automatic_reading(spans):
    @observe(endpoint="/chat")
    def chat():
        pennytrace.record_usage(input_tokens=7)
        return completion()

    chat()
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 7
    assert "gen_ai.usage.output_tokens" not in spans.one().attributes


@pytest.mark.parametrize(
    "given",
    [
        pennytrace.Usage(input_tokens=9, output_tokens=2),
        {"input_tokens": 9, "output_tokens": 2, "reasoning_tokens": 0},
        SimpleNamespace(prompt_tokens=9, completion_tokens=2),
    ],
)
def test_a_usage_callable_reads_what_we_cannot(spans, given):
    @observe(endpoint="/x", model="m", usage=lambda result: given if result == "ok" else None)
    def call():
        return "ok"

    call()
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 9
    assert spans.one().attributes["gen_ai.usage.output_tokens"] == 2


def test_tenant_variant_and_model_may_be_callables_of_the_arguments(spans):
    @observe(
        endpoint="/x",
        tenant=lambda request: request["org"],
        variant=lambda request: request.get("arm"),
        model=lambda request: request["model"],
        model_version="3",
    )
    def call(request):
        return completion(request["id"])

    call({"id": "r1", "org": "acme", "model": "gpt-4o"})
    attributes = spans.one().attributes
    assert (attributes["pennytrace.tenant"], attributes["gen_ai.request.model"]) == ("acme", "gpt-4o")
    assert attributes["pennytrace.model.version"] == "3"
    assert "pennytrace.variant" not in attributes


def test_the_model_keyword_of_the_function_is_the_request_model_by_default(spans):
    @observe(endpoint="/x")
    def create(*, model):
        return completion(f"answer of {model}")

    create(model="gpt-4o")
    assert spans.one().attributes["gen_ai.request.model"] == "gpt-4o"


def test_set_tenant_names_the_tenant_of_the_whole_request_and_of_nothing_else(spans):
    @observe(model="m")
    def model_call():
        return completion()

    @observe(model="n")
    def authenticate():
        pennytrace.set_tenant("acme")

    @observe(endpoint="/chat")
    def chat(known):
        if known:
            authenticate()
        model_call()

    chat(known=True)
    assert [s.attributes["pennytrace.tenant"] for s in spans.all()] == ["acme"] * 3
    chat(known=False)
    assert ["pennytrace.tenant" in s.attributes for s in spans.all()[3:]] == [False, False]


def test_concurrent_tasks_and_threads_keep_their_usage_apart(spans):
    @observe(endpoint="/a")
    async def chat(n):
        await asyncio.sleep(0.001 * (n % 3))
        pennytrace.record_usage(input_tokens=n)

    async def main():
        await asyncio.gather(*(chat(n) for n in range(20)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = sorted(s.attributes["gen_ai.usage.input_tokens"] for s in spans.all())
    assert counts == sorted([*range(20)] * 3)
    assert all(s.parent is None for s in spans.all())


def test_a_recorded_child_joins_the_trace_that_the_application_opened(spans, provider):
    @observe(endpoint="/chat")
    def chat():
        with provider.get_tracer("app").start_as_current_span("db"):
            pass

    with provider.get_tracer("app").start_as_current_span("GET /chat"):
        chat()
    assert spans.named("/chat").parent.span_id == spans.named("GET /chat").context.span_id
    assert spans.named("db").parent.span_id == spans.named("/chat").context.span_id


def test_an_unknown_option_or_a_non_function_is_refused_when_decorating():
    with pytest.raises(pennytrace.ConfigurationError, match="expected options of @observe among endpoint, model"):
        observe(endpint="/x")
    with pytest.raises(pennytrace.ConfigurationError, match="expected a function to observe, got '/chat'"):
        observe("/chat")
    with pytest.raises(pennytrace.ConfigurationError, match="below @classmethod"):
        observe(classmethod(str))
    with pytest.raises(pennytrace.ConfigurationError, match="expected a function to observe, got <class"):
        observe(dict)


def broken(*_args):
    raise RuntimeError("broken extractor")


def test_failures_of_ours_and_of_callables_never_reach_serving_code_and_are_counted(spans):
    before = spans.handle.counts().errors

    @observe(endpoint="/x", tenant=broken, usage=broken)
    def call(_):
        pennytrace.record_usage("not a response")
        pennytrace.record_cached(object())
        return "ok"

    assert [call(1), call(2)] == ["ok", "ok"]
    pennytrace.record_usage(input_tokens=1)
    pennytrace.set_tenant("x")
    assert spans.handle.counts().errors == before + 10
    assert len(spans.all()) == 2


def test_strict_mode_raises_instrumentation_failures_in_tests(spans):
    @observe(endpoint="/x", usage=broken)
    def call():
        return "ok"

    with strict(), pytest.raises(RuntimeError, match="broken extractor"):
        call()
    assert call() == "ok"
    assert len(spans.all()) == 2


def test_an_unsampled_call_runs_as_ever():
    off = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with pennytrace.configure(tracer_provider=off, export=False, gpu=False) as handle:
        before = handle.counts().errors

        @observe(endpoint="/x")
        def call():
            pennytrace.record_usage(input_tokens=1)
            pennytrace.record_cached()
            return completion()

        assert call().id == "chatcmpl-1"
        assert handle.counts().errors == before
