import gzip
import http.server
import signal
import threading
from dataclasses import dataclass, field

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import pennytrace
from pennytrace import testing


class Spans:
    """Ended spans, as OpenTelemetry's own in-memory exporter saw them."""

    def __init__(self, finished, handle):
        self._finished = finished
        self.handle = handle

    def all(self):
        return self._finished()

    def one(self):
        (span,) = self.all()
        return span

    def of_kind(self, kind):
        return [span for span in self.all() if span.attributes.get("pennytrace.span.kind") == kind]

    def named(self, name):
        (span,) = [span for span in self.all() if span.name == name]
        return span


@pytest.fixture(autouse=True)
def _sigterm_as_before():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def provider():
    return TracerProvider(shutdown_on_exit=False)


@pytest.fixture(params=["stock", "light"])
def spans(provider, request):
    """Both kinds of span must look the same: OpenTelemetry's, for a user's own exporter, and our light one."""
    with pennytrace.configure(tracer_provider=provider, export=False, gpu=False) as handle:
        if request.param == "light":
            with testing.capture(provider) as captured:
                yield Spans(lambda: captured.spans, handle)
        else:
            exporter = InMemorySpanExporter()
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            yield Spans(exporter.get_finished_spans, handle)


@dataclass
class Sink:
    """An OTLP/HTTP server that decodes with the official protobuf; `status` is what it answers."""

    url: str = ""
    status: int = 200
    retry_after_s: float | None = None
    rejects: int = 0
    refused: int = 0
    hold: threading.Event = field(default_factory=threading.Event)
    requests: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    metric_status: int = 200
    metric_requests: list = field(default_factory=list)
    metric_headers: list = field(default_factory=list)

    def spans(self):
        return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    def metrics(self):
        """The newest data of each metric, by name: unit, and its points by their attributes."""
        return {
            metric.name: metric
            for request in self.metric_requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def resources(self):
        return [
            {a.key: a.value.string_value for a in rs.resource.attributes}
            for r in self.requests
            for rs in r.resource_spans
        ]


@pytest.fixture
def sink():  # noqa: C901 # a handler that closes over the state is the shortest server
    state = Sink()
    state.hold.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/metrics":
                self.take_metrics(body)
            else:
                self.take_spans(body)

        def take_spans(self, body):
            state.hold.wait(20)
            status = state.status
            if self.path == "/v1/traces" and status == 200:
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                state.requests.append(ExportTraceServiceRequest.FromString(body))
                state.headers.append(dict(self.headers.items()))
            else:
                state.refused += 1
            answer = ExportTraceServiceResponse()
            if state.rejects:
                answer.partial_success.rejected_spans = state.rejects
            answer = answer.SerializeToString()
            self.send_response(status)
            if state.retry_after_s is not None:
                self.send_header("Retry-After", str(state.retry_after_s))
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def take_metrics(self, body):
            if state.metric_status == 200:
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                state.metric_requests.append(ExportMetricsServiceRequest.FromString(body))
                state.metric_headers.append(dict(self.headers.items()))
            self.send_response(state.metric_status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    state.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()
