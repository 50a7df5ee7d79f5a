# ruff: noqa: ARG001 # fixtures that only watch, and stand-ins that ignore what they are given
import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pennytrace
from pennytrace import observe, testing
from pennytrace.levers import batch


def told(recorded, name):
    return [span.attributes.get(f"pennytrace.batch.{name}") for span in recorded.of_lever("batch")]


def gather(function, items, **options):
    async def main():
        return await asyncio.gather(*(function(item) for item in items), **options)

    return asyncio.run(main())


def test_callers_share_calls_of_at_most_items_max_and_each_gets_its_own(recorded):
    sizes = []

    @batch(window_ms=20, items_max=3)
    async def double(numbers):
        sizes.append(len(numbers))
        return [2 * number for number in numbers]

    assert gather(double, range(7)) == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [3, 3, 1]
    assert sorted(told(recorded, "size")) == [1, 3, 3, 3, 3, 3, 3]
    assert sorted(told(recorded, "queue_length")) == [1, 1, 1, 2, 2, 3, 3]


def test_the_wait_of_each_caller_is_told(recorded, clock):
    @batch(window_ms=10_000, items_max=2, seconds=clock.seconds)
    async def echo(items):
        clock.advance(100)
        return items

    async def main():
        first = asyncio.create_task(echo("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.advance(3)
        await asyncio.gather(first, echo("b"))

    asyncio.run(main())
    assert sorted(told(recorded, "wait_seconds")) == [0, 3]


def test_a_plain_function_runs_in_a_thread(recorded):
    threads = []

    @batch()
    def predict(rows):
        threads.append(threading.current_thread())
        return rows

    assert gather(predict, "abc") == ["a", "b", "c"]
    assert threads[0] is not threading.main_thread()


def test_a_batch_that_fails_fails_for_its_own_callers_only(recorded):
    @batch(items_max=2)
    async def echo(items):
        if "bad" in items:
            raise ValueError("bad batch")
        return items

    answers = gather(echo, ["a", "bad", "c", "d"], return_exceptions=True)
    assert [type(answer) for answer in answers[:2]] == [ValueError, ValueError]
    assert answers[2:] == ["c", "d"]


def test_a_result_that_is_an_exception_is_raised_to_its_own_caller(recorded):
    @batch()
    async def parse(texts):
        return [int(text) if text.isdigit() else ValueError(text) for text in texts]

    answers = gather(parse, ["1", "x", "3"], return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == (1, ValueError, 3)


def gather_in_time(function, items):
    """For what used to hang."""

    async def main():
        return await asyncio.wait_for(asyncio.gather(*map(function, items), return_exceptions=True), 5)

    return asyncio.run(main())


def test_a_stop_iteration_is_an_error_of_its_own_caller_and_leaves_nobody_waiting(recorded):
    @batch(items_max=2)
    async def first(texts):
        return [StopIteration() if text == "bad" else text for text in texts]

    answers = gather_in_time(first, ["bad", "b"])
    assert (type(answers[0]), answers[1]) == (RuntimeError, "b")


def test_a_plain_function_that_runs_out_of_an_iterator_fails_for_its_callers(recorded):
    @batch(items_max=2)
    def first(texts):
        return next(iter(()))

    assert [type(answer) for answer in gather_in_time(first, "ab")] == [RuntimeError, RuntimeError]


def test_too_few_results_are_an_error_that_says_so(recorded):
    @batch()
    async def lose(items):
        return items[1:]

    errors = gather(lose, "ab", return_exceptions=True)
    assert all("expected 2 results for 2 items, got 1" in str(error) for error in errors)
    assert isinstance(errors[0], pennytrace.PennytraceError)


def test_a_cancelled_caller_leaves_the_others_and_is_not_asked_for(recorded):
    seen = []
    may_answer = asyncio.Event()

    @batch(window_ms=60_000)
    async def echo(items):
        seen.append(items)
        await may_answer.wait()
        return items

    async def main():
        tasks = [asyncio.create_task(echo(item)) for item in "abc"]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        draining = asyncio.create_task(echo.drain())
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        may_answer.set()
        await draining
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(main())
    assert seen == [["b", "c"]]
    assert [type(answer) for answer in answers] == [asyncio.CancelledError, asyncio.CancelledError, str]


def test_draining_calls_what_waits_at_once_and_leaves_nothing_under_way(recorded):
    @batch(window_ms=60_000)
    async def echo(items):
        await asyncio.sleep(0.01)
        return items

    async def main():
        async with echo:
            tasks = [asyncio.create_task(echo(item)) for item in "ab"]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return [task.result() for task in tasks if task.done() or await task]

    assert asyncio.run(asyncio.wait_for(main(), 5)) == ["a", "b"]


def test_one_batch_serves_one_event_loop_after_another(recorded):
    @batch()
    async def echo(items):
        return items

    assert [gather(echo, "ab"), gather(echo, "cd")] == [["a", "b"], ["c", "d"]]


def test_items_of_different_groups_never_share_a_call(recorded):
    calls = []

    @batch(group=lambda item: item[0])
    async def echo(items):
        calls.append(items)
        return items

    assert gather(echo, ["a1", "b1", "a2"]) == ["a1", "b1", "a2"]
    assert sorted(calls) == [["a1", "a2"], ["b1"]]


@pytest.mark.parametrize(("tenants", "is_shared"), [(["a", "a"], False), (["a", "b"], True)])
def test_the_call_belongs_to_its_first_caller_unless_tenants_share_it(spans, tenants, is_shared):
    @batch()
    async def embed(texts):
        pennytrace.record_usage(input_tokens=len(texts), output_tokens=0, model="e5")
        return texts

    @observe(endpoint="/search", tenant=lambda text: text)
    async def search(text):
        return await embed(text)

    gather(search, tenants)
    (call,) = [span for span in spans.all() if span.name == "batch call embed"]
    waiters = [span for span in spans.all() if span.name == "batch embed"]
    assert call.attributes["gen_ai.usage.input_tokens"] == 2
    assert {link.context.span_id for link in call.links} == {span.context.span_id for span in waiters}
    if is_shared:
        assert call.parent is None
        assert "pennytrace.tenant" not in call.attributes
    else:
        assert call.parent.span_id in {span.context.span_id for span in waiters}
    assert [s.name for s in spans.all() if "gen_ai.usage.input_tokens" in s.attributes] == ["batch call embed"]


@pytest.mark.parametrize("options", [{"window_ms": -1}, {"window_ms": 60_001}, {"items_max": 0}])
def test_bounds_are_checked_when_decorating(options):
    with pytest.raises(pennytrace.ConfigurationError, match="window_ms"):
        batch(**options)


@settings(max_examples=30, deadline=None)
@given(items=st.lists(st.integers(), max_size=40), items_max=st.integers(1, 10), bad=st.integers(0, 40))
def test_every_caller_gets_its_own_result_or_its_own_batchs_error(items, items_max, bad):
    @batch(window_ms=0, items_max=items_max)
    async def echo(entries):
        await asyncio.sleep(0)
        if any(number == bad for number, _ in entries):
            raise ValueError([number for number, _ in entries])
        return [(number, item) for number, item in entries]

    with testing.recorded(), testing.strict():
        answers = gather(echo, list(enumerate(items)), return_exceptions=True)
    for number, answer in enumerate(answers):
        if isinstance(answer, ValueError):
            assert {number, bad} <= set(answer.args[0])
        else:
            assert answer == (number, items[number])
