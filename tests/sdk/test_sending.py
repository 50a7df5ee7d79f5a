"""What becomes of spans when the backend is away, slow, or says no; over real sockets."""

import logging
import socket
import threading
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

import pennytrace
from pennytrace import _delivery, observe
from pennytrace._http import HttpSender, retry_after_s
from pennytrace._sending import Outcome, Target, Verdict, rejected_spans


@observe(endpoint="/chat")
def chat(tokens=1):
    pennytrace.record_usage(input_tokens=tokens, output_tokens=1)


@pytest.fixture
def handle(sink, provider):
    with pennytrace.configure(
        tracer_provider=provider, endpoint_url=sink.url, gpu=False, export_interval_s=0.02, exit_timeout_s=0.5
    ) as made:
        yield made
        sink.status, sink.retry_after_s = 200, None
        sink.hold.set()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_the_backend_turns_away_for_now_is_sent_again_until_it_takes_it(sink, handle, monkeypatch, status):
    monkeypatch.setattr(_delivery, "RETRY_FIRST_S", 0.01)
    sink.status = status
    chat()
    assert not handle.flush(timeout_s=0.3)
    assert handle.counts().queued == 1
    assert sink.refused > 1
    sink.status = 200
    assert handle.flush()
    assert (handle.counts().delivered, len(sink.spans())) == (1, 1)


def test_retry_after_is_waited_for(sink, handle):
    sink.status, sink.retry_after_s = 503, 1
    chat()
    started = time.monotonic()
    while not sink.refused:
        time.sleep(0.005)
    sink.status = 200
    assert handle.flush()
    assert time.monotonic() - started > 0.9
    assert sink.refused == 1


def test_a_dead_port_costs_the_caller_nothing_and_is_retried_until_something_listens(provider, caplog):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with pennytrace.configure(tracer_provider=provider, endpoint_url=url, gpu=False, exit_timeout_s=0.3) as handle:
        for _ in range(50):
            chat()
        assert not handle.flush(timeout_s=0.3)
        assert handle.counts().queued == 50
    counts = handle.counts()
    assert (counts.spans, counts.dropped, counts.queued) == (50, 50, 0)
    away = [record for record in caplog.records if "does not take spans now" in record.message]
    assert [record.levelno for record in away] == [logging.WARNING]
    assert "Refused" in away[0].reason


def test_a_batch_that_is_refused_for_good_is_not_sent_twice(sink, handle):
    sink.status = 400
    chat()
    handle.flush()
    assert (handle.counts().failed, sink.refused) == (1, 1)


def test_spans_that_a_backend_rejects_of_a_batch_it_takes_are_counted_as_failed(sink, handle):
    sink.rejects = 2
    for _ in range(5):
        chat()
    assert handle.flush()
    counts = handle.counts()
    assert (counts.delivered, counts.failed) == (3, 2)


@pytest.mark.parametrize("rejected", [0, 1, 127, 128, 300, 2**40])
def test_a_partial_success_is_read_as_the_official_protobuf_writes_it(rejected):
    answer = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=rejected, error_message="no")
    )
    assert rejected_spans(answer.SerializeToString()) == rejected
    assert rejected_spans(ExportTraceServiceResponse().SerializeToString()) == 0
    assert rejected_spans(b"{}") == rejected_spans(b"\x0a") == rejected_spans(b"not protobuf at all") == 0


def test_retry_after_is_seconds_or_a_date():
    assert retry_after_s("3", 0) == 3
    assert retry_after_s("Thu, 01 Jan 1970 00:01:40 GMT", 40) == 60
    assert retry_after_s("soon", 0) is None
    assert retry_after_s(None, 0) is None


def test_a_large_batch_is_sent_in_halves(sink, handle, monkeypatch):
    monkeypatch.setattr(_delivery, "REQUEST_BYTES_MAX", 1_000)
    for tokens in range(20):
        chat(tokens)
    assert handle.flush()
    assert len(sink.spans()) == handle.counts().delivered == 20
    assert len(sink.requests) >= 6


def test_bodies_are_gzipped_where_asked(sink, monkeypatch, provider):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with pennytrace.configure(tracer_provider=provider, endpoint_url=sink.url, gpu=False):
        chat()
    assert sink.headers[0]["content-encoding"] == "gzip"
    assert [span.name for span in sink.spans()] == ["/chat"]


@pytest.mark.parametrize(
    ("url", "compresses"),
    [("http://127.0.0.1:1", False), ("http://localhost:1", False), ("https://collector.example", True)],
)
def test_bodies_are_gzipped_by_default_only_where_they_leave_the_machine(url, compresses):
    assert HttpSender(Target(url))._compress is compresses  # noqa: SLF001


def test_a_connection_that_the_server_closed_in_between_is_opened_again():
    """The server here closes after each answer without saying so, as idle time-outs do."""
    listener = socket.create_server(("127.0.0.1", 0))
    bodies = []

    def serve():
        for _ in range(3):
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                length = 0
                while (line := stream.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length"):
                        length = int(line.split(b":")[1])
                bodies.append(stream.read(length))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = threading.Thread(target=serve)
    server.start()
    sender = HttpSender(Target(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"))
    for number in range(3):
        assert sender.send(b"%d" % number, 5) == Outcome(Verdict.DELIVERED)
        time.sleep(0.02)
    sender.close()
    server.join()
    listener.close()
    assert bodies == [b"0", b"1", b"2"]


def test_a_users_name_in_the_url_is_basic_authentication():
    sender = HttpSender(Target("http://me:pa%20ss@127.0.0.1:1/v1/traces"))
    assert sender._headers["authorization"] == "Basic bWU6cGEgc3M="  # noqa: SLF001


def test_a_slow_exporter_never_blocks_the_caller_and_every_span_is_accounted_for(sink, provider):
    with pennytrace.configure(
        tracer_provider=provider, endpoint_url=sink.url, gpu=False, queue_spans_max=500, exit_timeout_s=5
    ) as handle:
        threads = [threading.Thread(target=lambda: [chat() for _ in range(2_000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert handle.flush()
        counts = handle.counts()
    assert counts.spans == 8_000 == counts.delivered + counts.dropped
    assert counts.delivered == len({span.span_id for span in sink.spans()})
