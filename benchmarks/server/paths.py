"""Ways of storing the same spans, measured in turn in one process."""

from __future__ import annotations

import statistics
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import clickhouse_connect
import polars as pl
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from server.bodies import fresh

from collector import CollectorSettings, attributes, framing
from collector.content import ContentFilter
from collector.window import Window
from storage import EmbeddedLocation, Store, otlp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GROUPS = (1, 8, 40, 200)
FLOOR_GROUP = 40
# In the order of arrival: bodies in any order, each in its own. Sorted rows would be cheaper to insert than came.
ARRIVED = "SELECT * FROM spans ORDER BY cityHash64(substring(trace_id, 1, 8)), started_at"
MERGES_S = 60


def measure_paths(folder: Path, body: bytes, spans: int, bodies: int, rounds: int) -> dict[str, float]:
    """CPU of all threads in microseconds a span: the median over the rounds of each way in."""
    store = Store.open(EmbeddedLocation(folder))
    floor = Floor(store, body)
    ways: dict[str, tuple[int, Callable[[list[bytes]], object]]] = {
        f"engine_decode_{group}_bodies_a_commit_cpu_us": (
            max(bodies, group),
            lambda made, group=group: engine_path(store, made, group),
        )
        for group in GROUPS
    }
    ways["python_decode_cpu_us"] = (FLOOR_GROUP, lambda made: python_path(store, made))
    ways["official_parser_cpu_us"] = (bodies, lambda made: [ExportTraceServiceRequest.FromString(x) for x in made])
    ways["floor_cpu_us"] = (FLOOR_GROUP, floor.insert)
    for _, work in ways.values():
        work([fresh(body)])  # first calls import and compile
    results: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (count, work) in ways.items():
            made = [fresh(body) for _ in range(count)]
            wait_for_merges(store)  # of what the way before this one inserted
            before = time.process_time()
            work(made)
            results[name].append((time.process_time() - before) * 1e6 / (count * spans))
    floor.close()
    store.close()
    return {name: round(statistics.median(values), 2) for name, values in results.items()}


def wait_for_merges(store: Store) -> None:
    """Until the engine merges nothing in the background."""
    until = time.monotonic() + MERGES_S
    while store.frame_of("SELECT count() AS running FROM system.merges")["running"][0] and time.monotonic() < until:
        time.sleep(0.05)


def engine_path(store: Store, bodies: list[bytes], group: int) -> None:
    """Parse, check, look for content, frame, and insert `group` bodies a commit."""
    settings = CollectorSettings()
    content, window = ContentFilter(settings), Window.around(datetime.now(UTC), settings)
    for at in range(0, len(bodies), group):
        rows = [
            row.framed()
            for body in bodies[at : at + group]
            for row in framing.frame(ExportTraceServiceRequest.FromString(body), body, window, "", content).rows
        ]
        otlp.insert_spans(store, b"".join(rows), uuid.uuid4().hex)


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


class Floor:
    """The same rows out of a Native file: what the engine takes when nothing has to be decoded."""

    def __init__(self, store: Store, body: bytes) -> None:
        self._store = store
        engine_path(store, [fresh(body) for _ in range(FLOOR_GROUP)], FLOOR_GROUP)
        location = store.location
        if not isinstance(location, EmbeddedLocation):
            raise TypeError("expected the embedded engine")
        self._client = clickhouse_connect.get_client(interface="chdb", path=str(location.path), database="pennytrace")
        self._rows: bytes = self._client.raw_query(ARRIVED, fmt="Native")
        self._one: bytes = self._client.raw_query(f"{ARRIVED} LIMIT 500", fmt="Native")

    def insert(self, bodies: list[bytes]) -> None:
        """As many rows as are in FLOOR_GROUP bodies; fewer for a single one."""
        rows = self._rows if len(bodies) == FLOOR_GROUP else self._one
        settings = {"insert_deduplication_token": uuid.uuid4().hex, "async_insert": 0}
        self._store.insert_block("spans", rows, "Native", settings)

    def close(self) -> None:
        """Before the store is closed."""
        self._client.close()
