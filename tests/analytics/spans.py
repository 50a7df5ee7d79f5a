"""Spans and metric points put straight into the store, as the collector leaves them there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from storage import Store

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
RESOURCE = {"service.name": "shop", "service.version": "1.0.0", "deployment.environment.name": "production"}


def trace_id(name: object) -> bytes:
    """A trace id that is the same for the same name."""
    return hashlib.sha256(str(name).encode()).digest()[:16]


def span_id(name: object) -> bytes:
    """A span id that is the same for the same name."""
    return hashlib.sha256(str(name).encode()).digest()[:8]


@dataclass(frozen=True)
class Span:
    """A span by what tests care about; ids are made of names."""

    id: str
    attributes: Mapping[str, object] = field(default_factory=dict)
    trace: str = "trace"
    parent: str = ""
    name: str = "span"
    started_at: datetime = START
    duration: timedelta = timedelta(seconds=1)
    is_error: bool = False
    resource: Mapping[str, str] = field(default_factory=lambda: RESOURCE)
    scope: str = "tests"
    tenant: str = ""


def text(value: object) -> str:
    """A scalar attribute as the engine stores it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def raw_scope(name: str) -> bytes:
    """The OTLP InstrumentationScope message with this name."""
    return b"\x0a" + bytes([len(name)]) + name.encode() if name else b""


def insert_spans(store: Store, spans: Iterable[Span], received_at: datetime = START) -> None:
    """Insert spans in one block."""
    insert_rows(store, "spans", [_row(span, received_at) for span in spans], SPAN_COLUMNS)


def insert_rows(store: Store, table: str, rows: list[dict[str, object]], schema: pa.Schema) -> None:
    """Insert rows of any shape that Arrow knows, maps and bytes included."""
    arrow = pa.Table.from_pylist(rows, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    store.insert_block(table, sink.getvalue().to_pybytes(), "ArrowStream", {})


SPAN_COLUMNS = pa.schema(
    {
        "started_at": pa.timestamp("ns", "UTC"),
        "trace_id": pa.binary(16),
        "span_id": pa.binary(8),
        "parent_span_id": pa.binary(8),
        "name": pa.string(),
        "duration_ns": pa.uint64(),
        "status_code": pa.int32(),
        "service": pa.string(),
        "resource": pa.string(),
        "tenant": pa.string(),
        "scope": pa.binary(),
        "attributes": pa.map_(pa.string(), pa.string()),
        "received_at": pa.timestamp("ms", "UTC"),
    }
)

POINT_COLUMNS = pa.schema(
    {
        "time": pa.timestamp("ns", "UTC"),
        "service": pa.string(),
        "resource": pa.string(),
        "metric": pa.string(),
        "kind": pa.string(),
        "attributes": pa.map_(pa.string(), pa.string()),
        "value": pa.float64(),
        "received_at": pa.timestamp("ms", "UTC"),
    }
)


def _row(span: Span, received_at: datetime) -> dict[str, object]:
    return {
        "started_at": span.started_at,
        "trace_id": trace_id(span.trace),
        "span_id": span_id(span.id),
        "parent_span_id": span_id(span.parent) if span.parent else bytes(8),
        "name": span.name,
        "duration_ns": round(span.duration.total_seconds() * 1_000_000) * 1_000,
        "status_code": 2 if span.is_error else 0,
        "service": span.resource.get("service.name", ""),
        "resource": json.dumps(dict(span.resource)),
        "tenant": span.tenant,
        "scope": raw_scope(span.scope),
        "attributes": [(key, text(value)) for key, value in span.attributes.items()],
        "received_at": received_at,
    }


def insert_gauge(
    store: Store, metric: str, at: datetime, value: float, resource: Mapping[str, str], **attributes: str
) -> None:
    """Insert one gauge reading; attribute names are given with _ for the dots."""
    row: dict[str, object] = {
        "time": at,
        "service": resource.get("service.name", ""),
        "resource": json.dumps(dict(resource)),
        "metric": metric,
        "kind": "gauge",
        "attributes": [(key.replace("_", "."), value) for key, value in attributes.items()],
        "value": value,
        "received_at": at,
    }
    insert_rows(store, "metric_points", [row], POINT_COLUMNS)
