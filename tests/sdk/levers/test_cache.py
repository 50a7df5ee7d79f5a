# ruff: noqa: ARG001, ARG005 # fixtures that only watch, and stand-ins that ignore what they are given
import asyncio
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pennytrace
from pennytrace import observe, testing
from pennytrace.levers import (
    BudgetExceededError,
    JsonCodec,
    Limits,
    MemoryStore,
    PickleCodec,
    RedisStore,
    budget,
    cache,
    current_variant,
    variant,
)


def outcomes(recorded):
    return [span.attributes["pennytrace.cache.outcome"] for span in recorded.of_lever("cache")]


def test_a_second_question_is_answered_without_the_model_and_saves_what_the_first_cost(recorded, model):
    @observe(endpoint="/chat", provider="openai")
    @cache()
    def ask(question):
        return model(question)

    first, second = ask("hours?"), ask(question="hours?")
    assert first == second
    assert first is not second
    assert (model.calls, outcomes(recorded)) == (1, ["miss", "hit"])
    (call,) = recorded.calls
    assert (call.attributes["gen_ai.provider.name"], call.usage.input_tokens) == ("openai", 100)
    (saved,) = recorded.reused
    assert (saved.usage, saved.attributes["gen_ai.request.model"]) == (call.usage, "gpt-4o")
    assert saved.attributes["gen_ai.provider.name"] == "openai"


def test_a_text_answer_saves_what_the_observed_call_below_the_cache_had_used(recorded):
    @cache()
    def ask(question):
        return call(question)

    @observe(model="llama", provider="vllm")
    def call(question):
        pennytrace.record_usage(input_tokens=7, output_tokens=3, model="llama", provider="vllm")
        return question.upper()

    assert [ask("a"), ask("a")] == ["A", "A"]
    (saved,) = recorded.reused
    assert (saved.usage.input_tokens, saved.usage.output_tokens) == (7, 3)
    assert saved.attributes["gen_ai.provider.name"] == "vllm"
    assert len(recorded.calls) == 1


def test_a_hit_of_unknown_usage_is_a_hit_that_names_the_declared_model(recorded):
    ask = cache(model="m", provider="p")(lambda question: question.upper())
    ask("a"), ask("a")
    (saved,) = recorded.reused
    assert (saved.attributes["gen_ai.request.model"], saved.usage.known) == ("m", False)


def test_a_hit_states_its_age_and_an_answer_older_than_the_ttl_is_asked_for_again(recorded, model, clock):
    ask = cache(ttl_s=60, clock=clock)(model)
    ask("q")
    clock.advance(59)
    ask("q")
    clock.advance(1)
    ask("q")
    assert outcomes(recorded) == ["miss", "hit", "miss"]
    assert [s.attributes.get("pennytrace.cache.age_seconds") for s in recorded.of_lever("cache")] == [None, 59, None]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_stampede_calls_once_and_everybody_gets_the_answer(recorded, is_async):
    calls = []

    @cache()
    def ask(question):
        calls.append(question)
        time.sleep(0.2)
        return [question]

    @cache()
    async def ask_async(question):
        calls.append(question)
        await asyncio.sleep(0.05)
        return [question]

    async def together():
        return await asyncio.gather(*(ask_async("q") for _ in range(8)))

    if is_async:
        answers = asyncio.run(together())
    else:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, ["q"] * 8))
    assert (answers, calls) == ([["q"]] * 8, ["q"])
    assert len({id(answer) for answer in answers}) == 8
    assert outcomes(recorded).count("miss") == 1
    assert len(recorded.reused) == 7


@pytest.mark.parametrize("is_async", [False, True])
def test_those_who_wait_get_the_leaders_exception_and_nothing_is_kept(recorded, is_async):
    calls = []
    together_now = threading.Barrier(4)

    @cache()
    def ask(_):
        calls.append(1)
        time.sleep(0.3)
        raise ValueError("too long")

    @cache()
    async def ask_async(_):
        calls.append(1)
        await asyncio.sleep(0.05)
        raise ValueError("too long")

    def ask_at_once():
        together_now.wait()
        return ask("q")

    async def together():
        return await asyncio.gather(*(ask_async("q") for _ in range(4)), return_exceptions=True)

    if is_async:
        errors = asyncio.run(together())
    else:
        with ThreadPoolExecutor(4) as pool:
            errors = [future.exception() for future in [pool.submit(ask_at_once) for _ in range(4)]]
    assert len({id(error) for error in errors}) == 1
    assert isinstance(errors[0], ValueError)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="too long"):
        asyncio.run(ask_async("q")) if is_async else ask("q")
    assert len(calls) == 2


def test_a_leader_that_is_cancelled_hands_over_to_one_who_waits(recorded):
    calls = []

    @cache()
    async def ask(question):
        calls.append(question)
        await asyncio.sleep(0.05)
        return question

    async def main():
        tasks = [asyncio.create_task(ask("q")) for _ in range(4)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(main())
    assert isinstance(answers[0], asyncio.CancelledError)
    assert (answers[1:], calls) == (["q"] * 3, ["q", "q"])


def test_a_leader_thread_that_is_stopped_hands_over(recorded):
    calls = []

    @cache()
    def ask(question):
        calls.append(question)
        time.sleep(0.1)
        if len(calls) == 1:
            raise SystemExit
        return question

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(ask, "q") for _ in range(3)]
    assert [future.exception() for future in futures].count(None) == 2
    assert len(calls) == 2


def test_a_waiter_that_is_cancelled_leaves_the_leader_alone(recorded):
    @cache()
    async def ask(question):
        await asyncio.sleep(0.05)
        return question

    async def main():
        leader, waiter = asyncio.create_task(ask("q")), asyncio.create_task(ask("q"))
        await asyncio.sleep(0.01)
        waiter.cancel()
        return await asyncio.gather(leader, waiter, return_exceptions=True)

    answer, cancelled = asyncio.run(main())
    assert (answer, type(cancelled)) == ("q", asyncio.CancelledError)


@pytest.mark.parametrize("is_async", [False, True])
def test_who_has_waited_long_enough_calls_too(recorded, is_async):
    calls = []
    together_now = threading.Barrier(2)

    def ask_at_once(question):
        together_now.wait()
        return ask(question)

    @cache(wait_s_max=0.02)
    def ask(question):
        calls.append(question)
        time.sleep(0.3)
        return question

    @cache(wait_s_max=0.02)
    async def ask_async(question):
        calls.append(question)
        await asyncio.sleep(0.2)
        return question

    async def together():
        return await asyncio.gather(ask_async("q"), ask_async("q"))

    if is_async:
        assert asyncio.run(together()) == ["q", "q"]
    else:
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(ask_at_once, ["q", "q"])) == ["q", "q"]
    assert len(calls) == 2


def test_a_cached_function_may_call_itself_with_the_same_arguments(recorded):
    depth = []

    @cache()
    def ask(question):
        depth.append(1)
        return ask(question) if len(depth) < 3 else question

    assert ask("q") == "q"
    assert len(depth) == 3


def test_a_stream_is_passed_through_and_never_shared(recorded):
    @cache()
    def ask(_):
        return iter(["a", "b"])

    assert [list(ask("q")), list(ask("q"))] == [["a", "b"]] * 2
    assert recorded.reused == []


def test_streams_that_were_waited_for_are_made_anew_for_each(recorded):
    @cache()
    def ask(_):
        time.sleep(0.1)
        return iter(["a", "b"])

    with ThreadPoolExecutor(3) as pool:
        assert [list(stream) for stream in pool.map(ask, "qqq")] == [["a", "b"]] * 3


def test_a_generator_function_is_refused_when_decorating():
    def stream():
        yield 1

    with pytest.raises(pennytrace.ConfigurationError, match="generator"):
        cache()(stream)


def test_keep_decides_what_is_worth_keeping(recorded, model):
    ask = cache(keep=lambda answer: answer["answer"] != "re: bad")(model)
    for question in ["bad", "bad", "good", "good"]:
        ask(question)
    assert model.calls == 3


def test_a_key_of_ones_own_says_what_makes_the_answer_and_none_caches_nothing(recorded, model):
    class Service:
        @cache(key=lambda _self, question, user: None if user == "root" else question.strip())
        def ask(self, question, user):
            return model(f"{question} {user}")

    service = Service()
    assert service.ask("q", "ann") == service.ask(" q ", "bob")
    service.ask("q", "root")
    service.ask("q", "root")
    assert model.calls == 3


def test_arguments_that_are_no_data_go_uncached_and_are_counted(lenient, model):
    ask = cache()(lambda client, question: model(question))
    ask(object(), "q"), ask(object(), "q")
    assert (model.calls, outcomes(lenient)) == (2, ["bypassed", "bypassed"])


def test_arguments_that_do_not_fit_raise_as_they_always_did(recorded, model):
    with pytest.raises(TypeError, match="question"):
        cache()(model.__call__)()


def test_functions_that_share_a_cache_do_not_share_answers(recorded):
    shared = cache()

    def upper_(text):
        return text.upper()

    def lower_(text):
        return text.lower()

    upper, lower = shared(upper_), shared(lower_)
    assert [upper("Ab"), lower("Ab"), upper("Ab"), lower("Ab")] == ["AB", "ab"] * 2
    assert outcomes(recorded) == ["miss", "miss", "hit", "hit"]


@pytest.mark.usefixtures("fingerprint_key")
@pytest.mark.parametrize("is_async", [False, True])
def test_a_store_that_is_down_never_breaks_a_call_and_is_left_alone_a_while(lenient, model, clock, is_async):
    asked = []

    def fail(*_):
        asked.append(1)
        raise ConnectionError("no cache here")

    @cache(store=SimpleNamespace(get=fail, set=fail), clock=clock)
    async def ask_async(question):
        return model(question)

    ask_sync = cache(store=SimpleNamespace(get=fail, set=fail), clock=clock)(model)

    def ask(question):
        return asyncio.run(ask_async(question)) if is_async else ask_sync(question)

    for _ in range(3):
        assert ask("q")["answer"] == "re: q"
    assert (model.calls, len(asked)) == (3, 1)
    clock.advance(5)
    ask("q")
    assert len(asked) == 2


def test_an_entry_that_cannot_be_read_is_asked_for_again(lenient, model):
    store = MemoryStore()
    ask = cache(store=store)(model)
    ask("q")
    (key,) = store._entries  # noqa: SLF001 # a store's keys are nobody's business but this test's
    store.set(key, b"garbage", 60)
    assert ask("q")["answer"] == "re: q"
    assert model.calls == 2


def test_an_answer_that_cannot_be_bytes_is_returned_and_not_kept(lenient):
    made = []

    @cache()
    def ask(_):
        made.append(lambda: 1)
        return made[-1]

    assert [ask("q") is made[0], ask("q") is made[1]] == [True, True]


@given(sizes=st.lists(st.integers(0, 40), max_size=60), entries=st.integers(1, 5), size=st.integers(1, 60))
def test_a_memory_store_stays_within_its_bounds_and_forgets_the_least_recent_first(sizes, entries, size):
    store = MemoryStore(entries_max=entries, bytes_max=size)
    expected = {}
    for number, length in enumerate(sizes):
        key, value = str(number % 7), bytes(length)
        store.set(key, value, 60)
        expected.pop(key, None)
        if length <= size:
            expected[key] = value
        while len(expected) > entries or sum(map(len, expected.values())) > size:
            del expected[next(iter(expected))]
        assert (len(store), store.size_bytes) == (len(expected), sum(map(len, expected.values())))
    assert {key: store.get(key) for key in "0123456"} == {key: expected.get(key) for key in "0123456"}


data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(questions=st.lists(data, max_size=6))
def test_a_cached_function_returns_what_the_function_would(questions):
    ask = cache()(lambda question: [type(question).__name__, repr(question)])
    with testing.recorded(), testing.strict():
        for question in questions * 2:
            assert ask(question) == [type(question).__name__, repr(question)]


class Text(str):
    __slots__ = ()


class Reply(dict):
    pass


def identity(value):
    """Types and values, all the way down."""
    if isinstance(value, dict):
        return type(value), [(identity(name), identity(item)) for name, item in value.items()]
    return type(value), [identity(item) for item in value] if isinstance(value, list | tuple) else repr(value)


odd = data | st.builds(Text) | st.builds(Reply, st.dictionaries(st.text(), data)) | st.lists(st.builds(Text))


@given(value=odd | st.dictionaries(st.builds(Text) | st.text(), odd))
def test_json_keeps_an_answer_as_it_is_or_refuses_it(value):
    codec = JsonCodec()
    try:
        kept = codec.dumps(value)
    except (TypeError, ValueError):
        return
    assert identity(codec.loads(kept)) == identity(value)


def test_a_signed_answer_is_refused_when_somebody_else_wrote_it():
    ours, theirs = PickleCodec(b"secret"), PickleCodec(b"other")
    assert ours.loads(ours.dumps((1, "a"))) == (1, "a")
    with pytest.raises(ValueError, match="signed"):
        ours.loads(theirs.dumps((1, "a")))


@pytest.mark.usefixtures("fingerprint_key")
@pytest.mark.parametrize("is_async", [False, True])
def test_processes_share_answers_through_redis(recorded, model, redis_url, is_async):
    def process():
        store = RedisStore.from_url(redis_url, prefix=f"test:{is_async}:")

        @cache(store=store, ttl_s=60)
        async def ask_async(question):
            return model(question)

        @cache(store=store, ttl_s=60)
        def ask(question):
            return model(question)

        return (lambda question: asyncio.run(ask_async(question))) if is_async else ask

    assert process()("q") == process()("q")
    assert (model.calls, outcomes(recorded)) == (1, ["miss", "hit"])
    assert recorded.reused[0].usage.input_tokens == 100


def test_redis_forgets_after_the_ttl_by_itself(redis_url):
    store = RedisStore.from_url(redis_url)
    store.set("brief", b"x", 0.05)
    assert store.get("brief") == b"x"
    time.sleep(0.1)
    assert store.get("brief") is None


@pytest.mark.parametrize("says", ["counts", "response"])
def test_a_saved_span_has_the_provider_and_model_that_the_observed_call_below_declared(recorded, says):
    @observe(endpoint="/faq")
    @cache()
    @observe(model="llama-3.1-8b", provider="vllm")
    def ask(question):
        if says == "counts":
            pennytrace.record_usage(input_tokens=10, output_tokens=2)
            return "because"
        return {"id": "cmpl-1", "usage": {"prompt_tokens": 10, "completion_tokens": 2}}

    ask("why?")
    ask("why?")
    (saved,) = recorded.reused
    assert (saved.attributes["gen_ai.provider.name"], saved.attributes["gen_ai.request.model"]) == (
        "vllm",
        "llama-3.1-8b",
    )


def test_an_answer_recorded_as_cached_is_known_as_reused_to_levers_around(recorded):
    from pennytrace._call import current_call

    @observe(endpoint="/faq", provider="openai")
    def ask():
        pennytrace.record_cached({"input_tokens": 10, "output_tokens": 2}, model="gpt-4o")
        return current_call().answers()

    (answer,) = ask()
    assert answer.reused
    assert answer.usage.input_tokens == 10
    assert len(recorded.reused) == 1


class Dictionary:
    """A shared store."""

    def __init__(self):
        self.entries = {}

    def get(self, key):
        return self.entries.get(key)

    def set(self, key, value, _):
        self.entries[key] = value


def test_a_shared_store_without_a_secret_for_its_keys_caches_nothing_and_is_counted(lenient, model, monkeypatch):
    monkeypatch.delenv("PENNYTRACE_FINGERPRINT_KEY", raising=False)
    store = Dictionary()
    ask = cache(store=store)(model)
    ask("q"), ask("q")
    assert (model.calls, store.entries, outcomes(lenient)) == (2, {}, ["bypassed", "bypassed"])
    with testing.strict(), pytest.raises(pennytrace.PennytraceError, match="fingerprint key"):
        ask("q")


@pytest.mark.usefixtures("fingerprint_key")
def test_an_answer_that_json_would_change_is_made_anew(lenient):
    ask = cache(store=Dictionary())(lambda _: Reply(text="hi"))
    assert [type(ask("q")), type(ask("q"))] == [Reply, Reply]


def test_pickles_that_nobody_signs_are_refused_in_a_shared_store():
    with pytest.raises(pennytrace.ConfigurationError, match="secret"):
        cache(store=Dictionary(), codec=PickleCodec())


@pytest.mark.usefixtures("fingerprint_key")
@pytest.mark.parametrize("forge", ["moved", "younger", "none"])
def test_a_signed_answer_holds_under_its_own_key_and_age_only(lenient, clock, forge):
    store = Dictionary()
    ask = cache(store=store, codec=PickleCodec(b"secret"), clock=clock)(lambda question: (question,))
    ask("a"), ask("b")
    (first, one), (second, other) = store.entries.items()
    if forge == "moved":
        store.entries = {first: other, second: one}
    elif forge == "younger":
        made = json.dumps(clock().timestamp()).encode()
        clock.advance(1)
        younger = json.dumps(clock().timestamp()).encode()
        store.entries = {key: value.replace(made, younger) for key, value in store.entries.items()}
        assert store.entries[first] != one
    assert [ask("a"), ask("b")] == [("a",), ("b",)]
    assert outcomes(lenient)[2:] == (["hit"] * 2 if forge == "none" else ["miss"] * 2)


def test_an_answer_from_the_future_is_stale_since_nobody_knows_its_age(recorded, model, clock):
    ask = cache(ttl_s=60, clock=clock)(model)
    ask("q")
    clock.advance(-3600)
    ask("q")
    assert outcomes(recorded) == ["miss", "miss"]


def test_in_memory_the_age_of_an_answer_is_told_by_a_clock_that_nobody_sets(recorded, model, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    ask = cache(ttl_s=60)(model)
    ask("q")
    now[0] += 59
    ask("q")
    now[0] += 1
    ask("q")
    assert outcomes(recorded) == ["miss", "hit", "miss"]


def test_each_variant_around_a_cache_has_answers_of_its_own(recorded):
    @cache()
    def answer(question):
        return current_variant()

    @cache(key=lambda question: question)
    def answer_by_key(question):
        return current_variant()

    @variant("e", {"old": 1, "new": 1}, subject=lambda user, _: user)
    def ask(user, question):
        return current_variant(), answer(question), answer_by_key(question)

    assert {ask(user, "q") for user in range(20)} == {("old",) * 3, ("new",) * 3}
    assert outcomes(recorded).count("miss") == 4


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tenants_refusal_is_not_the_answer_of_another_who_waited(recorded, is_async):
    tenants = ["poor", "poor", "rich"]
    limited = budget(
        Limits(tokens_per_tenant_day=15),
        max_output_tokens=0,
        count_tokens=lambda _: 10,
        tenant=lambda _: tenants.pop(0),
    )

    @limited
    def spend(question):
        return question

    @cache()
    def ask(question):
        time.sleep(0.2)
        return spend(question)

    @cache()
    async def ask_async(question):
        await asyncio.sleep(0.02)
        return spend(question)

    async def together():
        return await asyncio.gather(*(ask_async("q") for _ in range(2)), return_exceptions=True)

    spend("other")
    if is_async:
        refused, answer = asyncio.run(together())
    else:
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(ask, "q") for _ in range(2)]
        refused, answer = [future.exception() or future.result() for future in futures]
    assert isinstance(refused, BudgetExceededError)
    assert answer == "q"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_waits_neither_for_locks_nor_for_leaders_of_its_parent():
    may_end, begun = threading.Event(), threading.Event()
    store = MemoryStore()

    @cache(store=store)
    def ask(question):
        begun.set()
        may_end.wait(10)
        return question

    leader = threading.Thread(target=ask, args=("q",))
    leader.start()
    begun.wait(5)
    with store._lock:  # noqa: SLF001 # what another thread may hold at any moment
        child = os.fork()
        if child == 0:
            may_end.set()
            caller = threading.Thread(target=ask, args=("q",), daemon=True)
            caller.start()
            caller.join(5)
            os._exit(1 if caller.is_alive() else 0)
    _, status = os.waitpid(child, 0)
    may_end.set()
    leader.join()
    assert os.waitstatus_to_exitcode(status) == 0
