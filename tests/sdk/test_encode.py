"""Our encoder against OpenTelemetry's own, on random spans: the decoded messages are equal."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from pennytrace import _wire
from pennytrace._encode import Encoder
from pennytrace._shape import Shape
from pennytrace._source import SpanSource
from pennytrace.testing import CapturedSpans

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
INT64 = st.integers(-(2**63), 2**63 - 1)


class Whole(int):
    pass


class Word(str):
    __slots__ = ()


class Real(float):
    pass


PLAIN = TEXT | INT64 | st.floats(allow_nan=False) | st.booleans()
SCALARS = PLAIN | TEXT.map(Word) | INT64.map(Whole) | st.floats(allow_nan=False).map(Real)
VALUES = st.recursive(
    SCALARS | st.binary(max_size=50) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
STATES = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), max_size=3
)
TIMES = st.integers(1, 2**63 - 1)
CONTEXTS = st.builds(
    lambda trace_id, span_id, remote, state: SpanContext(
        trace_id, span_id, remote, TraceFlags(1), TraceState(list(state.items()))
    ),
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    STATES,
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=8)
EVENTS = st.builds(Event, TEXT, ATTRIBUTES, TIMES)
SCOPES = st.builds(
    InstrumentationScope, NAMES, st.none() | TEXT, st.none() | TEXT, st.dictionaries(NAMES, SCALARS, max_size=2)
)
STATUSES = (
    st.just(Status()) | st.just(Status(StatusCode.OK)) | st.builds(Status, st.just(StatusCode.ERROR), st.none() | TEXT)
)
READABLE = st.builds(
    ReadableSpan,
    name=TEXT,
    context=CONTEXTS,
    parent=st.none() | CONTEXTS,
    resource=st.builds(Resource, st.dictionaries(NAMES, SCALARS, max_size=3), st.none() | TEXT),
    attributes=ATTRIBUTES,
    events=st.lists(EVENTS, max_size=3),
    links=st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=3),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=TIMES,
    end_time=TIMES,
    instrumentation_scope=st.none() | SCOPES,
)


def decoded(spans):
    body, broken = Encoder().request(spans)
    assert not broken
    return ExportTraceServiceRequest.FromString(body)


def by_span(request):
    """Every span with its resource and scope: grouping may differ where two resources are equal but not the same."""
    return [
        (group.resource, group.schema_url, scoped.scope, scoped.schema_url, span)
        for group in request.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]


@given(READABLE)
def test_any_span_decodes_to_what_opentelemetrys_own_encoder_says(span):
    assert decoded([span]) == encode_spans([span])


@given(st.lists(READABLE, max_size=6))
def test_a_batch_of_spans_of_several_resources_and_scopes_decodes_to_the_same_spans(spans):
    ours, theirs = by_span(decoded(spans)), by_span(encode_spans(spans))
    assert sorted(map(repr, ours)) == sorted(map(repr, theirs))


@pytest.fixture(scope="module")
def source():
    provider = TracerProvider(resource=Resource({"service.name": "s"}, "https://schema"), shutdown_on_exit=False)
    captured = CapturedSpans()
    provider.add_span_processor(captured)
    return SpanSource(provider, provider.get_tracer("pennytrace", "1"), captured)


LIGHT = st.fixed_dictionaries(
    {
        "name": TEXT,
        "kind": st.sampled_from(SpanKind),
        "fixed": st.dictionaries(NAMES, NAMES, max_size=4),
        "more": st.dictionaries(NAMES, PLAIN, max_size=8),
        "parent": st.none() | CONTEXTS,
        "error": st.none() | st.sampled_from([TimeoutError(), KeyError("a")]),
        "started": TIMES,
        "took": st.integers(0, 10**12),
    }
)


@given(LIGHT)
def test_a_light_span_decodes_to_what_opentelemetrys_own_encoder_says_of_it(source, drawn):
    context = trace.Context()
    if drawn["parent"] is not None:
        context = trace.set_span_in_context(trace.NonRecordingSpan(drawn["parent"]), context)
    span = source.start(Shape(drawn["name"], drawn["kind"], drawn["fixed"]), context, None, drawn["started"])
    for key, value in drawn["more"].items():
        if key not in drawn["fixed"]:
            span.set_attribute(key, value)
    if drawn["error"] is not None:
        from pennytrace._call import _fail

        _fail(span, drawn["error"], drawn["started"])
    span.end(drawn["started"] + drawn["took"])
    assert not span.is_stock
    ours = decoded([span])
    assert ours == encode_spans([span])
    assert span.is_stock  # which the official encoder made of it
    assert decoded([span]) == ours


def test_a_nan_and_the_infinities_survive():
    values = [math.nan, math.inf, -math.inf]
    span = ReadableSpan("a", SpanContext(1, 1, is_remote=False), resource=Resource({}), attributes={"v": values})
    [(*_, found)] = by_span(decoded([span]))
    assert repr([v.double_value for v in found.attributes[0].value.array_value.values]) == repr(values)


def test_what_otlp_cannot_say_is_left_out_and_the_rest_of_the_span_is_sent(caplog):
    attributes = {"too.large": 2**63, "fine": 1, "of.no.type": object(), "cut": "a\ud800"}
    span = ReadableSpan("\udfff", SpanContext(1, 1, is_remote=False), resource=Resource({}), attributes=attributes)
    [(*_, found)] = by_span(decoded([span]))
    assert {a.key: a.value.int_value or a.value.string_value for a in found.attributes} == {"fine": 1, "cut": "a?"}
    assert found.name == "?"
    assert [record.key for record in caplog.records] == ["too.large", "of.no.type"]


def test_a_span_that_cannot_be_encoded_is_counted_and_the_others_are_sent():
    good = ReadableSpan("good", SpanContext(1, 2, is_remote=False), resource=Resource({}))
    body, broken = Encoder().request([ReadableSpan("bad", None, resource=Resource({})), good])
    assert broken == 1
    assert [span.name for *_, span in by_span(ExportTraceServiceRequest.FromString(body))] == ["good"]


def test_the_encoders_caches_have_bounds():
    attributes = _wire.SpanAttributes()
    out = []
    for number in range(3 * _wire.CACHED_VALUES_MAX):
        attributes.add_to(out, {"tokens": number, f"key{number}": "x" * number})
    assert len(attributes) <= _wire.CACHED_KEYS_MAX
    counts, framing = attributes["tokens"]
    assert max(len(counts), len(framing)) <= _wire.CACHED_VALUES_MAX
