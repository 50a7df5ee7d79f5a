"""Bodies on their way in: one budget for all of them, an end to waiting, and browsers."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import grpc
import httpx2
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from pydantic import ValidationError

from collector import CollectorSettings, http_app
from collector.admission import Admission, ReadingBudget, ReadingFullError
from tests.collector.bodies import sent_ids, span_ids, trace_request
from tests.collector.serving import serve

KIB = 1024
PROTOBUF = {"content-type": "application/x-protobuf"}
HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n"
ORIGIN = "https://app.example.com"


def upload(serving, announced, sent):
    """A connection on which so much of a body has been sent."""
    connection = socket.create_connection(("127.0.0.1", serving.http_port), timeout=30)
    connection.sendall(HEAD % announced + bytes(sent))
    return connection


def post(serving, spans=1, headers=PROTOBUF):
    return httpx2.post(serving.http + "/v1/traces", content=trace_request(spans).SerializeToString(), headers=headers)


def wait_until(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def small():
    return CollectorSettings(
        body_bytes_max=256 * KIB, reading_bytes_max=256 * KIB, grpc_message_bytes_max=128 * KIB, body_timeout_s=1
    )


def test_what_slow_uploads_hold_is_bounded_and_others_are_asked_to_try_again(ingest, small):
    patient = small.model_copy(update={"body_timeout_s": 30})
    admission = Admission.of(patient)
    with serve(ingest, patient, admission) as serving:
        uploads = [upload(serving, 250 * KIB, 60 * KIB) for _ in range(4)]
        wait_until(lambda: admission.reading.used_bytes == 240 * KIB)
        answer = post(serving, 500)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert serving.count("pennytrace_refused_bodies_total", reason="reading_full") == 1
        for each in uploads:
            each.close()
        wait_until(lambda: admission.reading.used_bytes == 0)
        assert post(serving, 500).status_code == 200
        assert admission.reading.used_bytes == 0


def test_an_announced_length_holds_nothing_before_it_comes(ingest, small):
    patient = small.model_copy(update={"body_timeout_s": 30})
    with serve(ingest, patient) as serving:
        uploads = [upload(serving, 250 * KIB, 1) for _ in range(20)]
        assert post(serving, 100).status_code == 200
        for each in uploads:
            each.close()


def test_a_body_that_stops_coming_is_answered_with_try_again_and_cut_off(ingest, small):
    with serve(ingest, small) as serving, upload(serving, 100, 50) as connection:
        began = time.monotonic()
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert time.monotonic() - began < 8
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert serving.count("pennytrace_refused_bodies_total", reason="slow_body") == 1


def test_a_slow_line_that_keeps_sending_is_given_time(ingest, small, store):
    request = trace_request(2500)
    raw = request.SerializeToString()
    assert 100 * KIB < len(raw) < 256 * KIB
    parts = [raw[at : at + 32 * KIB] for at in range(0, len(raw), 32 * KIB)]
    with serve(ingest, small) as serving, upload(serving, len(raw), 0) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.3)  # over a second in all
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert span_ids(store) == sent_ids(request)


def stream(channel):
    return channel.stream_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")


def test_a_grpc_message_that_never_comes_is_unavailable_and_says_when_to_try_again(ingest, small):
    quick = small.model_copy(update={"grpc_message_bytes_max": KIB})
    never = threading.Event()

    def nothing():
        never.wait(30)
        yield b""

    with serve(ingest, quick) as serving, grpc.insecure_channel(serving.grpc) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            stream(channel)(nothing(), timeout=20)
        never.set()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        retry = RetryInfo.FromString(dict(refused.value.trailing_metadata())["google.rpc.retryinfo-bin"])
        assert retry.retry_delay.seconds == 1


@contextmanager
def silent_streams(serving, connections, each):
    end = threading.Event()

    def nothing():
        end.wait(30)
        yield from ()

    with ExitStack() as stack:
        calls = []  # a call that nobody knows is cancelled
        for number in range(connections):
            options = [("grpc.use_local_subchannel_pool", 1), ("silent", number)]
            channel = stack.enter_context(grpc.insecure_channel(serving.grpc, options=options))
            calls += [stream(channel).future(nothing()) for _ in range(each)]
        try:
            yield
        finally:
            end.set()


def test_silent_grpc_streams_hold_up_nobody(ingest, small, store):
    patient = small.model_copy(update={"body_timeout_s": 60, "reading_bytes_max": 1024 * KIB})  # eight turns
    admission = Admission.of(patient)
    request = trace_request(3)
    with serve(ingest, patient, admission) as serving, silent_streams(serving, 3, 20):
        wait_until(lambda: admission.grpc_reading.used_bytes == 3 * 2 * 128 * KIB)  # a quarter each
        assert post(serving, 300).status_code == 200
        with grpc.insecure_channel(serving.grpc, options=[("other", 1)]) as channel:
            TraceServiceStub(channel).Export(request, timeout=1)
    assert sent_ids(request) <= span_ids(store)


def test_grpc_streams_that_bring_nothing_make_room_for_those_that_wait(ingest, small, store):
    patient = small.model_copy(update={"body_timeout_s": 60})  # two turns
    admission = Admission.of(patient)
    request = trace_request(3)
    with serve(ingest, patient, admission) as serving, silent_streams(serving, 2, 1):
        wait_until(lambda: admission.grpc_reading.used_bytes == patient.reading_bytes_max)
        with grpc.insecure_channel(serving.grpc, options=[("other", 1)]) as channel:
            TraceServiceStub(channel).Export(request, timeout=10)
        assert serving.count("pennytrace_refused_bodies_total", reason="slow_body") >= 1
    assert span_ids(store) == sent_ids(request)


def test_a_fast_beginning_earns_no_time_to_pause(ingest, small, monkeypatch):
    monkeypatch.setattr(http_app, "PAUSE_S_MAX", 0.5)
    patient = small.model_copy(update={"body_timeout_s": 60})
    with serve(ingest, patient) as serving, upload(serving, 250 * KIB, 249 * KIB) as connection:
        began = time.monotonic()
        assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")
        assert time.monotonic() - began < 5


def test_many_grpc_senders_at_once_wait_for_their_turn(ingest, small, store):
    requests = [trace_request(300) for _ in range(24)]
    with serve(ingest, small) as serving, grpc.insecure_channel(serving.grpc) as channel:
        pending = [TraceServiceStub(channel).Export.future(request, timeout=60) for request in requests]
        assert not any(each.result().HasField("partial_success") for each in pending)
    assert span_ids(store) == set().union(*(sent_ids(request) for request in requests))


def test_a_budget_that_no_body_fits_into_is_refused():
    with pytest.raises(ValidationError, match="reading_bytes_max of at least"):
        CollectorSettings(reading_bytes_max=KIB)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40))))
def test_a_budget_never_gives_out_more_than_it_has_and_gets_all_back(sizes):
    budget = ReadingBudget(100)
    for first, second in sizes:
        with budget.lease() as one, budget.lease() as other:
            one.take(first)
            other.take(second)
            other.shrink(second // 2)
            assert budget.used_bytes == first + second // 2
            with pytest.raises(ReadingFullError):
                other.take(101 - budget.used_bytes)
            assert budget.used_bytes == first + second // 2
    assert budget.used_bytes == 0


def preflight(serving):
    asks = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,authorization,content-encoding",
    }
    return httpx2.options(serving.http + "/v1/traces", headers=asks)


def test_browsers_may_not_send_unless_their_origin_is_allowed(serving):
    answer = preflight(serving)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    sent = post(serving, headers={**PROTOBUF, "origin": ORIGIN})
    assert "access-control-allow-origin" not in sent.headers
    # Not even with a name of their own for this machine, for which the browser asks nobody's permission.
    assert (sent.status_code, sent.headers["content-type"]) == (403, PROTOBUF["content-type"])
    assert serving.count("pennytrace_refused_bodies_total", reason="foreign_origin") == 1


def test_an_allowed_origin_may_send_with_the_headers_that_exporters_use(ingest, settings):
    with serve(ingest, settings, cors_origins=[ORIGIN]) as serving:
        answer = preflight(serving)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert "POST" in answer.headers["access-control-allow-methods"]
        sent = post(serving, headers={**PROTOBUF, "origin": ORIGIN})
        assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (200, ORIGIN)
        other = post(serving, headers={**PROTOBUF, "origin": "https://evil.example"})
        assert (other.status_code, "access-control-allow-origin" in other.headers) == (403, False)
    with serve(ingest, settings, cors_origins=["*"]) as serving:
        assert post(serving, headers={**PROTOBUF, "origin": "null"}).status_code == 200
