from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from collector import LOGS, METRICS, TRACES, Encoding, protocol
from collector.errors import InvalidBodyError
from tests.collector.bodies import NOW_NS, only_span


def span_json(**fields: object) -> bytes:
    span = {"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "name": "chat", **fields}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def parsed(body: bytes):
    return only_span(protocol.parse(TRACES, body, Encoding.JSON))


def test_ids_are_hex_in_either_case():
    span = parsed(span_json(parentSpanId="EEE19B7EC3C1B173", links=[{"traceId": "00" * 16, "spanId": "ff" * 8}]))
    assert span.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert (span.span_id.hex(), span.parent_span_id.hex()) == ("eee19b7ec3c1b174", "eee19b7ec3c1b173")
    assert (span.links[0].trace_id, span.links[0].span_id) == (bytes(16), b"\xff" * 8)


@pytest.mark.parametrize("time", [NOW_NS, str(NOW_NS)])
def test_a_64_bit_number_is_a_number_or_a_string(time):
    span = parsed(
        span_json(
            startTimeUnixNano=time, attributes=[{"key": "n", "value": {"intValue": time}}, {"key": "none", "value": {}}]
        )
    )
    assert span.start_time_unix_nano == NOW_NS
    assert span.attributes[0].value.int_value == NOW_NS
    assert span.attributes[1].value.WhichOneof("value") is None


def test_unknown_fields_are_ignored_and_an_attribute_named_like_an_id_is_left_alone():
    span = parsed(
        span_json(
            tomorrow={"spanId": "aa"}, kind=3, attributes=[{"key": "traceId", "value": {"stringValue": "not hex"}}]
        )
    )
    assert span.kind == 3
    assert (span.attributes[0].key, span.attributes[0].value.string_value) == ("traceId", "not hex")


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"nonsense",
        b"null",
        b'"text"',
        span_json(traceId="xyz"),
        span_json(name=7),
        span_json(startTimeUnixNano="soon"),
        span_json(startTimeUnixNano=-1),
        b'{"resourceSpans": 5}',
        b'{"resourceSpans": [null]}',
        b'{"resourceSpans": [7]}',
        b'{"x":' * 5000 + b"1" + b"}" * 5000,
        span_json(attributes=[{"key": "k", "value": json.loads('{"arrayValue":{"values":[' * 200 + "]}}" * 200)}]),
        b"\xff\xfe",
    ],
)
def test_json_that_is_not_otlp_is_refused(body):
    with pytest.raises(InvalidBodyError, match="ExportTraceServiceRequest as OTLP JSON"):
        protocol.parse(TRACES, body, Encoding.JSON)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceSpans", "scopeSpans", "spans", "traceId", "attributes", "key", "value", "links"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@hypothesis_settings(deadline=None)
@given(document=JSON_VALUES, signal=st.sampled_from([TRACES, METRICS, LOGS]))
def test_any_json_is_parsed_or_refused(document, signal):
    try:
        message = protocol.parse(signal, json.dumps(document).encode(), Encoding.JSON)
    except InvalidBodyError:
        return
    assert isinstance(message, signal.request)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_an_empty_body_is_an_empty_request(encoding):
    assert protocol.parse(TRACES, b"", encoding) == TRACES.request()


def test_a_full_success_says_nothing_and_a_partial_one_counts_its_reasons():
    assert protocol.response(TRACES, {}, Encoding.PROTOBUF) == b""
    assert protocol.response(TRACES, {}, Encoding.JSON) == b"{}"
    answer = json.loads(protocol.response(METRICS, {"late": 2, "early": 1}, Encoding.JSON))
    assert answer == {
        "partialSuccess": {"rejectedDataPoints": "3", "errorMessage": "rejected data points: 1 early, 2 late"}
    }
