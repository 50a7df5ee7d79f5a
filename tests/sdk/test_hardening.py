"""What a hostile or unlucky program does to instrumentation, and that serving goes on with its spans."""
# ruff: noqa: SLF001 # a fork, an environment and a channel have no public side

import asyncio
import contextvars
import enum
import http
import os
import threading
import time
import types
import uuid

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import pennytrace
from pennytrace import ConfigurationError, _delivery, _exporter, _span, _wire, observe, testing
from pennytrace._delivery import Delivery, Settled
from pennytrace._encode import Encoder
from pennytrace._grpc import GrpcSender
from pennytrace._guard import failures
from pennytrace._http import HttpSender, retry_after_s
from pennytrace._sending import Outcome, Target, Verdict, rejected_spans


def _counts(span):
    return span.attributes.get("gen_ai.usage.input_tokens"), span.attributes.get("gen_ai.usage.output_tokens")


def test_a_block_around_a_yield_in_an_observed_generator_keeps_its_span_and_its_usage():
    @observe(endpoint="/outer")
    def produce():
        with observe(name="inner", model="m"):
            yield 1
            pennytrace.record_usage(input_tokens=3, output_tokens=1)
            yield 2

    with testing.capture() as captured:
        assert list(produce()) == [1, 2]
    inner, outer = captured.named("inner"), captured.named("/outer")
    assert _counts(inner) == (3, 1)
    assert inner.parent.span_id == outer.context.span_id
    assert otel_context.get_current() == {}


def test_an_async_block_around_a_yield_keeps_its_span_and_its_usage():
    @observe(endpoint="/outer")
    async def produce():
        async with observe(name="inner", model="m"):
            yield 1
            pennytrace.record_usage(input_tokens=3, output_tokens=1)
            yield 2

    async def consume():
        return [item async for item in produce()]

    with testing.capture() as captured:
        assert asyncio.run(consume()) == [1, 2]
    assert _counts(captured.named("inner")) == (3, 1)


def test_a_block_left_in_another_context_than_it_was_entered_in_ends_its_span():
    def produce():
        with observe(name="inner"):
            yield 1

    with testing.capture() as captured:
        producer = produce()
        for _ in range(2):
            contextvars.copy_context().run(next, producer, None)
    assert captured.named("inner").end_time


def test_an_async_block_left_by_another_task_ends_its_span_as_abandoned():
    async def dependency():
        async with observe(endpoint="/dependency"):
            yield 1

    async def serve():
        one = dependency()
        await asyncio.create_task(anext(one))
        await asyncio.create_task(one.aclose())

    with testing.capture() as captured:
        asyncio.run(serve())
    assert captured.named("/dependency").attributes["pennytrace.stream.abandoned"]


def test_blocks_of_two_generators_that_end_in_the_order_of_their_begin_keep_their_own_errors():
    def produce(name):
        with observe(name=name):
            yield

    with testing.capture() as captured:
        first, second = produce("first"), produce("second")
        next(first)
        next(second)
        with pytest.raises(ValueError, match="of the first"):
            first.throw(ValueError("of the first"))
        next(second, None)
    assert captured.named("first").attributes["error.type"] == "ValueError"
    assert "error.type" not in captured.named("second").attributes
    assert otel_context.get_current() == {}


def test_one_observe_object_entered_twice_ends_both_spans():
    shared = observe(endpoint="/shared")
    with testing.capture() as captured, shared, shared:
        pass
    inner, outer = captured.spans
    assert inner.parent.span_id == outer.context.span_id


class Shade(enum.IntEnum):
    DARK = 7


class Word(enum.StrEnum):
    YES = "yes"


class Length(float):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [(http.HTTPStatus.OK, 200), (Shade.DARK, 7), (Word.YES, "yes"), (Length(1.5), 1.5)],
)
def test_values_of_subclasses_are_encoded_as_what_they_are(value, plain):
    started = time.monotonic()
    assert _wire.any_value(value) == _wire.any_value(plain)
    assert time.monotonic() - started < 1


def test_a_thread_that_cannot_start_raises_nothing_and_the_next_span_tries_again(sink, provider, monkeypatch):
    handle = pennytrace.configure(
        tracer_provider=provider, endpoint_url=sink.url, gpu=False, metrics=False, export_interval_s=0.02
    )

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        provider.get_tracer("app").start_span("first").end()
        assert not handle.flush(timeout_s=5)
    provider.get_tracer("app").start_span("second").end()
    assert handle.flush()
    assert sorted(span.name for span in sink.spans()) == ["first", "second"]
    handle.shutdown()


def test_a_result_whose_class_cannot_be_asked_for_comes_back():
    class Lazy:
        @property
        def __class__(self):
            raise RuntimeError("working outside of request context")

    lazy = Lazy()

    @observe(endpoint="/lazy")
    def give():
        return lazy

    with testing.capture() as captured:
        assert give() is lazy
    assert captured.named("/lazy").end_time


def test_attribute_keys_that_are_no_strings_raise_nothing():
    with testing.capture() as captured, observe(endpoint="/keys") as call:
        call.span.set_attribute(5, "x")
        call.span.set_attribute(["k"], "x")
    assert dict(captured.named("/keys").attributes).keys() == {"pennytrace.span.kind", "pennytrace.endpoint"}


def test_dimensions_that_are_no_strings_become_some():
    tenant = uuid.uuid4()
    with testing.capture() as captured, observe(endpoint=5, tenant=tenant):
        pass
    assert captured.named("5").attributes["pennytrace.tenant"] == str(tenant)


def test_observe_above_a_staticmethod_is_refused():
    with pytest.raises(ConfigurationError, match="below @classmethod"):
        observe(staticmethod(lambda: 1))


def test_a_generator_made_a_coroutine_can_still_be_awaited():
    @observe(endpoint="/old")
    @types.coroutine
    def old():
        yield from asyncio.sleep(0).__await__()
        return 5

    async def serve():
        return await old()

    with testing.capture() as captured:
        assert asyncio.run(serve()) == 5
    assert captured.named("/old").end_time


def test_a_returned_task_is_followed_to_its_result():
    @observe(endpoint="/task", provider="openai")
    def begin():
        async def answer():
            await asyncio.sleep(0.03)
            return {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}

        return asyncio.ensure_future(answer())

    async def serve():
        await begin()
        await asyncio.sleep(0)

    with testing.capture() as captured:
        asyncio.run(serve())
    span = captured.named("/task")
    assert _counts(span) == (1, 2)
    assert span.end_time - span.start_time > 20_000_000


def test_suppression_that_was_set_to_false_suppresses_nothing():
    token = otel_context.attach(otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, False))  # noqa: FBT003
    try:
        with testing.capture() as captured, observe(endpoint="/x"):
            pass
    finally:
        otel_context.detach(token)
    assert captured.named("/x")


def test_answers_below_are_booked_whether_or_not_the_span_is_sampled():
    def booked(**settings):
        with testing.capture(TracerProvider(shutdown_on_exit=False, **settings)):
            with observe(endpoint="/outer") as outer, observe(provider="openai", model="m"):
                pennytrace.record_usage(input_tokens=5, output_tokens=6)
            return [(one.usage.input_tokens, one.model) for one in outer.answers()]

    assert booked() == booked(sampler=ALWAYS_OFF) == [(5, "m")]


def test_an_error_type_that_the_application_set_is_sent_once():
    @observe(endpoint="/x")
    def fail():
        trace.get_current_span().set_attribute("error.type", "timeout")
        raise ValueError("no")

    with testing.capture() as captured, pytest.raises(ValueError, match="no"):
        fail()
    body, _ = Encoder().request(captured.spans)
    assert body.count(b"error.type") == 1


def test_what_is_logged_of_our_failures_has_no_text_of_theirs(caplog):
    @observe(endpoint="/x", provider="p", usage=int)
    def answer():
        return "THE PROMPT"

    failures._by_place.clear()
    with testing.capture():
        assert answer() == "THE PROMPT"
    assert "THE PROMPT" not in caplog.text
    assert "builtins.ValueError" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_locks_that_were_held_at_a_fork_are_free_in_the_child():
    with _span._becoming_stock, failures._lock:
        child = os.fork()
        if child == 0:
            free = [lock.acquire(timeout=1) for lock in (_span._becoming_stock, failures._lock)]
            os._exit(0 if all(free) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("length", [0, 10, 115, 125, 300, 20_000])
def test_rejected_spans_are_read_beside_a_message_of_any_length(length):
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 7
    answer.partial_success.error_message = "e" * length
    assert rejected_spans(answer.SerializeToString()) == 7


@pytest.mark.parametrize("said", ["inf", "nan", "Wed, 99 Foo 99999999 07:28:00 GMT"])
def test_a_retry_after_that_is_no_time_is_ignored(said):
    assert retry_after_s(said, 0) is None


class _Script:
    """A backend that gives these outcomes in turn."""

    def __init__(self, *outcomes):
        self._outcomes = iter(outcomes)

    def send(self, body, timeout_s):  # noqa: ARG002 # a sender's
        return next(self._outcomes)

    def close(self):
        pass


def _delivered(*outcomes):
    provider = TracerProvider(shutdown_on_exit=False)
    with testing.capture(provider) as captured, observe(endpoint="/x"):
        pass
    pauses = []
    made = Delivery(_Script(*outcomes), 1.0, lambda: None, pauses.append, lambda: None)
    return made.deliver(captured.spans), pauses


@pytest.mark.parametrize(("asked_s", "least", "most"), [(0.0, 0.3, 0.7), (86_400.0, 60, 60), (5.0, 5, 5)])
def test_a_retry_after_is_kept_within_bounds(asked_s, least, most):
    _, (pause,) = _delivered(Outcome(Verdict.LATER, retry_after_s=asked_s), Outcome(Verdict.DELIVERED))
    assert least <= pause <= most


@pytest.mark.parametrize(("reached", "settled"), [(True, Settled(failed=1)), (False, Settled(delivered=1))])
def test_only_a_backend_that_answers_makes_a_batch_be_given_up(monkeypatch, reached, settled):
    monkeypatch.setattr(_delivery, "GIVE_UP_S", -1.0)
    away = Outcome(Verdict.LATER, reached=reached)
    assert _delivered(away, away, Outcome(Verdict.DELIVERED))[0] == settled


def test_a_dead_port_is_not_reached():
    assert not HttpSender(Target("http://127.0.0.1:1/v1/traces")).send(b"", 1).reached


@pytest.mark.parametrize("url", ["http://localhost:99999", "http://localhost:0", "http://:4318"])
def test_an_address_that_cannot_be_is_configures_error(url):
    with pytest.raises(ConfigurationError, match="endpoint_url"):
        pennytrace.configure(endpoint_url=url, gpu=False)


def test_the_timeout_of_the_environment_is_in_milliseconds_and_bounded(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2500")
    assert _exporter._timeout_s(None) == 2.5
    for wrong in ("-1", "soon", "nan", "100000000"):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", wrong)
        with pytest.raises(ConfigurationError, match="milliseconds"):
            _exporter._timeout_s(None)


def test_grpc_reads_certificates_when_configured(tmp_path):
    pytest.importorskip("grpc")
    with pytest.raises(OSError, match="missing"):
        GrpcSender(Target("https://otel.example.com", ca_file=str(tmp_path / "missing.pem")))


class _RpcError(Exception):
    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return ""

    def trailing_metadata(self):
        return ()


def test_a_grpc_message_above_the_servers_limit_is_refused_and_not_sent_again():
    grpc = pytest.importorskip("grpc")
    sender = GrpcSender(Target("http://127.0.0.1:4317"))
    verdicts = {code: sender._outcome(_RpcError(code)) for code in grpc.StatusCode}
    assert verdicts[grpc.StatusCode.RESOURCE_EXHAUSTED].verdict is Verdict.REFUSED
    assert verdicts[grpc.StatusCode.ABORTED] == Outcome(Verdict.LATER, "ABORTED: ")
    assert not verdicts[grpc.StatusCode.UNAVAILABLE].reached


@pytest.mark.parametrize(
    ("url", "host", "is_packed"),
    [("http://[::1]:4317", "[::1]:4317", False), ("http://otel.example.com", "otel.example.com:4317", True)],
)
def test_grpc_compresses_for_other_machines_and_brackets_addresses(monkeypatch, url, host, is_packed):
    grpc = pytest.importorskip("grpc")
    opened = []
    monkeypatch.setattr(grpc, "insecure_channel", lambda at, compression: opened.append((at, compression)))
    GrpcSender(Target(url))._open()
    assert opened == [(host, grpc.Compression.Gzip if is_packed else grpc.Compression.NoCompression)]


def test_capture_leaves_nothing_on_the_provider():
    provider = TracerProvider(shutdown_on_exit=False)
    with testing.capture(provider):
        pass
    with testing.capture(provider) as captured, observe(endpoint="/x"):
        pass
    assert provider._active_span_processor._span_processors == ()
    assert len(captured.spans) == 1
