# ruff: noqa: ARG001, ARG005 # fixtures that only watch, and stand-ins that ignore what they are given
import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pennytrace
from pennytrace import observe, testing
from pennytrace.levers import (
    BudgetExceededError,
    Limits,
    MemoryCounters,
    Price,
    RedisCounters,
    budget,
    cache,
)

PRICE = Price(input_usd_per_million=Decimal("2.50"), output_usd_per_million=Decimal(10))
FORMS = ["plain", "coroutine", "generator", "async generator"]


def in_form(form, decorate, function):
    """The function decorated in one of its forms, to be called like the plain one."""

    async def coroutine(question):
        return function(question)

    def generator(question):
        yield function(question)

    async def async_generator(question):
        yield function(question)

    async def collected(question):
        return [answer async for answer in made(question)].pop()

    made = decorate({"plain": function, "coroutine": coroutine, "generator": generator}.get(form, async_generator))
    return {
        "plain": made,
        "coroutine": lambda question: asyncio.run(made(question)),
        "generator": lambda question: next(iter(list(made(question)))),
        "async generator": lambda question: asyncio.run(collected(question)),
    }[form]


def told(recorded, name):
    return [span.attributes.get(f"pennytrace.budget.{name}") for span in recorded.of_lever("budget")]


@pytest.mark.parametrize("form", FORMS)
def test_a_call_past_its_limit_is_refused_before_it_is_made_and_the_refusal_is_a_span(recorded, model, words, form):
    limited = budget(Limits(tokens_per_call=12), max_output_tokens=10, tokenizer=words, prompt="question")
    ask = in_form(form, limited, model)
    ask("two words")
    with pytest.raises(BudgetExceededError) as refused:
        ask("three words here")
    assert (refused.value.limit, refused.value.allowed, refused.value.asked) == ("tokens_per_call", 12, 13)
    assert "shorten the prompt" in str(refused.value)
    assert model.calls == 1
    assert told(recorded, "outcome") == ["allowed", "refused"]
    assert told(recorded, "limit") == [None, "tokens_per_call"]
    assert recorded.of_lever("budget")[1].attributes["error.type"] == "BudgetExceededError"
    assert len(recorded.calls) == 1


@pytest.mark.parametrize("form", FORMS)
def test_the_estimate_is_replaced_by_what_the_call_used(recorded, model, words, form):
    counters = MemoryCounters()
    limited = budget(
        Limits(tokens_per_day=1_000, usd_per_day=Decimal("0.01")),
        max_output_tokens=500,
        tokenizer=words,
        prompt="question",
        price=PRICE,
        counters=counters,
        clock=testing.MemoryClock(),
    )
    in_form(form, limited, lambda question: model(question, input_tokens=100, output_tokens=20))("one two")
    assert counters.value("default:2026-01-01:tokens_per_day") == 120
    assert counters.value("default:2026-01-01:usd_per_day") == 450_000_000  # 100 x $2.50/M + 20 x $10/M
    assert (told(recorded, "estimated_tokens"), told(recorded, "actual_tokens")) == ([502], [120])
    assert (told(recorded, "estimated_usd"), told(recorded, "actual_usd")) == (["0.005005"], ["0.00045"])


def test_cached_input_is_charged_at_its_own_price():
    price = Price(
        input_usd_per_million=Decimal(3),
        output_usd_per_million=Decimal(15),
        cache_read_usd_per_million=Decimal("0.30"),
        cache_write_usd_per_million=Decimal("3.75"),
    )
    usage = pennytrace.Usage(
        input_tokens=1_000,
        output_tokens=100,
        cache_read_tokens=600,
        cache_write_5m_tokens=200,
        cache_write_1h_tokens=100,
    )
    assert price.cost_usd(usage, input_tokens=0, output_tokens=0) == Decimal("0.003105")


def day_budget(words, clock, counters, **options):
    return budget(
        Limits(tokens_per_tenant_day=100),
        max_output_tokens=0,
        count_tokens=lambda tokens, **_: tokens,
        counters=counters,
        clock=clock,
        **options,
    )


def test_each_tenant_has_a_day_of_its_own_and_a_new_day_begins_at_midnight_utc(recorded, words, clock):
    counters = MemoryCounters()

    @observe(endpoint="/chat", tenant=lambda tokens, tenant: tenant)
    def chat(tokens, tenant):
        return spend(tokens)

    @day_budget(words, clock, counters)
    def spend(tokens):
        pennytrace.record_usage(input_tokens=tokens, output_tokens=0)

    chat(100, "acme")
    chat(60, "beta")
    with pytest.raises(BudgetExceededError, match="of which 60 is spent"):
        chat(41, "beta")
    clock.advance(86_399)
    with pytest.raises(BudgetExceededError):
        chat(1, "acme")
    clock.advance(1)
    chat(100, "acme")


def test_a_tenant_may_be_named_by_the_arguments(recorded, words, clock):
    counters = MemoryCounters()
    spend = day_budget(words, clock, counters, tenant=lambda tokens, who: who)(lambda tokens, who: None)
    spend(100, who="a")
    spend(100, who="b")
    with pytest.raises(BudgetExceededError):
        spend(1, who="a")


def test_a_warning_lets_the_call_pass_and_counts_it(recorded, model, words, caplog):
    counters = MemoryCounters()
    ask = budget(
        Limits(tokens_per_day=100),
        max_output_tokens=10,
        tokenizer=words,
        prompt="question",
        over="warn",
        counters=counters,
        clock=testing.MemoryClock(),
    )(model)
    ask("a")
    ask("b")
    assert told(recorded, "outcome") == ["allowed", "warned"]
    assert counters.value("default:2026-01-01:tokens_per_day") == 240
    assert "A call passed its budget" in caplog.text


def test_truncating_keeps_the_beginning_that_fits_and_refuses_where_nothing_does(recorded, words):
    counters = MemoryCounters()
    seen = []

    @budget(
        Limits(tokens_per_day=20),
        max_output_tokens=10,
        tokenizer=words,
        prompt="question",
        over="truncate",
        counters=counters,
    )
    def ask(question, style="plain"):
        seen.append((question, style))
        pennytrace.record_usage(input_tokens=len(question.split()), output_tokens=1)

    ask("a b c d e f g h i j k l", style="formal")
    assert seen == [("a b c d e f g h i j", "formal")]
    with pytest.raises(BudgetExceededError):
        ask("a b c")
    assert told(recorded, "outcome") == ["truncated", "refused"]
    assert told(recorded, "estimated_tokens") == [20, 13]


def test_truncating_to_dollars_leaves_room_for_the_output(recorded, words):
    seen = []

    @budget(
        Limits(usd_per_call=Decimal("0.0001")),
        max_output_tokens=5,
        price=PRICE,
        tokenizer=words,
        prompt="question",
        over="truncate",
    )
    def ask(question):
        seen.append(len(question.split()))

    ask("word " * 100)
    assert seen == [20]  # $0.0001 - 5 x $10/M leaves $0.00005, and a word costs $2.50/M


def test_a_tokenizer_whose_text_grows_when_encoded_anew_is_cut_until_it_fits(recorded):
    class Growing:
        def encode(self, text):
            return [*text.split(), *["more"] * text.count("b")]

        def decode(self, tokens):
            return " ".join(tokens)

    seen = []

    @budget(Limits(tokens_per_call=3), max_output_tokens=0, tokenizer=Growing(), prompt="question", over="truncate")
    def ask(question):
        seen.append(question)

    ask("a b c d")
    assert seen == ["a b"]


def test_a_failed_call_gives_its_estimate_back_and_a_cancelled_one_does_not(recorded, words):
    counters = MemoryCounters()

    @budget(
        Limits(tokens_per_day=1_000),
        max_output_tokens=100,
        tokenizer=words,
        prompt="question",
        counters=counters,
        clock=testing.MemoryClock(),
    )
    async def ask(question):
        if question == "fail":
            raise ConnectionError
        await asyncio.sleep(10)

    async def cancelled():
        task = asyncio.create_task(ask("wait"))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with pytest.raises(ConnectionError):
        asyncio.run(ask("fail"))
    assert counters.value("default:2026-01-01:tokens_per_day") == 0
    asyncio.run(cancelled())
    assert counters.value("default:2026-01-01:tokens_per_day") == 101


def test_a_failed_call_that_had_used_something_is_charged_for_it(recorded, words):
    counters = MemoryCounters()

    @budget(
        Limits(tokens_per_day=1_000),
        max_output_tokens=100,
        tokenizer=words,
        prompt="question",
        counters=counters,
        clock=testing.MemoryClock(),
    )
    def ask(question):
        pennytrace.record_usage(input_tokens=30, output_tokens=12)
        raise ValueError("the answer made no sense")

    with pytest.raises(ValueError, match="no sense"):
        ask("a")
    assert counters.value("default:2026-01-01:tokens_per_day") == 42


def test_what_was_stated_inside_a_lever_still_stands_on_its_span(spans, words):
    @observe(endpoint="/chat", model="gpt-4o", provider="openai")
    @cache()
    @budget(Limits(tokens_per_call=1_000), max_output_tokens=100, tokenizer=words, prompt="question")
    def ask(question):
        pennytrace.record_usage(input_tokens=30, output_tokens=12)
        return question

    ask("a")
    (call,) = [span for span in spans.all() if "gen_ai.operation.name" in span.attributes]
    assert call.attributes["gen_ai.usage.input_tokens"] == 30
    assert call.attributes["gen_ai.request.model"] == "gpt-4o"
    assert call.attributes["pennytrace.budget.actual_tokens"] == 42


def test_an_answer_from_a_cache_costs_the_budget_nothing(recorded, model, words):
    counters = MemoryCounters()
    ask = budget(
        Limits(tokens_per_day=1_000),
        max_output_tokens=100,
        tokenizer=words,
        prompt="question",
        counters=counters,
        clock=testing.MemoryClock(),
    )(cache()(model))
    ask("a")
    ask("a")
    assert counters.value("default:2026-01-01:tokens_per_day") == 120
    assert told(recorded, "actual_tokens") == [120, 0]


def test_unknown_usage_leaves_the_estimate(recorded, words):
    counters = MemoryCounters()
    budget(
        Limits(tokens_per_day=1_000),
        max_output_tokens=100,
        tokenizer=words,
        prompt="question",
        counters=counters,
        clock=testing.MemoryClock(),
    )(lambda question: "text")("a")
    assert counters.value("default:2026-01-01:tokens_per_day") == 101
    assert told(recorded, "actual_tokens") == [None]


def test_counters_that_are_down_let_the_call_pass_and_are_told(lenient, model, words):
    def fail(*_):
        raise ConnectionError

    counters = SimpleNamespace(add=fail, value=fail)
    ask = budget(Limits(tokens_per_day=1), max_output_tokens=1, tokenizer=words, prompt="question", counters=counters)(
        model
    )
    assert ask("a b c")["answer"] == "re: a b c"
    assert told(lenient, "outcome") == ["unchecked"]
    assert told(lenient, "estimated_tokens") == [None]


class Failing(MemoryCounters):
    """Counters that fail for some keys; each question is noted."""

    def __init__(self, failing, wait_s=0.0):
        super().__init__()
        self.failing, self.wait_s = failing, wait_s
        self.asked = []
        self.threads = set()

    def add(self, key, *rest):
        self.asked.append(key)
        self.threads.add(threading.current_thread())
        time.sleep(self.wait_s)
        if self.failing in key:
            raise TimeoutError
        return super().add(key, *rest)


def test_what_was_reserved_is_given_back_when_a_later_counter_fails(lenient, clock):
    counters = Failing("tokens_per_day")
    limits = Limits(tokens_per_tenant_day=1_000, tokens_per_day=1_000)
    ask = budget(limits, max_output_tokens=100, count_tokens=lambda _: 10, counters=counters, clock=clock)(
        lambda _: "x"
    )
    ask("q")
    assert told(lenient, "outcome") == ["unchecked"]
    assert counters.value("default:2026-01-01:tokens_per_tenant_day:") == 0


@pytest.mark.parametrize("form", FORMS)
def test_counters_that_failed_are_left_alone_a_while(lenient, model, clock, form):
    counters = Failing("tokens_per_day")
    limited = budget(
        Limits(tokens_per_day=1_000), max_output_tokens=1, count_tokens=lambda _: 1, counters=counters, clock=clock
    )
    ask = in_form(form, limited, model)
    for _ in range(3):
        ask("q")
    assert len(counters.asked) == 1
    clock.advance(5)
    ask("q")
    assert (len(counters.asked), model.calls) == (2, 4)


@pytest.mark.parametrize("form", ["coroutine", "async generator"])
def test_an_event_loop_does_not_wait_for_counters(recorded, model, clock, form):
    counters = Failing("nothing")
    limited = budget(
        Limits(tokens_per_day=1_000), max_output_tokens=1, count_tokens=lambda _: 1, counters=counters, clock=clock
    )
    in_form(form, limited, model)("q")
    assert counters.value("default:2026-01-01:tokens_per_day") == 120
    assert counters.threads.isdisjoint({threading.main_thread()})
    assert told(recorded, "actual_tokens") == [120]


def test_a_call_that_is_cancelled_while_it_is_decided_reserves_nothing(recorded, clock):
    counters = Failing("nothing", wait_s=0.1)

    @budget(Limits(tokens_per_day=1_000), max_output_tokens=1, count_tokens=lambda _: 1, counters=counters, clock=clock)
    async def ask(question):
        pytest.fail("the call was cancelled")

    async def main():
        task = asyncio.create_task(ask("q"))
        await asyncio.sleep(0.03)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    assert asyncio.run(main())
    assert len(counters.asked) == 2
    assert counters.value("default:2026-01-01:tokens_per_day") == 0


def test_an_async_generator_is_sent_to_and_thrown_into_and_closed_through_its_budget(recorded):
    ended = []

    @budget(Limits(tokens_per_call=100), max_output_tokens=1, count_tokens=lambda: 1)
    async def echo():
        try:
            got = yield "first"
            while True:
                try:
                    got = yield got
                except ValueError as error:
                    got = f"caught {error}"
        finally:
            ended.append(1)

    async def main():
        stream = echo()
        said = [await anext(stream), await stream.asend("hello"), await stream.athrow(ValueError("no"))]
        await stream.aclose()
        return said

    assert asyncio.run(main()) == ["first", "hello", "caught no"]
    assert ended == [1]


def test_arguments_that_do_not_fit_raise_as_they_always_did(recorded, model, words):
    ask = budget(Limits(tokens_per_call=1), max_output_tokens=1, tokenizer=words, prompt="question")(
        lambda question: None
    )
    with pytest.raises(TypeError, match="question"):
        ask()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limits": {"usd_per_day": Decimal(1)}}, "price"),
        ({"limits": {}}, "at least one limit"),
        ({"limits": {"usd_per_day": 0.5}}, "Decimal"),
        ({"limits": {"tokens_per_day": -1}}, "whole number"),
        ({"limits": {"tokens_per_day": 1}, "count_tokens": None}, "count_tokens or tokenizer"),
        ({"limits": {"tokens_per_day": 1}, "over": "truncate"}, "truncate"),
        ({"limits": {"tokens_per_day": 1}, "over": "explode"}, "explode"),
    ],
)
def test_what_makes_no_sense_is_an_error_when_decorating(options, message):
    options = {"count_tokens": len, "max_output_tokens": 1, **options}
    with pytest.raises(pennytrace.ConfigurationError, match=message):
        budget(Limits(**options.pop("limits")), **options)


def test_a_prompt_that_is_no_argument_is_an_error_when_decorating(words):
    limited = budget(Limits(tokens_per_call=1), max_output_tokens=1, tokenizer=words, prompt="prompt")
    with pytest.raises(pennytrace.ConfigurationError, match="question"):
        limited(lambda question: None)


@settings(max_examples=25, deadline=None)
@given(
    asked=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), max_size=40),
    limit=st.integers(0, 200),
    tenants=st.integers(1, 3),
)
def test_a_budget_is_never_overspent_by_threads_that_stay_within_their_estimates(asked, limit, tenants):
    counters = MemoryCounters()
    spent = []

    @budget(
        Limits(tokens_per_day=limit, tokens_per_tenant_day=limit // 2),
        max_output_tokens=30,
        count_tokens=lambda number, tokens, used: tokens,
        tenant=lambda number, tokens, used: str(number % tenants),
        counters=counters,
        clock=testing.MemoryClock(),
    )
    def spend(number, tokens, used):
        pennytrace.record_usage(input_tokens=tokens, output_tokens=used)
        spent.append((number % tenants, tokens + used))

    def attempt(number):
        try:
            spend(number, *asked[number])
        except BudgetExceededError:
            return

    with testing.recorded(), testing.strict(), ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(len(asked))))
    assert sum(tokens for _, tokens in spent) <= limit
    for tenant in range(tenants):
        assert sum(tokens for whose, tokens in spent if whose == tenant) <= limit // 2
    assert counters.value("default:2026-01-01:tokens_per_day") == sum(tokens for _, tokens in spent)


def test_counters_of_past_days_are_forgotten():
    now = [0.0]
    counters = MemoryCounters(seconds=lambda: now[0])
    counters.add("old", 1, None, 10)
    now[0] = 20.0
    for _ in range(1_000):
        counters.add("new", 1, None, 10)
    assert (counters.value("old"), counters.value("new")) == (0, 1_000)


def test_counters_in_memory_are_bounded_and_forget_the_least_recent_first():
    counters = MemoryCounters(keys_max=2)
    for key in ["day", "acme", "day", "beta", "day"]:
        counters.add(key, 1, None, 60)
    assert [counters.value(key) for key in ["day", "acme", "beta"]] == [3, 0, 1]


def test_a_refused_addition_leaves_nothing_in_redis_that_would_stay_for_ever(redis_url):
    client = pytest.importorskip("redis").Redis.from_url(redis_url)
    counters = RedisCounters(client, prefix="refused:")
    assert not counters.add("day", 7, 5, 60)
    assert client.keys("refused:*") == []
    assert counters.add("day", 5, 5, 60)
    assert 0 < client.ttl("refused:day") <= 60


def test_processes_share_a_budget_through_redis(redis_url):
    counters = [RedisCounters.from_url(redis_url) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda n: counters[n % 4].add("day", 7, 100, 60), range(40)))
    assert (sum(added), counters[0].value("day")) == (14, 98)
    assert counters[0].add("day", -98, None, 60)
    assert counters[1].value("day") == 0
