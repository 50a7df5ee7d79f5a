import logging
import os
import threading
import time
from concurrent import futures

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

import pennytrace
from pennytrace import ConfigurationError, configure, observe


@observe(endpoint="/chat", model="gpt-4o", provider="openai")
def chat(tokens=5):
    pennytrace.record_usage(input_tokens=tokens, output_tokens=1)


@pytest.fixture
def to_sink(sink, provider):
    """`configure` towards the sink over a provider of the test's own."""

    def start(**settings):
        return configure(tracer_provider=provider, endpoint_url=sink.url, gpu=False, **settings)

    yield start
    sink.hold.set()


def test_spans_reach_an_otlp_http_server_that_decodes_them(sink, to_sink):
    with to_sink(headers={"Authorization": "Bearer k"}) as handle:
        chat(41)
        assert handle.flush()
        assert handle.counts().delivered == 1
    (span,) = sink.spans()
    values = {a.key: a.value.int_value or a.value.string_value for a in span.attributes}
    assert (values["gen_ai.usage.input_tokens"], values["pennytrace.endpoint"]) == (41, "/chat")
    assert {k.lower(): v for k, v in sink.headers[0].items()}["authorization"] == "Bearer k"


def test_spans_are_exported_on_their_own_within_the_interval(sink, to_sink):
    with to_sink(export_interval_s=0.05):
        for _ in range(2):
            chat()
            deadline = time.monotonic() + 5
            while not sink.spans() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(sink.spans()) == 1
            sink.requests.clear()


def test_spans_reach_an_otlp_grpc_server(provider):
    received = []

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request, _context):  # noqa: N802 # gRPC's name
            received.extend(s for rs in request.resource_spans for ss in rs.scope_spans for s in ss.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with configure(
        tracer_provider=provider,
        protocol="grpc",
        endpoint_url=f"http://127.0.0.1:{port}",
        headers={"X-Key": "k"},
        gpu=False,
    ):
        chat()
    server.stop(0).wait()
    assert [span.name for span in received] == ["/chat"]


def test_a_burst_larger_than_a_batch_arrives_whole(sink, to_sink):
    with to_sink() as handle:
        threads = [threading.Thread(target=lambda: [chat() for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert handle.flush()
    assert len({span.span_id for span in sink.spans()}) == 2000
    assert handle.counts() == pennytrace.Counts(2000, 2000, 0, 0, 0, handle.counts().errors)


def test_a_full_queue_drops_the_newest_and_counts_every_one(sink, to_sink, caplog):
    sink.hold.clear()
    with to_sink(queue_spans_max=10, batch_spans_max=5) as handle:
        for _ in range(100):
            chat()
        counts = handle.counts()
        assert counts.spans == 100
        assert counts.dropped >= 85
        sink.hold.set()
        assert handle.flush()
        counts = handle.counts()
        assert counts.delivered == len(sink.spans()) == 100 - counts.dropped
    assert [r.levelno for r in caplog.records if "being dropped" in r.message] == [logging.ERROR]


def test_a_refused_batch_is_counted_as_failed(sink, to_sink):
    sink.status = 500
    with to_sink() as handle:
        chat()
        handle.flush()
        counts = handle.counts()
    assert (counts.delivered, counts.failed, counts.queued) == (0, 1, 0)


def test_a_hanging_backend_costs_the_caller_nothing_and_holds_the_exit_for_the_timeout_only(sink, to_sink):
    sink.hold.clear()
    handle = to_sink(exit_timeout_s=0.3)
    started = time.monotonic()
    for _ in range(50):
        chat()
    assert time.monotonic() - started < 1
    assert handle.flush(timeout_s=0.1) is False
    started = time.monotonic()
    handle.shutdown()
    assert time.monotonic() - started < 1.5
    counts = handle.counts()
    assert counts.spans == 50 == counts.delivered + counts.dropped + counts.failed + counts.queued
    sink.hold.set()
    deadline = time.monotonic() + 5
    while handle.counts().queued and time.monotonic() < deadline:
        time.sleep(0.01)
    assert handle.counts().queued == 0


def test_spans_after_shutdown_are_counted_as_dropped(to_sink):
    handle = to_sink()
    handle.shutdown()
    handle.shutdown()
    chat()
    assert (handle.counts().spans, handle.counts().dropped) == (1, 1)


def test_without_a_provider_of_the_applications_one_is_made_with_the_resource(sink, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=search,service.version=env")
    with configure(
        service="shop", version="1.2", environment="prod", instance="replica-7", endpoint_url=sink.url, gpu=False
    ) as handle:
        assert isinstance(handle.tracer_provider, TracerProvider)
        assert trace.get_tracer_provider() is handle.tracer_provider
        chat()
        with trace.get_tracer("app").start_as_current_span("db"):
            pass
    resource = sink.resources()[0]
    assert {name: resource[name] for name in resource if not name.startswith("telemetry.")} == {
        "service.name": "shop",
        "service.version": "1.2",
        "deployment.environment.name": "prod",
        "service.instance.id": "replica-7",
        "host.name": os.uname().nodename,
        "team": "search",
    }
    assert {span.name for span in sink.spans()} == {"/chat", "db"}


def test_a_second_configure_sends_what_the_first_had_and_takes_over(sink):
    first = configure(service="one", endpoint_url=sink.url, gpu=False, export_interval_s=60)
    chat()
    second = configure(service="two", endpoint_url=sink.url, gpu=False)
    chat()
    second.shutdown()
    assert (first.counts().delivered, second.counts().delivered) == (1, 1)
    assert [r["service.name"] for r in sink.resources()] == ["one", "two"]


def test_the_environment_names_the_server_and_the_service(sink, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=from-env")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-env")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-3")
    with configure(gpu=False):
        chat()
    assert sink.resources()[0]["service.name"] == "from-env"
    assert sink.resources()[0]["service.instance.id"] == "pod-3"
    assert {k.lower(): v for k, v in sink.headers[0].items()}["x-key"] == "from-env"


@pytest.mark.parametrize("variable", [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_opentelemetrys_off_switches_are_honoured(sink, monkeypatch, variable):
    monkeypatch.setenv(*variable)
    own = TracerProvider(shutdown_on_exit=False)
    with configure(tracer_provider=own, endpoint_url=sink.url, gpu=False) as handle:
        chat()
        assert handle.flush()
    assert not sink.requests


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "udp"}, 'expected protocol "http/protobuf" or "grpc", got \'udp\''),
        ({"endpoint_url": "localhost:4318"}, "expected endpoint_url to start with http:// or https://"),
        ({"queue_spans_max": 0}, "expected queue_spans_max from 1 to 1000000, got 0"),
        ({"exit_timeout_s": 90}, "expected exit_timeout_s from 0 to 30, got 90"),
    ],
)
def test_a_wrong_setting_says_what_was_expected_and_what_came(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        configure(gpu=False, **settings)


def test_a_forked_child_sends_its_own_spans_and_the_parent_its_own(sink, to_sink):
    with to_sink(export_interval_s=60) as handle:
        chat(1)
        child = os.fork()
        if child == 0:
            try:
                chat(2)
                os._exit(0 if handle.flush() and handle.counts().delivered == 1 else 3)
            finally:
                os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert handle.flush()
    tokens = [a.value.int_value for s in sink.spans() for a in s.attributes if a.key == "gen_ai.usage.input_tokens"]
    assert sorted(tokens) == [1, 2]


def test_a_forked_worker_belongs_to_the_replica_that_it_was_forked_on(sink):
    with configure(service="s", instance="replica-7", endpoint_url=sink.url, gpu=False) as handle:
        child = os.fork()
        if child == 0:
            try:
                chat()
                os._exit(0 if handle.flush() else 3)
            finally:
                os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [resource["service.instance.id"] for resource in sink.resources()] == ["replica-7"]
