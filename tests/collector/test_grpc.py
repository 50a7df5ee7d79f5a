from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from collector import Ingest, serve_grpc
from tests.collector.bodies import NOW, gauge_request, only_span, sent_ids, span_ids, trace_request

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture
def channel(serving):
    with grpc.insecure_channel(serving.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
@pytest.mark.parametrize("spans", [2, 2000])
def test_spans_sent_over_grpc_are_stored(channel, store, compression, spans):
    request = trace_request(spans)
    answer = TraceServiceStub(channel).Export(request, timeout=30, compression=compression)
    assert not answer.HasField("partial_success")
    assert span_ids(store) == sent_ids(request)


def test_rejected_spans_are_counted_in_the_answer(channel, store):
    request = trace_request(3)
    only_span(request).trace_id = b"short"
    answer = TraceServiceStub(channel).Export(request, timeout=30)
    assert answer.partial_success.rejected_spans == 1
    assert "bad_trace_id" in answer.partial_success.error_message
    assert len(span_ids(store)) == 2


def test_metrics_are_stored_and_logs_are_accepted(channel, serving, store):
    MetricsServiceStub(channel).Export(gauge_request(), timeout=30)
    assert store.frame_of("SELECT value FROM metric_points")["value"].to_list() == [0.5]
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add()
    LogsServiceStub(channel).Export(request, timeout=30)
    assert serving.count("pennytrace_discarded_items_total", signal="logs") == 1


def test_a_bad_body_is_an_invalid_argument_with_its_status(channel):
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(EXPORT)(b"garbage", timeout=30)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = Status.FromString(dict(refused.value.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (3, refused.value.details())


def test_a_bomb_is_exhausted_before_it_is_unpacked_and_tells_clients_to_give_up(channel):
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(EXPORT)(bytes(50 << 20), timeout=30, compression=grpc.Compression.Gzip)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "google.rpc.retryinfo-bin" not in dict(refused.value.trailing_metadata())


def test_a_full_journal_is_unavailable_and_says_when_to_try_again_in_both_trailers(store, settings, journal):
    full = settings.model_copy(update={"journal_free_bytes_min": 1 << 50})
    ingest = Ingest(store, full, lambda: NOW, journal)
    server = serve_grpc(ingest, "127.0.0.1:0", full)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        TraceServiceStub(channel).Export(trace_request(1), timeout=30)
    server.stop(grace_s=1)
    ingest.close()
    trailers = dict(refused.value.trailing_metadata())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]).retry_delay.seconds == 1
    detail = RetryInfo()
    assert Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(detail)
    assert detail.retry_delay.seconds == 1


def test_stopping_answers_what_is_in_flight(store, settings, journal):
    slow = settings.model_copy(update={"commit_delay_ms": 1000})
    ingest = Ingest(store, slow, lambda: NOW, journal)
    server = serve_grpc(ingest, "127.0.0.1:0", slow)
    request = trace_request(2)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        pending = TraceServiceStub(channel).Export.future(request, timeout=30)
        while not any(count.name == "pennytrace_received_bodies_total" for count in ingest.counts()):
            pass
        server.stop(grace_s=10)
        assert not pending.result().HasField("partial_success")
    ingest.close()
    assert span_ids(store) == sent_ids(request)


def test_a_port_in_use_is_said_at_the_start(serving, ingest, settings):
    with pytest.raises(RuntimeError, match=str(serving.grpc_port)):
        serve_grpc(ingest, serving.grpc, settings)


def test_connections_past_the_largest_number_are_closed(ingest, settings):
    server = serve_grpc(ingest, "127.0.0.1:0", settings, connections_max=3)
    with ExitStack() as held:
        held.callback(server.stop, 0)
        connections = [held.enter_context(connect(server.port)) for _ in range(8)]
        greeted = [connection for connection in connections if connection.recv(1)]
        assert len(greeted) == 3
        greeted[0].close()
        deadline = time.monotonic() + 10
        while not greeted_anew(server.port):
            assert time.monotonic() < deadline


def greeted_anew(port):
    with connect(port) as connection:
        return bool(connection.recv(1))


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
    return connection
