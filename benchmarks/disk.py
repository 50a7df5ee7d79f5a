"""What a span takes on disk, as JSON: python benchmarks/disk.py [--traces 60000].

The same rows stand in `spans` and in the table that the OpenTelemetry Collector's ClickHouse exporter makes, both
merged into one part a partition. A trace is five spans of 10 to 12 attributes: a request, a search, a model call, a
tool call, another model call; ids are random, times have nanoseconds, tokens and durations are log-normal, response
and tool call ids are unique, tenants 200, conversations 20,000.

bytes_per_span is of spans received over a week ago, which the engine has packed harder; bytes_per_span_fresh of newer.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector import CollectorSettings, framing
from collector.content import ContentFilter
from collector.window import Window
from storage import EmbeddedLocation, Store, otlp
from storage.traces import find_trace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

SECOND_NS = 10**9
TRACES_A_BODY, BODIES_AN_INSERT, SPANS_A_TRACE = 100, 20, 5
HOURS = 6
UNIQUE = string.ascii_letters + string.digits
ROUTES = ("/v1/chat", "/v1/summarize", "/v1/search", "/v1/agents/run", "/v1/classify")
MODELS = (
    ("openai", "gpt-4o", "gpt-4o-2024-11-20"),
    ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
)

# What the exporter's table of traces is made of, restated as names, types, indexes and keys from the definition in
# exporter/clickhouseexporter/internal/sqltemplates/traces_table.sql of github.com/open-telemetry/
# opentelemetry-collector-contrib (Apache-2.0) at 2bf6b9e, without its full-text option and columns that are not stored.
MAP = "Map(LowCardinality(String), String)"
EXPORTER_COLUMNS = {
    "Timestamp": "DateTime64(9) CODEC(Delta(8), ZSTD(1))",
    **dict.fromkeys(("TraceId", "SpanId", "ParentSpanId", "TraceState"), "String CODEC(ZSTD(1))"),
    **dict.fromkeys(("SpanName", "SpanKind", "ServiceName"), "LowCardinality(String) CODEC(ZSTD(1))"),
    "ResourceAttributes": f"{MAP} CODEC(ZSTD(1))",
    **dict.fromkeys(("ScopeName", "ScopeVersion"), "String CODEC(ZSTD(1))"),
    "SpanAttributes": f"{MAP} CODEC(ZSTD(1))",
    "Duration": "UInt64 CODEC(T64, ZSTD(1))",
    "StatusCode": "LowCardinality(String) CODEC(ZSTD(1))",
    "StatusMessage": "String CODEC(ZSTD(1))",
    "Events": f"Nested(Timestamp DateTime64(9), Name LowCardinality(String), Attributes {MAP}) CODEC(ZSTD(1))",
    "Links": f"Nested(TraceId String, SpanId String, TraceState String, Attributes {MAP}) CODEC(ZSTD(1))",
}
# Indexed expression: kind of index, and over how many granules.
EXPORTER_INDEXES = {
    "TraceId": ("bloom_filter(0.001)", 1),
    **{
        f"{side}({attributes})": ("bloom_filter(0.01)", 1)
        for attributes in ("ResourceAttributes", "SpanAttributes")
        for side in ("mapKeys", "mapValues")
    },
    "Duration": ("minmax", 1),
    "lower(SpanName)": ("tokenbf_v1(32768, 3, 0)", 8),
}
EXPORTER_PRIMARY_KEY = ("ServiceName", "SpanName", "toDateTime(Timestamp)")
EXPORTER_SORTING_KEY = (*EXPORTER_PRIMARY_KEY, "Timestamp")
EXPORTER_PARTITION = "toDate(Timestamp)"
FILL_EXPORTER = """
INSERT INTO otel_traces (Timestamp, TraceId, SpanId, ParentSpanId, TraceState, SpanName, SpanKind, ServiceName,
  ResourceAttributes, ScopeName, ScopeVersion, SpanAttributes, Duration, StatusCode, StatusMessage)
SELECT started_at, lower(hex(trace_id)), lower(hex(span_id)),
  if(parent_span_id = toFixedString('', 8), '', lower(hex(parent_span_id))), trace_state, name,
  ['Unspecified', 'Internal', 'Server', 'Client', 'Producer', 'Consumer'][kind + 1], service,
  mapFromArrays(
    CAST(JSONExtractKeys(resource), 'Array(LowCardinality(String))'),
    arrayMap(k -> JSONExtractString(resource, k), JSONExtractKeys(resource))),
  'pennytrace', '0.1.0', attributes, duration_ns, 'Unset', status_message
FROM spans
"""
SIZES = """
SELECT sum(rows) AS rows, sum(bytes_on_disk) AS bytes, sum(secondary_indices_compressed_bytes) AS index_bytes
FROM system.parts WHERE database = currentDatabase() AND table = {table:String} AND active
"""
COLUMN_SIZES = """
SELECT column, sum(column_data_compressed_bytes) AS bytes FROM system.parts_columns
WHERE database = currentDatabase() AND table = {table:String} AND active GROUP BY column ORDER BY bytes DESC
"""


class Traffic:
    """Requests of traces as an application with an agent sends them; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def unique(self, prefix: str) -> str:
        """An id as providers give them."""
        return prefix + "".join(self.rng.choices(UNIQUE, k=24))

    def request(self, start_ns: int, replica: int) -> ExportTraceServiceRequest:
        """One body of one replica: traces that begin within a minute."""
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        resource = {
            "service.name": ("gateway", "assistant")[replica % 2],
            "service.version": "1.4.2",
            "deployment.environment.name": "production",
            "service.instance.id": f"pod-{replica}",
            "host.name": f"node-{replica % 3}",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": "1.45.0",
            "cloud.region": "eu-west-1",
        }
        for key, value in resource.items():
            resource_spans.resource.attributes.add(key=key).value.string_value = value
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name, scope_spans.scope.version = "pennytrace", "0.1.0"
        for _ in range(TRACES_A_BODY):
            self.add_trace(scope_spans, start_ns + self.rng.randrange(60 * SECOND_NS))
        return request

    def add_trace(self, scope_spans: ScopeSpans, at_ns: int) -> None:
        """Five spans, the last four below the first and one after another."""
        rng = self.rng
        trace_id, root_id = rng.randbytes(16), rng.randbytes(8)
        model, route = rng.choice(MODELS), rng.choice(ROUTES)
        total_ns = int(rng.lognormvariate(0.7, 0.6) * SECOND_NS)
        kinds = (
            (f"POST {route}", 2, self.of_request(route)),
            ("retrieve documents", 3, self.of_search()),
            (f"chat {model[1]}", 3, self.of_model_call(model)),
            ("execute_tool lookup", 1, self.of_tool_call(model)),
            (f"chat {model[1]}", 3, self.of_model_call(model)),
        )
        for number, (name, kind, attributes) in enumerate(kinds):
            duration_ns = int(total_ns / 4 * rng.uniform(0.3, 1)) if number else total_ns
            span = scope_spans.spans.add(
                trace_id=trace_id,
                span_id=rng.randbytes(8) if number else root_id,
                parent_span_id=root_id if number else b"",
                name=name,
                kind=kind,
                flags=1 if number else 257,
                start_time_unix_nano=at_ns,
                end_time_unix_nano=at_ns + duration_ns,
            )
            set_attributes(span, attributes)
            at_ns += (duration_ns if number else 0) + rng.randint(50_000, 3_000_000)

    def of_request(self, route: str) -> dict[str, object]:
        """Attributes of an HTTP server's span."""
        rng = self.rng
        return {
            "http.request.method": "POST",
            "http.route": route,
            "http.response.status_code": 200,
            "url.scheme": "https",
            "server.address": "llm.example.com",
            "server.port": 443,
            "network.protocol.version": "1.1",
            "client.address": f"10.{rng.randint(0, 3)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}",
            "user_agent.original": f"client/{rng.randint(1, 3)}.{rng.randint(0, 2)} python/3.{rng.randint(10, 12)}",
            "pennytrace.endpoint": route,
            "pennytrace.tenant": f"tenant-{min(199, int(rng.expovariate(1 / 40))):03d}",
        }

    def of_search(self) -> dict[str, object]:
        """Attributes of a database client's span."""
        return {
            "db.system.name": "postgresql",
            "db.operation.name": "SELECT",
            "db.collection.name": self.rng.choice(("chunks", "documents", "faq")),
            "db.namespace": "rag",
            "server.address": "db.internal",
            "server.port": 5432,
            "db.query.summary": "SELECT chunks",
            "retrieval.documents": self.rng.randint(1, 20),
            "retrieval.score": round(self.rng.random(), 4),
            "retrieval.cached": self.rng.random() < 0.3,
        }

    def of_model_call(self, model: tuple[str, str, str]) -> dict[str, object]:
        """Attributes of a model client's span."""
        input_tokens = int(self.rng.lognormvariate(7, 1))
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": model[0],
            "gen_ai.request.model": model[1],
            "gen_ai.response.model": model[2],
            "gen_ai.response.id": self.unique("chatcmpl-"),
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": int(self.rng.lognormvariate(5, 1)),
            "gen_ai.usage.cache_read.input_tokens": input_tokens // 128 * 128 * self.rng.randint(0, 1),
            "gen_ai.response.finish_reasons": [self.rng.choice(("stop", "stop", "tool_calls"))],
            "gen_ai.response.time_to_first_chunk": round(self.rng.lognormvariate(-1, 0.5), 6),
            "gen_ai.request.stream": True,
            "server.address": "api.openai.com",
        }

    def of_tool_call(self, model: tuple[str, str, str]) -> dict[str, object]:
        """Attributes of a tool's span."""
        return {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": self.rng.choice(("lookup", "calculator", "weather")),
            "gen_ai.tool.call.id": self.unique("call_"),
            "gen_ai.tool.type": "function",
            "gen_ai.agent.name": "assistant",
            "gen_ai.provider.name": model[0],
            "gen_ai.conversation.id": f"conv-{self.rng.randint(0, 20_000):06d}",
            "tool.result.bytes": self.rng.randint(20, 4000),
            "tool.retries": 0,
            "error.type": "",
        }


def set_attributes(span: Span, attributes: dict[str, object]) -> None:
    """Write the attributes as OTLP has them."""
    for key, value in attributes.items():
        written = span.attributes.add(key=key).value
        match value:
            case bool():
                written.bool_value = value
            case int():
                written.int_value = value
            case float():
                written.double_value = value
            case list():
                for item in value:
                    written.array_value.values.add().string_value = str(item)
            case _:
                written.string_value = str(value)


def fill(store: Store, traces: int, start: datetime, seed: int = 7) -> list[bytes]:
    """Send the traces through framing and the engine; some of their ids."""
    traffic, rows, known = Traffic(seed), list[bytes](), list[bytes]()
    content = ContentFilter(CollectorSettings())
    bodies, start_ns = max(1, traces // TRACES_A_BODY), int(start.timestamp()) * SECOND_NS
    for number in range(bodies):
        at_ns = start_ns + number * HOURS * 3600 * SECOND_NS // bodies
        request = traffic.request(at_ns, number % 8)
        known.append(request.resource_spans[0].scope_spans[0].spans[0].trace_id)
        window = Window(1, at_ns + 65 * SECOND_NS, 2**62)
        rows += (row.framed() for row in framing.frame(request, request.SerializeToString(), window, "", content).rows)
        if len(rows) >= BODIES_AN_INSERT or number == bodies - 1:
            otlp.insert_spans(store, b"".join(rows), uuid.uuid4().hex)
            rows.clear()
    return known


def fill_exporter_table(store: Store) -> None:
    """The same rows in the exporter's table."""
    columns = [f"{name} {kind}" for name, kind in EXPORTER_COLUMNS.items()]
    indexes = [
        f"INDEX i{number} {indexed} TYPE {kind} GRANULARITY {granules}"
        for number, (indexed, (kind, granules)) in enumerate(EXPORTER_INDEXES.items())
    ]
    store.execute(
        f"CREATE TABLE otel_traces ({', '.join([*columns, *indexes])}) ENGINE = MergeTree "
        f"PARTITION BY {EXPORTER_PARTITION} "
        f"PRIMARY KEY ({', '.join(EXPORTER_PRIMARY_KEY)}) ORDER BY ({', '.join(EXPORTER_SORTING_KEY)})"
    )
    store.execute(FILL_EXPORTER)


def measure_sizes(store: Store, table: str) -> tuple[float, dict[str, float]]:
    """Bytes a row on disk with everything, and by column, once merged."""
    store.execute(f"OPTIMIZE TABLE {table} FINAL")
    of_table = store.frame_of(SIZES, {"table": table}).to_dicts()[0]
    rows = of_table["rows"]
    columns: dict[str, float] = {
        name: round(size / rows, 2) for name, size in store.frame_of(COLUMN_SIZES, {"table": table}).rows()
    }
    columns["(indexes)"] = round(of_table["index_bytes"] / rows, 2)
    return of_table["bytes"] / rows, {name: size for name, size in columns.items() if size >= 0.01}


def measure_lookups(store: Store, trace_ids: Iterable[bytes]) -> float:
    """Median milliseconds to find one trace by its id."""
    waits: list[float] = []
    for trace_id in trace_ids:
        began = time.perf_counter()
        found = find_trace(store, trace_id)
        waits.append((time.perf_counter() - began) * 1000)
        if len(found.resource_spans[0].scope_spans[0].spans) != SPANS_A_TRACE:
            raise RuntimeError("a trace came back with spans missing")
    return median(waits)


def measure(traces: int) -> dict[str, Any]:
    """All figures."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(EmbeddedLocation(Path(folder)))
        fill(store, traces, (now - timedelta(hours=HOURS + 1)))
        fresh, _ = measure_sizes(store, "spans")
        store.execute("TRUNCATE TABLE spans")
        known = fill(store, traces, now - timedelta(days=15))
        ours, columns = measure_sizes(store, "spans")
        lookup_ms = measure_lookups(store, known[:: max(1, len(known) // 20)])
        fill_exporter_table(store)
        theirs, exporter_columns = measure_sizes(store, "otel_traces")
        store.close()
    return {
        "spans": traces * SPANS_A_TRACE,
        "bytes_per_span": round(ours, 2),
        "bytes_per_span_fresh": round(fresh, 2),
        "exporter_schema_bytes_per_span": round(theirs, 2),
        "ratio": round(ours / theirs, 3),
        "ratio_fresh": round(fresh / theirs, 3),
        "trace_lookup_ms": round(lookup_ms, 1),
        "columns": columns,
        "exporter_columns": exporter_columns,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=60_000, help="traces of five spans (default 60,000)")
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the output is always JSON")
    print(json.dumps(measure(parser.parse_args().traces), indent=1))


if __name__ == "__main__":
    main()
