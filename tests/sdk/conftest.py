import http.server
import signal
import threading
from dataclasses import dataclass, field

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import pennytrace


class Spans:
    """Ended spans, as OpenTelemetry's own in-memory exporter saw them."""

    def __init__(self, exporter, handle):
        self._exporter = exporter
        self.handle = handle

    def all(self):
        return self._exporter.get_finished_spans()

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


@pytest.fixture
def spans(provider):
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pennytrace.configure(tracer_provider=provider, export=False, gpu=False) as handle:
        yield Spans(exporter, handle)


@dataclass
class Sink:
    """An OTLP/HTTP server that decodes with the official protobuf; `status` is what it answers."""

    url: str = ""
    status: int = 200
    hold: threading.Event = field(default_factory=threading.Event)
    requests: list = field(default_factory=list)
    headers: list = field(default_factory=list)

    def spans(self):
        return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    def resources(self):
        return [
            {a.key: a.value.string_value for a in rs.resource.attributes}
            for r in self.requests
            for rs in r.resource_spans
        ]


@pytest.fixture
def sink():
    state = Sink()
    state.hold.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.hold.wait(20)
            if self.path == "/v1/traces" and state.status == 200:
                state.requests.append(ExportTraceServiceRequest.FromString(body))
                state.headers.append(dict(self.headers.items()))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(state.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

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
