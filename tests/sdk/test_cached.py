from types import SimpleNamespace

import pytest

import pennytrace
from pennytrace import observe

ANSWER = SimpleNamespace(
    id="chatcmpl-1",
    object="chat.completion",
    model="gpt-4o-2024-08-06",
    usage=SimpleNamespace(prompt_tokens=100, completion_tokens=20),
)


@pytest.mark.parametrize("declared", [{}, {"model": "gpt-4o", "provider": "openai"}])
def test_a_cached_answer_is_a_cache_span_with_the_usage_it_saved_and_a_request_without_usage(spans, declared):
    @observe(endpoint="/chat", **declared)
    def chat():
        pennytrace.record_cached(ANSWER, provider="openai")
        return ANSWER

    assert chat() is ANSWER
    (cache,) = spans.of_kind("cache")
    (request,) = spans.of_kind("request")
    assert dict(cache.attributes) == {
        "pennytrace.span.kind": "cache",
        "pennytrace.response_cache.hit": True,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": declared.get("model", "gpt-4o-2024-08-06"),
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
    }
    assert cache.parent.span_id == request.context.span_id
    assert dict(request.attributes) == {"pennytrace.span.kind": "request", "pennytrace.endpoint": "/chat"}


def test_a_hit_of_unknown_usage_names_the_model_and_no_counts(spans):
    @observe(endpoint="/chat")
    def chat():
        pennytrace.record_cached(model="gpt-4o")
        return "hello again"

    chat()
    (cache,) = spans.of_kind("cache")
    assert cache.attributes["gen_ai.request.model"] == "gpt-4o"
    assert not [key for key in cache.attributes if "usage" in key]


def test_usage_alone_tells_what_was_saved(spans):
    @observe(endpoint="/chat", model="m")
    def chat():
        pennytrace.record_cached(pennytrace.Usage(input_tokens=3, output_tokens=4))

    chat()
    (cache,) = spans.of_kind("cache")
    assert cache.attributes["gen_ai.usage.input_tokens"] == 3


def test_a_cached_answer_that_an_outer_function_returns_is_not_billed_there(spans):
    @observe(model="gpt-4o")
    def ask():
        pennytrace.record_cached(ANSWER)
        return ANSWER

    @observe(endpoint="/chat", model="gpt-4o")
    def chat():
        return ask()

    chat()
    assert [s.name for s in spans.all() if "gen_ai.usage.input_tokens" in s.attributes] == ["cache"]
    assert not [s.name for s in spans.all() if "gen_ai.operation.name" in s.attributes]


def test_a_call_that_is_paid_beside_a_cached_one_is_a_child_of_its_own(spans):
    @observe(endpoint="/chat", model="gpt-4o")
    def chat():
        pennytrace.record_cached(ANSWER)
        pennytrace.record_usage(input_tokens=9, output_tokens=1)

    chat()
    assert "gen_ai.usage.input_tokens" not in spans.named("/chat").attributes
    assert spans.named("chat gpt-4o").attributes["gen_ai.usage.input_tokens"] == 9
