# ruff: noqa: ARG001, ARG005 # fixtures that only watch, and stand-ins that ignore what they are given
import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pennytrace
from pennytrace import observe, testing
from pennytrace.levers import Tier, cascade


def told(recorded, name):
    return [span.attributes.get(f"pennytrace.cascade.{name}") for span in recorded.of_lever("cascade")]


@pytest.mark.parametrize("is_async", [False, True])
def test_the_first_tier_that_is_sure_answers_and_what_was_tried_before_is_booked(recorded, model, is_async):
    def sure(answer):
        return "easy" in answer["answer"]

    def small(question):
        return model(question, input_tokens=10)

    async def small_async(question):
        return small(question)

    @cascade(Tier("faq", {"hours?": "9 to 5"}.get), Tier("small", small, sure), last="big")
    def ask(question):
        return model(question, input_tokens=1000)

    @cascade(Tier("faq", {"hours?": "9 to 5"}.get), Tier("small", small_async, sure), last="big")
    async def ask_async(question):
        return model(question, input_tokens=1000)

    for question in ["hours?", "easy", "hard"]:
        asyncio.run(ask_async(question)) if is_async else ask(question)
    assert told(recorded, "tier") == ["faq", "small", "big"]
    assert told(recorded, "tiers_tried") == [("faq",), ("faq", "small"), ("faq", "small", "big")]
    assert told(recorded, "escalations") == [0, 1, 2]
    assert [call.usage.input_tokens for call in recorded.calls] == [10, 10, 1000]
    candidates = [call.attributes["pennytrace.cascade.candidate"] for call in recorded.calls]
    assert candidates == ["small", "small", "big"]


def test_a_model_call_observed_inside_a_tier_is_booked_once(recorded, model):
    @observe(model="gpt-4o-mini", provider="openai")
    def small(question):
        return model(question)

    ask = cascade(Tier("small", small))(lambda question: None)
    ask("q")
    assert [call.usage.input_tokens for call in recorded.calls] == [100]


def test_a_tier_that_fails_is_no_answer_and_its_error_stands_on_its_span(recorded, model):
    def broken(_):
        raise ConnectionError

    ask = cascade(Tier("small", broken), last="big")(model)
    assert ask("q")["answer"] == "re: q"
    assert told(recorded, "tier") == ["big"]
    (tier,) = [span for span in recorded.spans if span.attributes.get("pennytrace.cascade.candidate") == "small"]
    assert tier.attributes["error.type"] == "ConnectionError"


def test_the_last_tiers_error_is_the_callers(recorded):
    @cascade(Tier("faq", lambda _: None))
    def ask(_):
        raise ValueError("out of answers")

    with pytest.raises(ValueError, match="out of answers"):
        ask("q")
    assert told(recorded, "tiers_tried") == [("faq", "last")]


def test_a_gate_that_fails_lets_nothing_pass(lenient, model):
    ask = cascade(Tier("small", model, lambda answer: answer["nonsense"]), last="big")(model)
    ask("q")
    assert (told(lenient, "tier"), model.calls) == (["big"], 2)


def test_an_async_gate_is_asked_and_not_taken_for_a_yes(recorded, model):
    async def sure(answer):
        return "easy" in answer["answer"]

    @cascade(Tier("small", model, sure), last="big")
    async def ask(question):
        return model(question)

    asyncio.run(ask("easy")), asyncio.run(ask("hard"))
    assert told(recorded, "tier") == ["small", "big"]


def test_an_async_gate_below_a_plain_function_is_an_error_when_decorating(model):
    async def sure(_):
        return False

    with pytest.raises(pennytrace.ConfigurationError, match="make it async"):
        cascade(Tier("small", model, sure))(model)


def test_a_gate_that_turns_out_to_be_async_below_a_plain_function_lets_nothing_pass(lenient, model):
    class Sure:
        def __await__(self):
            yield

    ask = cascade(Tier("small", model, lambda _: Sure()), last="big")(model)
    ask("q")
    assert told(lenient, "tier") == ["big"]


def test_an_async_cascade_takes_plain_tiers_too(recorded):
    @cascade(Tier("faq", lambda question: "yes" if question == "?" else None))
    async def ask(_):
        return "no"

    assert [asyncio.run(ask("?")), asyncio.run(ask("!"))] == ["yes", "no"]


def test_cancelling_a_cascade_is_no_reason_to_escalate(recorded):
    async def slow(_):
        await asyncio.sleep(10)

    asked = []

    @cascade(Tier("small", slow))
    async def ask(question):
        asked.append(question)

    async def main():
        task = asyncio.create_task(ask("q"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert asked == []


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ([], "one tier or more"),
        ([Tier("a", len), Tier("a", len)], "name of its own"),
        ([Tier("last", len)], "name of its own"),
    ],
)
def test_tiers_have_names_that_differ(tiers, message):
    with pytest.raises(pennytrace.ConfigurationError, match=message):
        cascade(*tiers)


def test_coroutine_tiers_below_a_plain_function_are_an_error_when_decorating():
    async def small(_):
        return None

    with pytest.raises(pennytrace.ConfigurationError, match="make it async"):
        cascade(Tier("small", small))(lambda _: None)


@given(costs=st.lists(st.integers(1, 1000), min_size=2, max_size=5), accepted=st.integers(0, 4))
def test_the_costs_of_all_tiers_that_were_asked_are_booked_and_no_others(costs, accepted):
    def tier(number):
        def answer(_):
            return {"id": f"r{number}", "usage": {"prompt_tokens": costs[number], "completion_tokens": 0}}

        return Tier(f"t{number}", answer, lambda _: number == accepted)

    last = len(costs) - 1
    ask = cascade(*(tier(number) for number in range(last)))(tier(last).answer)
    with testing.recorded() as found, testing.strict():
        answer = ask("q")
    asked = min(accepted, last)
    assert answer["id"] == f"r{asked}"
    assert [call.usage.input_tokens for call in found.calls] == costs[: asked + 1]
