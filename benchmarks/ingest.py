"""What a span costs on its way in, as JSON: python benchmarks/ingest.py [--bodies 40] [--rounds 3].

All figures are from one run, interleaved, so that they can be compared with each other; CPU is of all threads
of the process, medians over the rounds, in microseconds a span. Bodies are 500 spans of 12 attributes.
End to end: the client is a process of its own on the same machine, over loopback HTTP, uncompressed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector import CollectorSettings, Ingest, attributes, create_http_app, framing
from collector.counts import Counts
from collector.window import Window
from collector.writers import SpanWriter
from storage import EmbeddedLocation, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

SPANS_A_BODY = 500
# Eight bytes that stand in every trace id of a template; replacing them makes spans that were never seen.
MARKER = b"\x00MARKER\x00"
CONNECTIONS = 8


def template() -> bytes:
    """One request of typical model calls."""
    request, start_ns = ExportTraceServiceRequest(), time.time_ns()
    resource_spans = request.resource_spans.add()
    for key in ("service.name", "service.version", "deployment.environment.name", "host.name"):
        resource_spans.resource.attributes.add(key=key).value.string_value = f"some-{key}"
    scope_spans = resource_spans.scope_spans.add()
    for position in range(SPANS_A_BODY):
        span = scope_spans.spans.add(
            trace_id=MARKER + (position // 5).to_bytes(8, "big"),
            span_id=os.urandom(8),
            name="chat",
            kind=3,
            start_time_unix_nano=start_ns + position,
            end_time_unix_nano=start_ns + position + 10**9,
        )
        for key in ("operation.name", "provider.name", "request.model", "response.model", "response.id", "tier"):
            span.attributes.add(key=f"gen_ai.{key}").value.string_value = f"{key}-{position % 7}"
        for number in range(4):
            span.attributes.add(key=f"gen_ai.usage.kind_{number}_tokens").value.int_value = position * number
        span.attributes.add(key="pennytrace.endpoint").value.string_value = f"/chat/{position % 5}"
        span.attributes.add(key="gen_ai.response.time_to_first_chunk").value.double_value = position / 7
    return request.SerializeToString()


def fresh(body: bytes) -> bytes:
    """The same request with trace ids of its own."""
    return body.replace(MARKER, os.urandom(8))


def engine_path(store: Store, bodies: list[bytes], group: int) -> None:
    """Parse, check, frame, and insert `group` bodies a commit."""
    writer = SpanWriter(store, Counts(), lambda: uuid.uuid4().hex)
    window = Window.around(datetime.now(UTC), CollectorSettings())
    for at in range(0, len(bodies), group):
        framed = [
            framing.frame(ExportTraceServiceRequest.FromString(body), body, window, "")
            for body in bodies[at : at + group]
        ]
        if any(writer.write(framed)):
            raise RuntimeError("the store refused a body of the benchmark")


def python_path(store: Store, bodies: list[bytes]) -> None:
    """Walk the spans in Python and insert columns, all bodies in one insert."""
    columns: dict[str, list[Any]] = {name: [] for name in PYTHON_SCHEMA}
    for body in bodies:
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = attributes.as_json(resource_spans.resource.attributes).decode()
            service = framing.service_name(resource_spans.resource)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    columns["started_at"].append(span.start_time_unix_nano)
                    columns["trace_id"].append(span.trace_id)
                    columns["span_id"].append(span.span_id)
                    columns["name"].append(span.name)
                    columns["kind"].append(span.kind)
                    columns["duration_ns"].append(span.end_time_unix_nano - span.start_time_unix_nano)
                    columns["service"].append(service)
                    columns["resource"].append(resource)
                    columns["attributes"].append({each.key: attributes.text(each.value) for each in span.attributes})
    store.insert("spans", pl.DataFrame(columns, schema=PYTHON_SCHEMA))


PYTHON_SCHEMA: dict[str, Any] = {
    "started_at": pl.Datetime("ns", "UTC"),
    "trace_id": pl.Binary,
    "span_id": pl.Binary,
    "name": pl.String,
    "kind": pl.Int32,
    "duration_ns": pl.UInt64,
    "service": pl.String,
    "resource": pl.String,
    "attributes": pl.Map(pl.String, pl.String),
}


def cpu_us_a_span(work: Callable[[list[bytes]], object], body: bytes, bodies: int) -> float:
    """CPU of the whole process while `work` handles this many fresh bodies."""
    made = [fresh(body) for _ in range(bodies)]
    before = time.process_time()
    work(made)
    return (time.process_time() - before) * 1e6 / (bodies * SPANS_A_BODY)


def measure_paths(store: Store, body: bytes, bodies: int, rounds: int) -> dict[str, float]:
    """Medians of each way in."""
    ways: dict[str, Callable[[list[bytes]], object]] = {
        f"engine_decode_{group}_bodies_a_commit_cpu_us": lambda made, group=group: engine_path(store, made, group)
        for group in (1, 8, 40)
    }
    ways["python_decode_cpu_us"] = lambda made: python_path(store, made)
    ways["official_parser_cpu_us"] = lambda made: [ExportTraceServiceRequest.FromString(each) for each in made]
    for work in ways.values():
        work([fresh(body)])  # first calls import and compile
    results: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            results[name].append(cpu_us_a_span(work, body, bodies))
    return {name: round(statistics.median(values), 2) for name, values in results.items()}


def measure_end_to_end(store: Store, body: bytes, bodies: int) -> dict[str, float]:
    """Spans a second, CPU a span and time to the acknowledgement over real HTTP."""
    settings = CollectorSettings()
    ingest = Ingest(store, settings, lambda: datetime.now(UTC))
    with served(ingest, settings) as port, multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(send_all, (port, body, CONNECTIONS))
        cpu, started = time.process_time(), time.monotonic()
        waits = pool.apply(send_all, (port, body, bodies))
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    ingest.close()
    spans = bodies * SPANS_A_BODY
    return {
        "end_to_end_cpu_us": round(cpu * 1e6 / spans, 2),
        "spans_per_second": round(spans / seconds),
        "ack_p50_ms": round(statistics.median(waits) * 1000, 1),
        "ack_p99_ms": round(statistics.quantiles(waits, n=100)[-1] * 1000, 1),
    }


def send_all(port: int, body: bytes, bodies: int) -> list[float]:
    """Post bodies over several connections; seconds that each waited for its acknowledgement."""
    waits: list[float] = []

    def send(mine: list[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for each in mine:
            started = time.monotonic()
            connection.request("POST", "/v1/traces", each, {"content-type": "application/x-protobuf"})
            answer = connection.getresponse()
            if answer.status != 200 or answer.read():
                raise RuntimeError(f"expected a full success, got {answer.status}")
            waits.append(time.monotonic() - started)
        connection.close()

    made = [fresh(body) for _ in range(bodies)]
    threads = [threading.Thread(target=send, args=(made[at::CONNECTIONS],)) for at in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(waits) != bodies:
        raise RuntimeError(f"expected {bodies} acknowledgements, got {len(waits)}")
    return waits


@contextmanager
def served(ingest: Ingest, settings: CollectorSettings) -> Generator[int]:
    """The HTTP port while it serves."""
    config = uvicorn.Config(create_http_app(ingest, settings), port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=40, help="bodies a round (default 40)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the output is always JSON")
    arguments = parser.parse_args()
    body = template()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(EmbeddedLocation(Path(folder)))
        results: dict[str, Any] = {"spans_a_body": SPANS_A_BODY, "body_bytes": len(body)}
        results |= measure_paths(store, body, arguments.bodies, arguments.rounds)
        results |= measure_end_to_end(store, body, arguments.bodies * arguments.rounds)
        store.close()
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
