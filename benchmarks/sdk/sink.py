"""An OTLP/HTTP server in a process of its own that decodes every span with the official protobuf and counts it.

Its answer is set over HTTP, too: POST /behave {"status": 503, "retry_after_s": 1, "hold_s": 0, "refusals": 3}.
"""

from __future__ import annotations

import gzip
import http.server
import json
import subprocess
import sys
import time
import urllib.request
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

NORMAL: dict[str, Any] = {"status": 200, "retry_after_s": None, "hold_s": 0.0, "refusals": None}


class Sink:
    """The server process, seen from the benchmark."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def seen(self) -> dict[str, Any]:
        """`spans`: distinct span ids received; `by_scope`; `attributes`: the most recent span's number of them."""
        return json.load(urllib.request.urlopen(self.url))

    def behave(self, **how: float) -> None:
        """Answer like this from now on, and forget what came."""
        body = json.dumps({**NORMAL, **how}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/behave", body)).close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


class State:
    """What came, and how to answer."""

    def __init__(self) -> None:
        self.how = dict(NORMAL)
        self.ids: set[bytes] = set()
        self.by_scope: dict[str, int] = {}
        self.requests = self.metric_requests = self.body_bytes = self.attributes = 0

    def receive(self, body: bytes, encoding: str | None) -> None:
        """Decode and count."""
        self.requests += 1
        self.body_bytes += len(body)
        request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if encoding == "gzip" else body)
        for scope_spans in (scope for resource in request.resource_spans for scope in resource.scope_spans):
            name = scope_spans.scope.name
            self.by_scope[name] = self.by_scope.get(name, 0) + len(scope_spans.spans)
            for span in scope_spans.spans:
                self.ids.add(span.span_id)
                self.attributes = len(span.attributes)

    def refuses(self) -> bool:
        """Whether this request is to be answered by the status of `how`; a limited number of them, if it says so."""
        if self.how["status"] == 200 or self.how["refusals"] == 0:
            return False
        if self.how["refusals"] is not None:
            self.how["refusals"] -= 1
        return True


def serve() -> None:
    """Print the port, then serve until killed."""
    state = State()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/behave":
                state.__init__()  # type: ignore[misc]
                state.how = json.loads(body)
                return self.answer(200)
            if state.how["hold_s"]:
                time.sleep(state.how["hold_s"])
            if self.path == "/v1/metrics":
                state.metric_requests += 1
                return self.answer(state.how["status"] if state.how["refusals"] is None else 200)
            if state.refuses():
                return self.answer(state.how["status"], retry_after_s=state.how["retry_after_s"])
            state.receive(body, self.headers["Content-Encoding"])
            return self.answer(200)

        def do_GET(self) -> None:
            kept = ("by_scope", "requests", "metric_requests", "body_bytes", "attributes")
            self.answer(200, json.dumps({"spans": len(state.ids), **{k: getattr(state, k) for k in kept}}).encode())

        def answer(self, status: int, body: bytes = b"", retry_after_s: float | None = None) -> None:
            self.send_response(status)
            if retry_after_s is not None:
                self.send_header("Retry-After", str(retry_after_s))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()
