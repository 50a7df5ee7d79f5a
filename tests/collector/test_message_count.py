"""How many messages a body holds is bounded before memory is taken for them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector import LOGS, METRICS, TRACES, CollectorSettings
from collector.errors import BodyTooLargeError
from collector.framing import varint
from collector.message_count import messages_at_most
from collector.protocol import Encoding
from tests.collector.bodies import gauge_request, trace_request

ROOT = Path(__file__).parents[2]
PROTOBUF, JSON = Encoding.PROTOBUF, Encoding.JSON


def nested(*numbers: int, body: bytes) -> bytes:
    for number in reversed(numbers):
        body = varint(number << 3 | 2) + varint(len(body)) + body
    return body


# 1,000 empty messages at every depth at which OTLP repeats them.
DENSE = {
    "resource": (TRACES, b"\x0a\x00" * 1000),
    "padded tag": (TRACES, b"\x8a\x80\x00\x00" * 1000),
    "padded length": (TRACES, b"\x0a\x80\x80\x00" * 1000),
    "scope": (TRACES, nested(1, body=b"\x12\x00" * 1000)),
    "span": (TRACES, nested(1, 2, body=b"\x12\x00" * 1000)),
    "attribute": (TRACES, nested(1, 2, 2, body=b"\x4a\x00" * 1000)),
    "event": (TRACES, nested(1, 2, 2, body=b"\x5a\x00" * 1000)),
    "array": (TRACES, nested(1, 1, 1, 2, 5, body=b"\x0a\x00" * 1000)),
    "log": (LOGS, nested(1, 2, body=b"\x12\x00" * 1000)),
    "point": (METRICS, nested(1, 2, 2, 5, body=b"\x0a\x00" * 1000)),
}


@pytest.mark.parametrize("where", DENSE)
def test_a_body_of_more_messages_than_the_limit_is_refused_wherever_they_are(where):
    signal, body = DENSE[where]
    assert signal.request.FromString(body).ByteSize() >= 2000, "the parser takes it"
    assert messages_at_most(signal, body, PROTOBUF, 1010) >= 1000
    with pytest.raises(BodyTooLargeError, match="at most 999 messages"):
        messages_at_most(signal, body, PROTOBUF, 999)


@pytest.mark.parametrize(
    "one", ["{}", '{"a":1}', "[]", '{"name":"a,b","spans":[{},{}]}'], ids=["empty", "member", "array", "nested"]
)
def test_the_same_in_json(one):
    body = f'{{"resourceSpans":[{",".join([one] * 1000)}]}}'.encode()
    with pytest.raises(BodyTooLargeError, match="at most 999 messages"):
        messages_at_most(TRACES, body, JSON, 999)


@given(spans=st.integers(0, 5), attributes=st.integers(0, 5), depth=st.integers(0, 20), text=st.text(max_size=50))
def test_counted_one_by_one_it_is_the_number_that_the_parser_makes(spans, attributes, depth, text):
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    for _ in range(spans):
        span = scope_spans.spans.add(name=text, trace_id=text.encode()[:16])
        for _ in range(attributes):
            value = span.attributes.add(key=text).value
            for _ in range(depth):
                value = value.array_value.values.add()
            value.string_value = text
    expected = 2 + spans * (1 + attributes * (2 + 2 * depth))
    body = request.SerializeToString()
    assert messages_at_most(TRACES, body, PROTOBUF, expected) >= expected
    with pytest.raises(BodyTooLargeError):
        messages_at_most(TRACES, body, PROTOBUF, expected - 1)


def test_bytes_that_only_look_like_messages_are_not_counted():
    request, points = trace_request(1), gauge_request()
    text = ('"{[,' * 1000) + "".join(map(chr, range(2, 128, 8))) * 1000
    request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="k").value.string_value = text
    body = request.SerializeToString()
    assert messages_at_most(TRACES, body, PROTOBUF, 10) <= 10
    assert messages_at_most(TRACES, MessageToJson(request).encode(), JSON, 30) <= 30
    assert messages_at_most(METRICS, points.SerializeToString(), PROTOBUF, 1000) >= 7


@given(body=st.binary(max_size=200))
def test_garbage_is_counted_without_an_exception(body):
    assert messages_at_most(TRACES, body, PROTOBUF, 1000) <= 200
    try:
        messages_at_most(TRACES, body, PROTOBUF, 3)
    except BodyTooLargeError:
        assert len(body) >= 8


def test_messages_deeper_than_the_parser_goes_are_not_followed():
    deep = b""
    for _ in range(5000):
        deep = nested(5, 1, body=deep)
    body = nested(1, 1, 1, 2, body=deep)
    assert messages_at_most(TRACES, body, PROTOBUF, 200) <= 110


MEASURED = """
import resource, sys
from pathlib import Path
from collector import TRACES, CollectorSettings, Ingest
from collector.errors import BodyTooLargeError
from collector.protocol import Encoding
from datetime import UTC, datetime

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

ingest = Ingest(None, CollectorSettings(), lambda: datetime.now(UTC), Path(sys.argv[1]))
before = peak_mib()
for encoding in Encoding:
    try:
        ingest.receive(TRACES, Path(sys.argv[2], encoding.name).read_bytes(), encoding, "gzip")
    except BodyTooLargeError as error:
        print(error)
print(peak_mib() - before)
"""


def test_a_few_kilobytes_that_unpack_to_millions_of_messages_take_no_memory(tmp_path):
    (tmp_path / "PROTOBUF").write_bytes(gzip.compress(b"\x0a\x00" * (1 << 21)))
    (tmp_path / "JSON").write_bytes(gzip.compress(json.dumps({"resourceSpans": [{}] * (1 << 20)}).encode()))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "j", tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *refusals, grown_mib = done.stdout.splitlines()
    assert len(refusals) == 2
    assert float(grown_mib) < 40, "parsed they take 290 MiB and more"


def test_settings_under_which_a_body_would_never_fit_are_refused():
    with pytest.raises(ValueError, match="expected journal_bytes_max of at least decompressed_bytes_max"):
        CollectorSettings(journal_bytes_max=1 << 20)
    with pytest.raises(ValueError, match="expected parsing_bytes_max of at least"):
        CollectorSettings(parsing_bytes_max=1 << 20)
    with pytest.raises(ValueError, match="expected parsing_bytes_max of at least"):
        CollectorSettings(messages_max=10_000_000)
