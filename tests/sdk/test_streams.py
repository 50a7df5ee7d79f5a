import asyncio
import gc
import inspect
import io
from types import SimpleNamespace

import pytest

import pennytrace
from pennytrace import observe


def openai_chunks():
    for text in ("Hel", "lo"):
        delta = SimpleNamespace(delta=SimpleNamespace(content=text))
        yield SimpleNamespace(
            id="chatcmpl-9", object="chat.completion.chunk", model="gpt-4o", choices=[delta], usage=None
        )
    usage = SimpleNamespace(prompt_tokens=12, completion_tokens=2)
    yield SimpleNamespace(id="chatcmpl-9", object="chat.completion.chunk", model="gpt-4o", choices=[], usage=usage)


ANTHROPIC_EVENTS = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "model": "claude-sonnet-4-5",
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
                "output_tokens": 1,
            },
        },
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}},
    {"type": "message_stop"},
]


def test_a_generators_span_lasts_until_its_last_chunk_and_has_the_usage_chunk(spans):
    @observe(endpoint="/chat", model="gpt-4o")
    def stream():
        yield from openai_chunks()

    for seen, _ in enumerate(stream()):
        assert not spans.all(), seen
    attributes = spans.one().attributes
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert attributes["gen_ai.usage.output_tokens"] == 2
    assert attributes["gen_ai.request.stream"] is True
    assert 0 <= attributes["gen_ai.response.time_to_first_chunk"] < 1


def test_anthropic_events_add_up_with_cache_tokens_counted_as_input(spans):
    @observe(endpoint="/chat")
    async def stream():
        for event in ANTHROPIC_EVENTS:
            yield event

    async def main():
        return [event["type"] async for event in stream()]

    assert len(asyncio.run(main())) == 4
    attributes = spans.one().attributes
    assert attributes["gen_ai.provider.name"] == "anthropic"
    assert attributes["gen_ai.usage.input_tokens"] == 140
    assert attributes["gen_ai.usage.cache_write.input_tokens"] == 30
    assert attributes["pennytrace.usage.cache_write_1h.input_tokens"] == 10
    assert attributes["gen_ai.usage.output_tokens"] == 15


def test_an_abandoned_generator_ends_its_span_with_what_was_paid_so_far(spans):
    closed = []

    @observe(endpoint="/chat", model="claude-sonnet-4-5")
    def stream():
        try:
            yield from ANTHROPIC_EVENTS
        finally:
            closed.append(True)

    for event in stream():
        if event["type"] == "content_block_delta":
            break
    gc.collect()
    attributes = spans.one().attributes
    assert closed == [True]
    assert attributes["pennytrace.stream.abandoned"] is True
    assert attributes["gen_ai.usage.input_tokens"] == 140
    assert "error.type" not in attributes


def test_an_abandoned_async_generator_ends_its_span_when_the_loop_closes_it(spans):
    @observe(endpoint="/chat")
    async def stream():
        for event in ANTHROPIC_EVENTS:
            yield event

    async def main():
        async for _ in stream():
            break
        await asyncio.sleep(0.01)  # a server's loop goes on; the generator is closed in its next turn

    asyncio.run(main())
    assert spans.one().attributes["pennytrace.stream.abandoned"] is True
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 140


def test_a_cancelled_async_stream_ends_its_span_with_what_was_paid_so_far(spans):
    @observe(endpoint="/chat")
    async def stream():
        yield ANTHROPIC_EVENTS[0]
        await asyncio.sleep(60)

    async def consume():
        async for _ in stream():
            pass

    async def main():
        task = asyncio.create_task(consume())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert spans.one().attributes["error.type"] == "CancelledError"
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 140


def test_a_generator_that_breaks_half_way_raises_its_own_exception(spans):
    @observe(endpoint="/chat")
    def stream():
        yield ANTHROPIC_EVENTS[0]
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError, match="reset"):
        list(stream())
    assert spans.one().attributes["error.type"] == "ConnectionError"
    assert spans.one().attributes["gen_ai.usage.output_tokens"] == 1


def test_send_throw_and_the_return_value_pass_through(spans):
    @observe(endpoint="/g")
    def echo():
        got = yield "ready"
        try:
            yield got
        except KeyError:
            yield "caught"
        return "done"

    generator = echo()
    assert [next(generator), generator.send("x"), generator.throw(KeyError())] == ["ready", "x", "caught"]
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "done"
    assert [span.name for span in spans.all()] == ["/g"]

    @observe(endpoint="/ag")
    async def async_echo():
        got = yield "ready"
        try:
            yield got
        except KeyError:
            yield "caught"

    async def main():
        source = async_echo()
        return [await anext(source), await source.asend("x"), await source.athrow(KeyError())]

    assert asyncio.run(main()) == ["ready", "x", "caught"]


def test_the_span_is_current_for_the_producer_and_not_for_the_consumer(spans, provider):
    tracer = provider.get_tracer("app")

    @observe(endpoint="/chat")
    def stream():
        with tracer.start_as_current_span("produce"):
            pass
        yield 1

    for _ in stream():
        tracer.start_span("consume").end()
    assert spans.named("produce").parent.span_id == spans.named("/chat").context.span_id
    assert spans.named("consume").parent is None


def test_a_generator_of_text_states_its_usage_itself(spans):
    @observe(endpoint="/chat", provider="openai")
    def stream():
        for chunk in openai_chunks():
            if chunk.usage:
                pennytrace.record_usage(chunk)
            for choice in chunk.choices:
                yield choice.delta.content

    assert "".join(stream()) == "Hello"
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 12


def test_a_stream_that_passes_through_two_observed_generators_is_booked_once(spans):
    @observe(model="gpt-4o")
    def inner():
        yield from openai_chunks()

    @observe(endpoint="/chat")
    def outer():
        yield from inner()

    assert len(list(outer())) == 3
    billed = [s.name for s in spans.all() if "gen_ai.usage.input_tokens" in s.attributes]
    assert billed == ["chat gpt-4o"]


class Stream:
    """Shaped like openai.Stream."""

    def __init__(self, chunks):
        self._iterator = iter(chunks)
        self.response = "the http response"
        self.closed = False

    def __iter__(self):
        yield from self._iterator

    def __next__(self):
        return next(self._iterator)

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class AsyncStream:
    """Shaped like openai.AsyncStream."""

    def __init__(self, chunks):
        self._iterator = iter(chunks)

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return next(self._iterator)
        except StopIteration:
            raise StopAsyncIteration from None

    async def close(self):
        self._iterator = iter(())

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()


def test_a_returned_provider_stream_is_followed_to_its_end_and_still_passes_for_itself(spans):
    @observe(endpoint="/chat", model="gpt-4o")
    def chat():
        return Stream(openai_chunks())

    with chat() as stream:
        assert isinstance(stream, Stream)
        assert stream.response == "the http response"
        assert not spans.all()
        assert len(list(stream)) == 3
    assert stream.closed
    assert spans.one().attributes["gen_ai.usage.output_tokens"] == 2
    assert "pennytrace.stream.abandoned" not in spans.one().attributes


def test_a_returned_stream_that_is_closed_early_or_forgotten_ends_its_span(spans):
    @observe(endpoint="/chat", model="gpt-4o")
    def chat():
        return Stream(openai_chunks())

    stream = chat()
    next(stream)
    stream.close()
    chat()
    gc.collect()
    assert [s.attributes["pennytrace.stream.abandoned"] for s in spans.all()] == [True, True]
    assert [s.attributes["gen_ai.operation.name"] for s in spans.all()] == ["chat", "chat"]


def test_an_awaited_provider_stream_is_followed_to_its_end(spans):
    @observe(endpoint="/chat", model="gpt-4o")
    async def chat():
        return AsyncStream(openai_chunks())

    async def main():
        async with await chat() as stream:
            return [chunk async for chunk in stream]

    assert len(asyncio.run(main())) == 3
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 12


def test_a_returned_generator_is_followed_and_other_iterators_are_left_alone(spans):
    @observe(endpoint="/chat")
    def chat(result):
        return result

    assert len(list(chat(openai_chunks()))) == 3
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 12
    plain, file = iter([1]), io.StringIO("x")
    assert chat(plain) is plain
    assert chat(file) is file
    assert len(spans.all()) == 3


def test_stream_says_which_returned_iterators_to_follow(spans):
    @observe(endpoint="/chat", stream=True)
    def followed():
        return iter([{"id": "r", "object": "chat.completion.chunk", "usage": {"prompt_tokens": 4}}])

    @observe(endpoint="/chat", stream=False)
    def left():
        return openai_chunks()

    assert len(list(followed())) == 1
    assert spans.one().attributes["gen_ai.usage.input_tokens"] == 4
    assert inspect.isgenerator(left())
    assert "gen_ai.usage.input_tokens" not in spans.all()[1].attributes
