"""OTLP JSON is read as protobuf's own JSON mapping reads it, ids aside, which OTLP writes in hex."""

from __future__ import annotations

import base64
import json

import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from collector.otlp_json import HEX_FIELDS, build
from collector.protocol import LOGS, METRICS, SIGNALS, TRACES

SIGNED_64, UNSIGNED_64 = st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1)
BYTES = st.binary(max_size=20)
VALUES = {
    FieldDescriptor.CPPTYPE_STRING: st.text(max_size=10),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: SIGNED_64,
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: UNSIGNED_64,
    FieldDescriptor.CPPTYPE_ENUM: st.integers(0, 9),
}


@st.composite
def messages(draw, message_type, depth=0):
    """A random message, with any of its fields set."""
    message = message_type()
    for one in message.DESCRIPTOR.fields:
        if depth > 9 or draw(st.integers(0, 3 if depth else 1)) != 0:
            continue
        if one.message_type:
            inner = messages(getattr(one.message_type, "_concrete_class"), depth + 1)  # noqa: B009
            if one.is_repeated:
                getattr(message, one.name).extend(draw(st.lists(inner, max_size=2)))
            else:
                getattr(message, one.name).CopyFrom(draw(inner))
        else:
            value = BYTES if one.type == FieldDescriptor.TYPE_BYTES else VALUES[one.cpp_type]
            if one.is_repeated:
                getattr(message, one.name).extend(draw(st.lists(value, max_size=3)))
            else:
                setattr(message, one.name, draw(value))
    return message


def as_otlp(node: object) -> object:
    """protobuf's JSON with ids in hex."""
    if isinstance(node, list):
        return [as_otlp(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: base64.b64decode(value).hex() if key in ("traceId", "spanId", "parentSpanId") else as_otlp(value)
        for key, value in node.items()
    }


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
@given(data=st.data(), numbers_as_text=st.booleans(), camel=st.booleans())
@hypothesis_settings(max_examples=150)
def test_what_protobuf_writes_as_json_is_read_back(signal, data, numbers_as_text, camel):
    message = data.draw(messages(signal.request))
    document = as_otlp(
        json_format.MessageToDict(message, preserving_proto_field_name=False, use_integers_for_enums=camel)
    )
    if not numbers_as_text:
        document = json.loads(json.dumps(document), object_hook=with_numbers)
    assert build(signal.request, orjson.loads(json.dumps(document))) == message


def with_numbers(node):
    """Whole numbers in text as numbers, but for strings that are meant to be text."""
    return {
        key: int(value)
        if key.endswith(("Nano", "count", "Count", "intValue", "asInt")) and isinstance(value, str)
        else value
        for key, value in node.items()
    }


JSON = st.recursive(
    st.none() | st.booleans() | SIGNED_64 | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["resourceSpans", "scopeSpans", "spans", "attributes", "key", "value", "stringValue", "kind", "flags"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
@hypothesis_settings(max_examples=500)
def test_nothing_is_read_that_protobuf_refuses_or_reads_otherwise(document):
    try:
        expected = json_format.ParseDict(document, TRACES.request(), ignore_unknown_fields=True)
    except (json_format.ParseError, AttributeError, TypeError):
        expected = None
    try:
        got = build(TRACES.request, document)
    except (TypeError, ValueError, OverflowError, RecursionError):
        got = None
    assert got is None or got == expected


def span(**fields: object) -> dict[str, object]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}


def built_span(**fields: object):
    request = build(TRACES.request, span(**fields))
    return request.resource_spans[0].scope_spans[0].spans[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(HEX_FIELDS))
def test_ids_are_hex(name):
    camel = "".join(part.title() if number else part for number, part in enumerate(name.split("_")))
    assert getattr(built_span(**{camel: "0aFF"}), name) == b"\x0a\xff"


@pytest.mark.parametrize("sent", ["_-8", "/+8=", "_-8="])
def test_bytes_are_base64_of_either_alphabet(sent):
    value = built_span(attributes=[{"key": "b", "value": {"bytesValue": sent.replace("/", "_").replace("+", "-")}}])
    assert value.attributes[0].value.bytes_value == base64.urlsafe_b64decode("_-8=")


@pytest.mark.parametrize(("sent", "number"), [("+5", 5), ("1e3", 1000), ("5.0", 5), ("-0", 0), ("007", 7), (3.0, 3)])
def test_a_whole_number_is_read_in_every_way_that_protobuf_reads_it(sent, number):
    value = {"intValue": sent}
    assert json_format.ParseDict(value, AnyValue()).int_value == number
    assert built_span(attributes=[{"key": "i", "value": value}]).attributes[0].value.int_value == number


@pytest.mark.parametrize(
    ("sent", "kind"), [("SPAN_KIND_CLIENT", 3), (3, 3), ("3", 3), (77, 77), ("SPAN_KIND_OF_THE_FUTURE", 0)]
)
def test_an_enum_is_a_number_or_a_name_and_an_unknown_name_is_ignored(sent, kind):
    assert built_span(kind=sent).kind == kind


@pytest.mark.parametrize(
    ("sent", "number"), [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf"), (3, "3.0"), ("2.5", "2.5")]
)
def test_a_double_is_a_number_or_its_name(sent, number):
    value = built_span(attributes=[{"key": "d", "value": {"doubleValue": sent}}]).attributes[0].value
    assert repr(value.double_value) == number


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": "xyz"},
        {"traceId": 7},
        {"traceId": "0a ff"},
        {"traceId": " 0aff"},
        {"traceId": "0af"},
        {"startTimeUnixNano": "1.5"},
        {"startTimeUnixNano": " 5"},
        {"startTimeUnixNano": "1e9999"},
        {"startTimeUnixNano": "1e99999999999"},
        {"startTimeUnixNano": "1_0"},
        *(
            {"attributes": [{"key": "b", "value": {"bytesValue": sent}}]}
            for sent in ("A A=", "AA=", "A", "AA==AA", "!!", "A\n==")
        ),
        {"kind": True},
        {"kind": 1.5},
        {"flags": 2**32},
        {"flags": -1},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": str(2**64)},
        {"name": 7},
        {"attributes": {}},
        {"attributes": [None]},
        {"attributes": [{"key": "a", "value": {"intValue": "1", "stringValue": "1"}}]},
        {"attributes": [{"key": "a", "value": {"boolValue": 1}}]},
        {"attributes": [{"key": "a", "value": {"doubleValue": "nan"}}]},
        {"attributes": [{"key": "a", "value": "text"}]},
        {"status": []},
    ],
)
def test_what_otlp_does_not_say_is_refused(fields):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        build(TRACES.request, span(**fields))


def test_null_and_unknown_fields_are_ignored():
    assert built_span(name=None, attributes=None, colour={"a": [1]}, kind=3).kind == 3


def test_messages_may_be_a_hundred_deep_and_no_deeper():
    def nested(levels: int) -> dict[str, object]:
        value: dict[str, object] = {"stringValue": "x"}
        for _ in range(levels):
            value = {"arrayValue": {"values": [value]}}
        return span(attributes=[{"key": "a", "value": value}])

    # Request, resource, scope, span, attribute and value are six; each level is two more.
    assert build(TRACES.request, nested(47)).ByteSize()
    with pytest.raises(RecursionError):
        build(TRACES.request, nested(48))


@pytest.mark.parametrize("signal", [METRICS, LOGS])
def test_the_document_is_an_object(signal):
    with pytest.raises(TypeError):
        build(signal.request, [])
