"""Metrics of calls and GPUs, as the official protobuf decodes what OpenTelemetry's own exporter sent."""

import os
import subprocess
import sys
import time
from concurrent import futures

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import pennytrace
from pennytrace import observe
from pennytrace._measures import SERIES_MAX, TOKEN_BOUNDS, Distribution, Measures
from pennytrace._metric_export import _metrics
from pennytrace._metrics import StockRecorder
from pennytrace.testing import capture
from tests.sdk.test_gpu import FakeDriver

WAIT_S = 10


@observe(endpoint="/chat", model="gpt-4o", provider="openai")
def chat(input_tokens=100, cached=None, error=None):
    pennytrace.record_usage(
        input_tokens=input_tokens, output_tokens=7, cache_read_tokens=cached, model="gpt-4o-2024-08-06"
    )
    if error:
        raise error


@observe(endpoint="/search", model="text-embedding-3-small", provider="openai", operation="embeddings")
def embed():
    pennytrace.record_usage(input_tokens=8)


@pytest.fixture
def to_sink(sink, provider):
    """Configure with the sink as backend; metrics go every tenth of a second."""

    def configured(**settings):
        told = {"endpoint_url": sink.url, "tracer_provider": provider, "gpu": False, "metrics_interval_s": 0.1}
        return pennytrace.configure(**{**told, **settings})

    return configured


def wait_until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s"
        time.sleep(0.02)


def settled(sink, handle):
    """Every call was sent as a span, and a later collection of metrics arrived."""
    handle.flush()
    before = len(sink.metric_requests)
    wait_until(lambda: len(sink.metric_requests) > before + 1)
    return sink.metrics()


def by_labels(points):
    """Points by what is in their attributes besides operation and provider, which are always there."""
    usual = {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model"}
    return {tuple(a.value.string_value for a in point.attributes if a.key not in usual): point for point in points}


def test_calls_are_counted_by_the_conventions_names_units_bounds_and_attributes(sink, to_sink):
    with to_sink() as handle:
        chat()
        chat(20_000, cached=19_000)
        with pytest.raises(TimeoutError):
            chat(error=TimeoutError())
        embed()
        found = settled(sink, handle)
    tokens = found["gen_ai.client.token.usage"]
    assert tokens.unit == "{token}"
    of_chat = [p for p in tokens.histogram.data_points if p.attributes[2].value.string_value == "gpt-4o"]
    points = by_labels(of_chat)
    assert set(points) == {("input",), ("output",)}
    assert (points["input",].count, points["input",].sum) == (3, 20_200)
    assert (points["input",].min, points["input",].max) == (100, 20_000)
    assert list(points["input",].explicit_bounds) == [float(4**n) for n in range(14)]
    assert list(points["input",].bucket_counts)[4:9] == [2, 0, 0, 0, 1]
    assert {a.key: a.value.string_value for a in points["input",].attributes} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.token.type": "input",
    }
    seconds = found["gen_ai.client.operation.duration"]
    assert seconds.unit == "s"
    assert sorted(by_labels(seconds.histogram.data_points)) == [(), ("TimeoutError",)]
    assert sum(point.count for point in seconds.histogram.data_points) == 4
    assert list(seconds.histogram.data_points[0].explicit_bounds) == pytest.approx([0.01 * 2**n for n in range(14)])
    assert sum(p.count for p in found["gen_ai.client.inference.duration"].histogram.data_points) == 3
    cached = found["gen_ai.client.inference.usage.cache_read.input_tokens"]
    assert [point.as_int for point in cached.sum.data_points] == [19_000]
    assert cached.sum.is_monotonic
    assert "gen_ai.client.inference.usage.cache_write.input_tokens" not in found


def test_unknown_usage_is_no_point_of_zero(sink, to_sink):
    @observe(endpoint="/silent", model="m", provider="vllm")
    def silent():
        """Say nothing of usage."""

    with to_sink() as handle:
        silent()
        found = settled(sink, handle)
    assert "gen_ai.client.token.usage" not in found
    assert [point.count for point in found["gen_ai.client.operation.duration"].histogram.data_points] == [1]


def test_where_spans_went_is_a_metric_too(sink, to_sink):
    with to_sink() as handle:
        for _ in range(3):
            chat()
        found = settled(sink, handle)
        sink.status = 400
        chat()
        found = settled(sink, handle)
    exported = found["otel.sdk.exporter.span.exported"].sum.data_points
    assert {tuple(a.value.string_value for a in p.attributes): p.as_int for p in exported} == {(): 3, ("rejected",): 1}
    assert [p.as_int for p in found["otel.sdk.processor.span.processed"].sum.data_points] == [4]


def test_what_was_counted_since_the_last_export_goes_at_shutdown(sink, to_sink):
    handle = to_sink(metrics_interval_s=600)
    chat()
    handle.flush()
    wait_until(lambda: handle._queue.metrics._own is not None)  # noqa: SLF001
    chat()
    assert sink.metric_requests == []
    handle.shutdown()
    assert {p.count for p in sink.metrics()["gen_ai.client.token.usage"].histogram.data_points} == {2}


def test_metrics_go_where_spans_go_with_their_headers_and_the_process_in_the_resource(sink, to_sink):
    with to_sink(headers={"Authorization": "Bearer k"}) as handle:
        chat()
        settled(sink, handle)
    assert {k.lower(): v for k, v in sink.metric_headers[0].items()}["authorization"] == "Bearer k"
    resource = sink.metric_requests[0].resource_metrics[0].resource.attributes
    assert {a.key: a.value.int_value for a in resource if a.key == "process.pid"} == {"process.pid": os.getpid()}


@pytest.mark.parametrize(
    ("settings", "environment"), [({"metrics": False}, {}), ({}, {"OTEL_METRICS_EXPORTER": "none"})]
)
def test_metrics_can_be_switched_off(sink, to_sink, monkeypatch, settings, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with to_sink(**settings) as handle:
        chat()
        handle.flush()
        time.sleep(0.5)
    assert sink.metric_requests == []


def test_a_backend_without_metrics_costs_one_line_in_the_log_and_no_span(sink, to_sink, caplog):
    sink.metric_status = 404
    with to_sink() as handle:
        chat()
        handle.flush()
        time.sleep(1.0)
        counts = handle.counts()
    assert counts.delivered == counts.spans == 1
    said = [record for record in caplog.records if "etrics" in record.getMessage()]
    assert [record.name for record in said] == ["pennytrace"]


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_the_environments_temporality_is_obeyed(sink, to_sink, monkeypatch, preference):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    with to_sink() as handle:
        chat()
        settled(sink, handle)
        chat()
        settled(sink, handle)
    data = [
        metric.histogram
        for request in sink.metric_requests
        for metric in request.resource_metrics[0].scope_metrics[-1].metrics
        if metric.name == "gen_ai.client.operation.duration"
    ]
    counts = [histogram.data_points[0].count for histogram in data]
    assert {histogram.aggregation_temporality for histogram in data} == {1 if preference == "delta" else 2}
    assert sum(counts) == 2 if preference == "delta" else counts[-1] == 2


def test_gpus_are_told_as_hardware_metrics_from_the_sampler(sink, to_sink, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = FakeDriver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    with to_sink(gpu=True) as handle:
        chat()
        driver.joules += 50
        time.sleep(1.2)
        found = settled(sink, handle)
    assert (found["hw.gpu.utilization"].unit, found["hw.gpu.memory.usage"].unit, found["hw.energy"].unit) == (
        "1",
        "By",
        "J",
    )
    memory = found["hw.gpu.memory.usage"].sum
    assert {p.attributes[0].value.string_value: p.as_int for p in memory.data_points} == {
        "GPU-0aaa": 2**30,
        "GPU-1aaa": 2**31,
    }
    assert not memory.is_monotonic
    energy = found["hw.energy"].sum
    assert [(p.attributes[0].value.string_value, p.as_double) for p in energy.data_points] == [("GPU-0aaa", 50.0)]
    assert energy.is_monotonic
    shares = [
        point
        for request in sink.metric_requests
        for scope in request.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == "hw.gpu.utilization"
        for point in metric.gauge.data_points
    ]
    assert {point.as_double for point in shares} == {0.5}
    assert {a.key: a.value.string_value for a in shares[0].attributes} == {
        "hw.id": "GPU-0aaa",
        "hw.name": "NVIDIA H200",
        "hw.type": "gpu",
    }


def test_metrics_reach_an_otlp_grpc_server_too(provider):
    received, keys = [], []

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, _request, _context):  # noqa: N802 # gRPC's name
            return trace_service_pb2.ExportTraceServiceResponse()

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request, context):  # noqa: N802 # gRPC's name
            received.extend(m.name for m in request.resource_metrics[0].scope_metrics[0].metrics)
            keys.append(dict(context.invocation_metadata())["x-key"])
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    told = {"tracer_provider": provider, "protocol": "grpc", "endpoint_url": url, "headers": {"X-Key": "k"}}
    with pennytrace.configure(**told, gpu=False, metrics_interval_s=0.1):
        chat()
        wait_until(lambda: "gen_ai.client.token.usage" in received)
    server.stop(0).wait()
    assert set(keys) == {"k"}


APPLICATION = """
import os, sys, time
import pennytrace
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
handle = pennytrace.configure(service="app", endpoint_url=sys.argv[1], gpu=False, metrics_interval_s=0.1)

@pennytrace.observe(endpoint="/chat", model="m", provider="vllm")
def chat():
    pennytrace.record_usage(input_tokens=30, output_tokens=4)

chat()
handle.flush()
time.sleep(0.3)
found = {
    metric.name: [point for point in metric.data.data_points]
    for resource in reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics
    for metric in scope.metrics
}
assert sorted(p.sum for p in found["gen_ai.client.token.usage"]) == [4, 30], found
assert [p.count for p in found["gen_ai.client.operation.duration"]] == [1]
assert "otel.sdk.exporter.span.exported" in found
assert "opentelemetry.exporter.otlp.proto.http.metric_exporter" not in sys.modules
"""


def test_the_applications_meter_provider_is_used_where_there_is_one(sink):
    subprocess.run([sys.executable, "-c", APPLICATION, sink.url], timeout=60, check=True)
    assert sink.metric_requests == []


FORKING = """
import os, sys, time
import pennytrace

handle = pennytrace.configure(service="app", endpoint_url=sys.argv[1], gpu=False, metrics_interval_s=0.2)

@pennytrace.observe(endpoint="/chat", model="m", provider="vllm")
def chat():
    pennytrace.record_usage(input_tokens=30, output_tokens=4)

for _ in range(3):
    chat()
handle.flush()
time.sleep(1)
if os.fork() == 0:
    chat()
    handle.flush()
    time.sleep(1)
    handle.shutdown()
    os._exit(0)
os.wait()
"""


def test_a_forked_child_counts_its_own_calls_under_its_own_process_id(sink):
    subprocess.run([sys.executable, "-c", FORKING, sink.url], timeout=60, check=True)
    counts = {}
    for request in sink.metric_requests:
        (resource,) = request.resource_metrics
        pid = next(a.value.int_value for a in resource.resource.attributes if a.key == "process.pid")
        for metric in resource.scope_metrics[-1].metrics:
            if metric.name == "gen_ai.client.operation.duration":
                counts[pid] = metric.histogram.data_points[0].count
    assert sorted(counts.values()) == [1, 3]


def test_a_process_whose_backend_hangs_still_ends_in_time(sink):
    sink.hold.clear()
    program = FORKING.partition("handle.flush()")[0]
    then = time.monotonic()
    subprocess.run([sys.executable, "-c", program, sink.url], timeout=60, check=True)
    assert time.monotonic() - then < 8  # 2 s of it for the exit, the rest for a busy machine to start


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50))
def test_a_distribution_counts_every_value_in_the_bucket_that_opentelemetry_counts_it_in(values):
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("m")
    stock = meter.create_histogram("h", explicit_bucket_boundaries_advisory=TOKEN_BOUNDS)
    ours = Distribution(TOKEN_BOUNDS)
    for value in values:
        stock.record(value)
        ours.add(value)
    (point,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert (point.count, list(point.bucket_counts), point.min, point.max) == (
        ours.count,
        ours.buckets,
        ours.least,
        ours.most,
    )
    assert point.sum == pytest.approx(ours.total)


@pytest.mark.parametrize("looked_at", [False, True])
def test_both_recorders_count_the_same_calls_of_light_and_of_stock_spans(looked_at):
    with capture(TracerProvider(shutdown_on_exit=False)) as captured:
        chat(cached=5)
        with pytest.raises(TimeoutError):
            chat(error=TimeoutError())
        embed()
    if looked_at:
        assert all(span.status is not None for span in captured.spans)
    reader = InMemoryMetricReader()
    StockRecorder(MeterProvider([reader], shutdown_on_exit=False).get_meter("m")).add(captured.spans)
    stock = {m.name: m for m in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics}
    measures = Measures()
    measures.add(captured.spans)
    ours = {metric.name: metric for metric in _metrics(measures, 0, 1, is_delta=False)}
    assert set(ours) == set(stock)

    def plain(metric):
        return sorted(
            (
                sorted(point.attributes.items()),
                getattr(point, "value", None) or (point.count, point.sum, tuple(point.bucket_counts)),
            )
            for point in metric.data.data_points
        )

    for name, metric in ours.items():
        assert metric.unit == stock[name].unit, name
        assert plain(metric) == plain(stock[name]), name


def test_labels_without_end_share_one_series():
    measures = Measures()
    with capture() as captured:
        for number in range(SERIES_MAX + 50):
            observe(model=f"m{number}", provider="p")(lambda: pennytrace.record_usage(input_tokens=1))()
    measures.add(captured.spans)
    assert len(measures.tokens) == len(measures.seconds) == SERIES_MAX + 1
    assert sum(seconds.count for seconds in measures.seconds.values()) == SERIES_MAX + 50
    assert measures.seconds[("otel.metric.overflow", True),].count == 50


def test_spans_of_others_are_for_others_to_measure(provider):
    theirs = provider.get_tracer("opentelemetry.instrumentation.openai")
    with capture(provider) as captured, theirs.start_as_current_span("chat") as span:
        span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3})
    assert len(captured.spans) == 1
    measures = Measures()
    measures.add(captured.spans)
    assert measures.seconds == {}
