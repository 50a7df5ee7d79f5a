"""A trace comes back from the store as it was sent."""

import math
import os
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from collector import CollectorSettings, framing
from collector.content import ContentFilter
from collector.window import Window
from storage import EmbeddedLocation, Store, otlp
from storage.traces import find_trace, otlp_json

NOW = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
DAY_NS = 86_400 * 10**9
WINDOW = Window.around(NOW, CollectorSettings())
KEEPS_CONTENT = ContentFilter(CollectorSettings(keep_message_content=True))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("store") / "data"))
    yield opened
    opened.close()


def send(store, trace, tenant=""):
    """Through the collector's own check and framing, into the engine."""
    body = trace.SerializeToString()
    request = ExportTraceServiceRequest.FromString(body)
    framed = framing.frame(request, body, WINDOW, tenant, KEEPS_CONTENT)
    assert framed.items == sum(1 for _ in spans_of(trace))
    otlp.insert_spans(store, b"".join(row.framed() for row in framed.rows), uuid.uuid4().hex)


def spans_of(trace):
    for resource_spans in trace.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield resource_spans, scope_spans, span


def said(message):
    """A message's bytes, so that NaN equals NaN and one left out equals an empty one."""
    return message.SerializeToString(deterministic=True)


def contents(trace):
    """What every span says, with its scope and resource, whatever the order."""
    return sorted(
        (said(of.resource), of.schema_url, said(scope.scope), scope.schema_url, plain(span))
        for of, scope, span in spans_of(trace)
    )


def plain(span):
    copied = Span.FromString(said(span))
    if not said(copied.status):
        copied.ClearField("status")
    if copied.parent_span_id == bytes(8):
        copied.parent_span_id = b""
    return said(copied)


text = st.text(st.characters(codec="utf-8"), max_size=12)
uint32 = st.integers(0, 2**32 - 1)
values = st.recursive(
    st.one_of(
        st.builds(AnyValue),
        st.builds(AnyValue, string_value=text),
        st.builds(AnyValue, bool_value=st.booleans()),
        st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
        st.builds(AnyValue, double_value=st.floats(allow_nan=False) | st.just(math.nan)),
        st.builds(AnyValue, bytes_value=st.binary(max_size=12)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: AnyValue(array_value={"values": items})),
        st.lists(st.builds(KeyValue, key=text, value=inner), max_size=3).map(
            lambda items: AnyValue(kvlist_value={"values": items})
        ),
    ),
    max_leaves=6,
)
# "x." keeps the keys out of those whose content the collector drops.
attributes = st.dictionaries(text.map("x.{}".format), values, max_size=5).map(
    lambda known: [KeyValue(key=key, value=value) for key, value in known.items()]
)
times = st.integers(NOW_NS - 1800 * DAY_NS, NOW_NS)
ids = st.binary(min_size=8, max_size=8).filter(any)
events = st.builds(Span.Event, time_unix_nano=times, name=text, attributes=attributes, dropped_attributes_count=uint32)
links = st.builds(
    Span.Link,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=ids,
    trace_state=text,
    attributes=attributes,
    dropped_attributes_count=uint32,
    flags=uint32,
)
spans = st.builds(
    Span,
    span_id=ids,
    parent_span_id=ids | st.just(b""),
    trace_state=text,
    flags=uint32,
    name=text,
    kind=st.integers(0, 5),
    start_time_unix_nano=times,
    end_time_unix_nano=times | st.just(0),
    attributes=attributes,
    dropped_attributes_count=uint32,
    events=st.lists(events, max_size=2),
    dropped_events_count=uint32,
    links=st.lists(links, max_size=2),
    dropped_links_count=uint32,
    status=st.builds(Status, message=text, code=st.integers(0, 2)),
)
scopes = st.builds(InstrumentationScope, name=text, version=text, attributes=attributes)
resources = st.builds(Resource, attributes=attributes, dropped_attributes_count=uint32)
traces = st.lists(
    st.builds(
        ResourceSpans,
        resource=resources,
        schema_url=text,
        scope_spans=st.lists(
            st.builds(ScopeSpans, scope=scopes, schema_url=text, spans=st.lists(spans, min_size=1, max_size=3)),
            min_size=1,
            max_size=2,
        ),
    ),
    min_size=1,
    max_size=2,
).map(lambda parts: TracesData(resource_spans=parts))


def as_one_trace(trace):
    """The same spans under one new trace id, each with a span id of its own."""
    trace_id = os.urandom(16)
    for number, (_, _, span) in enumerate(spans_of(trace)):
        span.trace_id = trace_id
        span.span_id = span.span_id[:6] + number.to_bytes(2, "big")
        if not any(span.span_id):
            span.span_id = b"\1" * 8
    return trace_id


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(trace=traces)
def test_every_span_comes_back_as_it_was_sent(store, trace):
    trace_id = as_one_trace(trace)
    send(store, trace)
    assert contents(find_trace(store, trace_id)) == contents(trace)


def one_span(**fields):
    trace = TracesData()
    resource_spans = trace.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "shop"
    span = resource_spans.scope_spans.add().spans.add(
        trace_id=os.urandom(16), span_id=os.urandom(8), start_time_unix_nano=NOW_NS, end_time_unix_nano=NOW_NS + 5
    )
    for name, value in fields.items():
        setattr(span, name, value)
    return trace, span


def test_a_span_sent_twice_is_found_once_in_its_last_state(store):
    trace, span = one_span(name="first")
    send(store, trace)
    span.name = "second"
    body = trace.SerializeToString()
    later = Window(1, NOW_NS + 10**9, 2**62)
    framed = framing.frame(ExportTraceServiceRequest.FromString(body), body, later, "", KEEPS_CONTENT)
    otlp.insert_spans(store, framed.rows[0].framed(), uuid.uuid4().hex)
    assert [found.name for _, _, found in spans_of(find_trace(store, span.trace_id))] == ["second"]


def test_a_repeated_key_comes_back_as_often_as_it_was_sent(store):
    trace, span = one_span()
    for number in (1, 2):
        span.attributes.add(key="x").value.int_value = number
    send(store, trace)
    assert contents(find_trace(store, span.trace_id)) == contents(trace)


def test_spans_of_two_tenants_with_the_same_ids_are_both_there(store):
    trace, span = one_span(name="theirs")
    send(store, trace, tenant="a")
    span.name = "forged"
    send(store, trace, tenant="b")
    assert sorted(one.name for *_, one in spans_of(find_trace(store, span.trace_id))) == ["forged", "theirs"]


def test_an_unknown_trace_has_no_spans(store):
    assert find_trace(store, os.urandom(16)) == TracesData()
    with pytest.raises(ValueError, match="expected a trace id of 16 bytes, got 3"):
        find_trace(store, b"abc")


def test_rows_from_before_the_raw_resource_was_kept_have_its_attributes(store):
    trace_id = os.urandom(16)
    store.execute(
        "INSERT INTO spans (started_at, trace_id, span_id, service, resource) "
        "SELECT {at:DateTime64(9)}, unhex({id:String}), 'abcdefgh', 'shop', "
        """'{"service.name":"shop","replicas":2,"spot":true,"share":0.5,"zones":["a"],"none":null}'""",
        {"at": NOW, "id": trace_id.hex()},
    )
    resource = find_trace(store, trace_id).resource_spans[0].resource
    assert {each.key: each.value for each in resource.attributes} == {
        "service.name": AnyValue(string_value="shop"),
        "replicas": AnyValue(int_value=2),
        "spot": AnyValue(bool_value=True),
        "share": AnyValue(double_value=0.5),
        "zones": AnyValue(string_value='["a"]'),
        "none": AnyValue(),
    }


def test_its_json_is_otlps_own(store):
    trace, span = one_span(kind=3, parent_span_id=b"\1" * 8)
    span.links.add(trace_id=b"\2" * 16, span_id=b"\3" * 8)
    span.attributes.add(key="n").value.int_value = 2**60
    send(store, trace)
    (found,) = otlp_json(find_trace(store, span.trace_id))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert found["traceId"] == span.trace_id.hex()
    assert found["spanId"] == span.span_id.hex()
    assert found["parentSpanId"] == "01" * 8
    assert found["links"] == [{"traceId": "02" * 16, "spanId": "03" * 8}]
    assert found["kind"] == 3
    assert found["attributes"] == [{"key": "n", "value": {"intValue": str(2**60)}}]


def test_the_types_of_attributes_are_shown_as_an_array(store):
    trace, span = one_span()
    span.attributes.add(key="a").value.string_value = "s"
    span.attributes.add(key="b")
    span.attributes.add(key="c").value.bool_value = True
    send(store, trace)
    shown = store.frame_of(
        "SELECT CAST(attribute_types, 'Array(String)') AS types FROM spans WHERE trace_id = unhex({id:String})",
        {"id": span.trace_id.hex()},
    )
    assert shown["types"].to_list() == [["s", "no", "b"]]
