from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import socket
import time

import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector import CollectorSettings, Ingest, create_http_app
from tests.collector.bodies import NOW, gauge_request, only_span, sent_ids, span_ids, trace_request
from tests.collector.serving import Serving, serve

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json; charset=utf-8"}


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.content = answer.status, answer.headers, answer.read()

    @property
    def refusal(self) -> Status:
        return Status.FromString(self.content)


def send(
    serving: Serving, body: object, headers: dict[str, str], path: str = "/v1/traces", method: str = "POST"
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", serving.http_port, timeout=30)
    try:
        connection.request(method, path, body, headers, encode_chunked=not isinstance(body, bytes))
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/v1/traces", "/api/public/otel/v1/traces"])
def test_spans_are_acknowledged_in_the_senders_format(serving, store, path):
    request = trace_request(3)
    answer = send(serving, request.SerializeToString(), PROTOBUF, path)
    assert (answer.status, answer.headers["content-type"], answer.content) == (200, PROTOBUF["content-type"], b"")
    assert span_ids(store) == sent_ids(request)


def test_a_large_compressed_body_goes_through(serving, store):
    request = trace_request(5000)
    body = gzip.compress(request.SerializeToString(), 1)
    assert send(serving, body, {**PROTOBUF, "content-encoding": "gzip"}).status == 200
    assert span_ids(store) == sent_ids(request)


def test_a_chunked_body_without_a_length_goes_through(serving, store):
    request = trace_request(50)
    raw = request.SerializeToString()
    parts = (raw[at : at + 700] for at in range(0, len(raw), 700))
    assert send(serving, parts, {**PROTOBUF, "transfer-encoding": "chunked"}).status == 200
    assert span_ids(store) == sent_ids(request)


def test_json_is_answered_with_json_and_rejected_spans_are_counted(serving, store):
    spans = [
        {
            "traceId": "0" * 31 + "1",
            "spanId": "0" * 15 + str(i + 1),
            "startTimeUnixNano": str(int(NOW.timestamp()) * 10**9),
        }
        for i in range(3)
    ]
    spans[1]["spanId"] = "ab"
    # A line feed is also how a protobuf request begins.
    body = (
        b"\n" + json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans[:1]}, {"spans": spans[1:]}]}]}).encode()
    )
    answer = send(serving, body, JSON)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.content)["partialSuccess"] == {
        "rejectedSpans": "1",
        "errorMessage": "rejected spans: 1 bad_span_id",
    }
    assert span_ids(store, service="") == {"0" * 15 + "1", "0" * 15 + "3"}


def test_a_partial_success_in_protobuf_counts_the_rejected_spans(serving, store):
    request = trace_request(2)
    only_span(request).start_time_unix_nano = 5
    answer = send(serving, request.SerializeToString(), PROTOBUF)
    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1
    assert len(span_ids(store)) == 1


@pytest.mark.parametrize(("headers", "success"), [(PROTOBUF, b""), (JSON, b"{}")])
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
def test_an_empty_body_is_a_success(serving, headers, success, path):
    answer = send(serving, b"", headers, path)
    assert (answer.status, answer.content) == (200, success)


def test_metrics_are_stored_and_logs_are_accepted(serving, store):
    assert send(serving, gauge_request().SerializeToString(), PROTOBUF, "/v1/metrics").status == 200
    assert store.frame_of("SELECT value FROM metric_points")["value"].to_list() == [0.5]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "hello"}}]}]}]}
    assert send(serving, json.dumps(logs).encode(), JSON, "/v1/logs").status == 200
    assert serving.count("pennytrace_discarded_items_total", signal="logs") == 1


def test_a_bad_body_is_a_400_with_a_status_in_the_senders_format(serving):
    answer = send(serving, b"garbage", PROTOBUF)
    assert (answer.status, answer.headers["content-type"], answer.refusal.code) == (400, PROTOBUF["content-type"], 3)
    answer = send(serving, b"garbage", JSON)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert "OTLP JSON" in json.loads(answer.content)["message"]
    assert serving.count("pennytrace_refused_bodies_total", reason="invalid_body") == 2


def test_other_methods_paths_and_content_types_are_refused(serving):
    assert send(serving, b"", {}, method="GET").status == 405
    assert send(serving, b"", PROTOBUF, method="PUT").refusal.code == 12
    assert send(serving, b"", PROTOBUF, path="/v1/profiles").status == 404
    assert send(serving, b"", {"content-type": "text/plain"}).status == 415
    assert send(serving, b"x", {}).status == 415
    assert send(serving, b"x", {**PROTOBUF, "content-encoding": "br"}).status == 415


def test_a_body_over_the_limit_is_a_413_before_and_after_unpacking(serving, settings):
    for size in (settings.body_bytes_max + 1, 2 * settings.body_bytes_max):
        answer = send(serving, bytes(size), PROTOBUF)
        assert (answer.status, answer.refusal.code) == (413, 8)
    bomb = gzip.compress(bytes(settings.decompressed_bytes_max + 1))
    assert len(bomb) < 4096
    assert send(serving, bomb, {**PROTOBUF, "content-encoding": "gzip"}).status == 413
    assert serving.count("pennytrace_refused_bodies_total", reason="too_large") == 3


def test_a_body_without_end_is_cut_off_at_the_limit(serving):
    def endless():
        while True:
            yield bytes(64 * 1024)

    with pytest.raises(OSError):  # noqa: PT011 (reset or broken pipe, as the kernel likes)
        send(serving, endless(), {**PROTOBUF, "transfer-encoding": "chunked"})
    assert serving.count("pennytrace_refused_bodies_total", reason="too_large") == 1


def test_a_full_journal_is_a_503_that_says_when_to_try_again(store, settings, journal):
    full = settings.model_copy(update={"journal_free_bytes_min": 1 << 50})
    ingest = Ingest(store, full, lambda: NOW, journal)
    with serve(ingest, full) as serving:
        answer = send(serving, trace_request(1).SerializeToString(), PROTOBUF)
    ingest.close()
    assert (answer.status, answer.headers["retry-after"], answer.refusal.code) == (503, "1", 14)
    detail = RetryInfo()
    assert answer.refusal.details[0].Unpack(detail)
    assert detail.retry_delay.seconds == 1


def test_a_full_queue_is_a_503_and_other_senders_are_still_answered_at_once(store, journal):
    small = CollectorSettings(
        body_bytes_max=4096, decompressed_bytes_max=4096, queue_bytes_max=4096, commit_delay_ms=3000
    )
    ingest = Ingest(store, small, lambda: NOW, journal)
    with serve(ingest, small) as serving:
        waiting = [http.client.HTTPConnection("127.0.0.1", serving.http_port, timeout=30) for _ in range(2)]
        for connection in waiting:
            connection.request("POST", "/v1/traces", trace_request(5).SerializeToString(), PROTOBUF)
        while serving.count("pennytrace_received_bodies_total") < 2:
            time.sleep(0.01)
        asked = time.monotonic()
        answer = send(serving, trace_request(9).SerializeToString(), PROTOBUF)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert time.monotonic() - asked < 2
        assert [connection.getresponse().status for connection in waiting] == [200, 200]
        for connection in waiting:
            connection.close()
    ingest.close()
    assert len(span_ids(store)) == 10


def test_a_sender_that_goes_away_half_way_leaves_the_server_working(serving, store):
    with socket.create_connection(("127.0.0.1", serving.http_port)) as gone:
        gone.sendall(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n"
            b"content-type: application/x-protobuf\r\ncontent-length: 999\r\n\r\nabc"
        )
    request = trace_request(1)
    assert send(serving, request.SerializeToString(), PROTOBUF).status == 200
    assert span_ids(store) == sent_ids(request)


def test_a_body_that_is_shorter_than_announced_is_refused(ingest, settings):
    """Servers see to this; one that lost a body without noticing would have it acknowledged as an empty request."""
    body = trace_request(3).SerializeToString()
    app = create_http_app(ingest, settings)
    for sent in (b"", body[: len(body) // 2]):
        headers = [(b"content-type", b"application/x-protobuf"), (b"content-length", str(len(body)).encode())]
        assert asyncio.run(answer_of(app, headers, sent)) == 400
    assert asyncio.run(answer_of(app, headers, body)) == 200


async def answer_of(app, headers, body):
    scope = {"type": "http", "method": "POST", "path": "/v1/traces", "headers": headers, "query_string": b""}
    said = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        said.append(message)

    await app(scope, receive, send)
    return said[0]["status"]
