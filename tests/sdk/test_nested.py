"""Observed calls within observed calls: every model call is booked once, on a leaf."""

from types import SimpleNamespace

import pennytrace
from pennytrace import observe


def completion(response_id="chatcmpl-1", prompt=100, output=20):
    usage = SimpleNamespace(prompt_tokens=prompt, completion_tokens=output)
    return SimpleNamespace(id=response_id, object="chat.completion", model="gpt-4o-2024-08-06", usage=usage)


def test_nested_calls_are_parent_and_child_and_only_the_outermost_is_the_request(spans):
    @observe(model="gpt-4o")
    def inner():
        return completion()

    @observe(endpoint="/chat")
    def outer():
        inner()

    outer()
    assert spans.named("chat gpt-4o").parent.span_id == spans.named("/chat").context.span_id
    assert [s.name for s in spans.of_kind("request")] == ["/chat"]


def test_an_answer_that_the_inner_call_booked_is_not_booked_again_when_the_outer_returns_it(spans):
    @observe(model="gpt-4o")
    def inner():
        return completion()

    @observe(endpoint="/chat", model="gpt-4o")
    def outer():
        return inner()

    outer()
    assert spans.named("chat gpt-4o").attributes["gen_ai.usage.input_tokens"] == 100
    assert not [k for k in spans.named("/chat").attributes if k.startswith("gen_ai.")]


def test_an_answer_without_an_id_is_told_apart_by_its_usage_object(spans):
    embedding = SimpleNamespace(object="list", model="e", usage=SimpleNamespace(prompt_tokens=5, total_tokens=5))

    @observe(operation="embeddings", model="e")
    def inner():
        return embedding

    @observe(endpoint="/search")
    def outer():
        return inner()

    outer()
    billed = [s for s in spans.all() if "gen_ai.usage.input_tokens" in s.attributes]
    assert [(s.name, s.attributes["gen_ai.operation.name"]) for s in billed] == [("embeddings e", "embeddings")]


def test_usage_stands_only_on_leaves_when_the_outer_call_also_called_a_model_itself(spans):
    @observe(model="small")
    def plan():
        return completion("a", 10, 1)

    @observe(endpoint="/agent", provider="openai")
    def agent():
        plan()
        return completion("b", 1000, 100)

    agent()
    billed = {s.attributes["gen_ai.response.id"]: s for s in spans.all() if "gen_ai.response.id" in s.attributes}
    assert billed.keys() == {"a", "b"}
    assert billed["b"].parent.span_id == spans.named("/agent").context.span_id
    assert billed["b"].attributes["gen_ai.usage.input_tokens"] == 1000
    assert "gen_ai.operation.name" not in spans.named("/agent").attributes


def test_a_sum_of_the_usage_of_calls_below_is_not_booked_again(spans):
    @observe(model="gpt-4o")
    def inner(response_id):
        return completion(response_id)

    @observe(endpoint="/agent")
    def agent():
        used = inner("a").usage.prompt_tokens + inner("b").usage.prompt_tokens
        return {"text": "x", "usage": {"input_tokens": used, "output_tokens": 40}}

    assert agent()["usage"]["input_tokens"] == 200
    assert [s.name for s in spans.all() if "gen_ai.usage.input_tokens" in s.attributes] == ["chat gpt-4o"] * 2


def test_a_response_without_an_id_that_is_stated_counts_beside_one_that_is_returned(spans):
    @observe(endpoint="/search")
    def search():
        usage = SimpleNamespace(prompt_tokens=5, total_tokens=5)
        pennytrace.record_usage(SimpleNamespace(object="list", model="e", usage=usage))
        return completion()

    search()
    booked = {s.name: s.attributes["gen_ai.usage.input_tokens"] for s in spans.all() if s.parent}
    assert booked == {"embeddings e": 5, "chat gpt-4o-2024-08-06": 100}


def test_two_stated_responses_in_one_call_are_two_model_calls(spans):
    @observe(endpoint="/answer", provider="openai")
    def answer():
        pennytrace.record_usage(completion("a", 10, 1))
        last = completion("b", 30, 3)
        pennytrace.record_usage(last)
        return last

    answer()
    children = [s for s in spans.all() if s.parent]
    assert sorted(s.attributes["gen_ai.usage.input_tokens"] for s in children) == [10, 30]
    assert "gen_ai.usage.input_tokens" not in spans.named("/answer").attributes
