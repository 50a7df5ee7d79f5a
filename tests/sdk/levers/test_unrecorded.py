"""Levers work alike when nobody records: spans are sampled out, or nothing is configured."""

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import pennytrace
from pennytrace import testing
from pennytrace.levers import (
    BudgetExceededError,
    Limits,
    MemoryCounters,
    Tier,
    batch,
    budget,
    cache,
    cascade,
    current_variant,
    variant,
)


@pytest.fixture
def sampled_out():
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with testing.capture(provider) as captured, testing.strict():
        yield captured


def test_a_budget_settles_by_the_answer_and_refuses(sampled_out, model, words, clock):
    counters = MemoryCounters()
    limited = budget(
        Limits(tokens_per_day=250),
        max_output_tokens=100,
        tokenizer=words,
        prompt="question",
        counters=counters,
        clock=clock,
    )
    ask = limited(model)
    ask("a")
    assert counters.value("default:2026-01-01:tokens_per_day") == 120
    ask("b")
    with pytest.raises(BudgetExceededError):
        ask("c")
    assert sampled_out.spans == []


def test_a_cache_a_cascade_a_batch_and_a_variant_answer_as_ever(sampled_out, model):
    @cache()
    @cascade(Tier("none", lambda _: None))
    @variant("e", {"new": 1}, subject=lambda question: question)
    def ask(question):
        return model(question), current_variant()

    @batch()
    async def double(numbers):
        return [2 * number for number in numbers]

    async def doubled():
        return await asyncio.gather(double(1), double(2))

    assert ask("q") == ask("q")
    assert (ask("q")[1], model.calls) == ("new", 1)
    assert asyncio.run(doubled()) == [2, 4]
    assert sampled_out.spans == []


def test_levers_need_no_configure():
    code = (
        "from pennytrace.levers import cache\n"
        "calls = []\n"
        "ask = cache()(lambda q: calls.append(q) or q.upper())\n"
        "print(ask('a'), ask('a'), len(calls))"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout.strip(), ran.stderr) == ("A A 1", "")


def test_a_call_counted_by_usage_alone_is_no_answer_to_reuse(sampled_out):
    @cache()
    def ask(_):
        pennytrace.record_usage(input_tokens=3, output_tokens=1)
        return "x"

    assert [ask("q"), ask("q")] == ["x", "x"]
    assert sampled_out.spans == []
