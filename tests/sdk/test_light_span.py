"""A light span is OpenTelemetry's span to everybody who looks: the application, its libraries, its processors."""

import logging
import random

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import pennytrace
from pennytrace import observe
from pennytrace._span import LightSpan
from pennytrace.testing import capture


@pytest.fixture
def captured(provider):
    with capture(provider) as found:
        yield found


def inside(then):
    """What `then` makes of the current span within an observed call, and the span."""
    seen = {}

    @observe(endpoint="/x", model="m")
    def call():
        seen["span"] = trace.get_current_span()
        seen["is_light"] = isinstance(seen["span"], LightSpan) and not seen["span"].is_stock
        seen["result"] = then(seen["span"])

    call()
    assert seen["is_light"]
    return seen["result"], seen["span"]


@pytest.mark.usefixtures("captured")
def test_it_is_the_sdks_span_and_records_until_it_ends():
    result, span = inside(lambda s: (isinstance(s, Span), isinstance(s, ReadableSpan), s.is_recording()))
    assert result == (True, True, True)
    assert not span.is_recording()
    assert not span.is_stock


@pytest.mark.usefixtures("captured")
def test_its_context_is_what_propagators_inject():
    carrier, span = inside(lambda _: TraceContextTextMapPropagator().inject(found := {}) or found)
    own = span.get_span_context()
    assert carrier["traceparent"] == f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
    assert own == span.context
    assert own.is_valid
    assert own.trace_flags.sampled
    assert not span.is_stock


def test_stock_children_and_light_ones_are_below_it_and_it_is_below_a_stock_span(captured, provider):
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("GET /x"):
        inside(lambda _: tracer.start_span("db").end())
    db, light, outer = captured.spans
    assert (db.name, light.name, outer.name) == ("db", "/x", "GET /x")
    assert db.parent == light.get_span_context()
    assert light.parent == outer.get_span_context()
    assert type(db) is ReadableSpan


@pytest.mark.usefixtures("captured")
def test_a_remote_parents_trace_state_and_flags_are_kept():
    remote = SpanContext(7, 8, True, TraceFlags(1), TraceState([("vendor", "a")]))  # noqa: FBT003 # OpenTelemetry's
    with trace.use_span(trace.NonRecordingSpan(remote)):
        _, span = inside(lambda _: pennytrace.set_tenant("t"))
    assert (span.trace_id, span.parent) == (7, remote)
    assert span.get_span_context().trace_state == remote.trace_state
    assert span.get_span_context().trace_flags == TraceFlags(1)


def test_an_unsampled_parent_is_obeyed_and_leaves_no_span(captured):
    remote = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(0))
    with trace.use_span(trace.NonRecordingSpan(remote)):
        observe(endpoint="/x")(lambda: None)()
    assert not captured.spans


@pytest.mark.usefixtures("captured")
def test_what_a_user_sets_on_it_is_sent_and_needs_no_stock_span_for_plain_values():
    def use(span):
        span.set_attribute("a", 1)
        span.set_attributes({"b": "two", "c": True, "a": 3})

    _, span = inside(use)
    assert not span.is_stock
    assert {key: span.attributes[key] for key in "abc"} == {"a": 3, "b": "two", "c": True}


def test_values_that_want_cleaning_are_cleaned_as_opentelemetry_does(captured, caplog):
    values = [1, 2]

    def use(span):
        span.set_attribute("list", values)
        span.set_attribute("odd", object())
        span.set_attribute("", 1)
        span.set_attribute("pennytrace.endpoint", "/y")
        values.append(3)

    _, span = inside(use)
    ended = captured.spans[-1]
    assert ended.attributes["list"] == (1, 2)
    assert ended.attributes["pennytrace.endpoint"] == "/y"
    assert ended.attributes["gen_ai.request.model"] == "m"
    assert span.is_stock
    assert {record.name for record in caplog.records} == {"opentelemetry.attributes"}


def test_events_links_status_names_and_exceptions_are_opentelemetrys_own(captured):
    def use(span):
        span.set_attribute("before", 1)
        span.add_event("cache miss", {"key": "k"})
        span.record_exception(ValueError("told by the user"))
        span.add_link(SpanContext(1, 2, is_remote=False))
        span.set_status(StatusCode.OK)
        span.set_status(StatusCode.ERROR, "too late")
        span.update_name("renamed")

    inside(use)
    ended = captured.spans[-1]
    assert ended.name == "renamed"
    assert [event.name for event in ended.events] == ["cache miss", "exception"]
    assert ended.events[1].attributes["exception.message"] == "told by the user"
    assert [link.context.span_id for link in ended.links] == [2]
    assert ended.status.status_code is StatusCode.OK
    assert ended.attributes["before"] == 1


def test_after_the_end_nothing_changes_and_a_second_end_is_refused(captured, caplog):
    _, span = inside(lambda _: None)
    before = dict(span.attributes)
    span.set_attribute("late", 1)
    span.add_event("late")
    span.end()
    assert dict(span.attributes) == before
    assert not span.events
    assert len(captured.spans) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3


def test_many_attributes_meet_opentelemetrys_limit(captured):
    inside(lambda span: [span.set_attribute(f"k{n}", n) for n in range(200)])
    ended = captured.spans[-1]
    assert len(ended.attributes) == 128
    assert ended.dropped_attributes == 200 + 4 - 128  # four of ours


@pytest.mark.usefixtures("captured")
def test_baggage_and_other_values_of_the_context_are_seen_inside():
    token = context.attach(baggage.set_baggage("user", "u1"))
    try:
        result, _ = inside(lambda _: baggage.get_baggage("user"))
    finally:
        context.detach(token)
    assert result == "u1"
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_suppressed_instrumentation_records_nothing_and_runs(captured):
    token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))  # noqa: FBT003, SLF001
    try:
        assert observe(endpoint="/x")(lambda: 5)() == 5
    finally:
        context.detach(token)
    assert not captured.spans


def test_a_processor_of_the_users_gets_whole_spans_from_the_moment_it_is_added(captured, provider):
    seen = InMemorySpanExporter()

    @observe(endpoint="/x")
    def call(add=False):
        if add:
            provider.add_span_processor(SimpleSpanProcessor(seen))
        pennytrace.record_usage(input_tokens=5, output_tokens=1)

    call()
    call(add=True)
    call()
    assert len(captured.spans) == 3
    assert [dict(span.attributes) for span in seen.get_finished_spans()] == [
        dict(s.attributes) for s in captured.spans[1:]
    ]
    assert seen.get_finished_spans()[0].attributes["gen_ai.usage.input_tokens"] == 5


class Counting(IdGenerator):
    def __init__(self):
        self.last = 0

    def generate_span_id(self):
        self.last += 1
        return self.last

    generate_trace_id = generate_span_id


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sampler": ALWAYS_OFF}, 0),
        ({"sampler": ParentBased(TraceIdRatioBased(0.0))}, 0),
        ({"sampler": TraceIdRatioBased(1.0)}, 10),
        ({"span_limits": SpanLimits(max_span_attributes=2)}, 10),
        ({"span_limits": SpanLimits(max_span_attribute_length=3)}, 10),
        ({"id_generator": Counting()}, 10),
    ],
)
def test_a_providers_own_sampler_limits_and_ids_are_obeyed(settings, expected):
    provider = TracerProvider(shutdown_on_exit=False, **settings)
    with capture(provider) as captured:
        for _ in range(10):
            observe(endpoint="/long", model="m")(lambda: None)()
    assert len(captured.spans) == expected
    for number, span in enumerate(captured.spans):
        if "span_limits" in settings:
            limits = settings["span_limits"]
            assert len(span.attributes) <= limits.max_span_attributes
            assert limits.max_span_attribute_length is None or span.attributes["pennytrace.endpoint"] == "/lo"
        if "id_generator" in settings:
            assert span.context.span_id == 2 * number + 2


def test_ids_differ_in_programs_that_seed_the_random_module(captured):
    for _ in range(2):
        random.seed(42)
        inside(lambda _: None)
    assert len({span.context.trace_id for span in captured.spans}) == 2


def test_a_nested_call_on_another_thread_joins_the_trace_by_its_context(captured):
    def elsewhere(_):
        return context.get_current()

    around, span = inside(elsewhere)
    token = context.attach(around)
    try:
        inside(lambda _: None)
    finally:
        context.detach(token)
    assert captured.spans[-1].parent == span.get_span_context()
