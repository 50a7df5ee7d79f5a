"""From a logs request to rows of `log_records`. Only where log records are kept; otherwise they are counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import polars as pl

from collector import attributes
from collector.decoded_rows import TIME, DecodedBody, Schema, resource_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    from collector.content import ContentFilter
    from collector.window import Window

SCHEMA: Schema = {
    "time": TIME,
    "observed_time": TIME,
    "service": pl.String,
    "resource": pl.String,
    "tenant": pl.String,
    "scope": pl.String,
    "severity_number": pl.Int32,
    "severity_text": pl.String,
    "event_name": pl.String,
    "body": pl.String,
    "attributes": pl.Map(pl.String, pl.String),
    "trace_id": pl.String,
    "span_id": pl.String,
    "flags": pl.UInt32,
    "received_at": TIME,
}


def decode(request: ExportLogsServiceRequest, window: Window, tenant: str, content: ContentFilter) -> DecodedBody:
    """The log records of `request` whose ids and times are sound, without the content that is not kept.

    A record without a time has that of its observation, and without both that of its receipt.
    """
    dropped = sum(content.strip_logs(resource_logs) for resource_logs in request.resource_logs)
    rejected: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    for source, record in _records(request, tenant):
        row = {**source, **_row(record, window)}
        reason = _fault(record, row, window)
        if reason:
            rejected[reason] += 1
        else:
            rows.append(row)
    return DecodedBody(tuple(rows), request.ByteSize(), rejected, dropped)


def count(request: ExportLogsServiceRequest) -> int:
    """How many log records a request has."""
    return sum(len(scope_logs.log_records) for resource in request.resource_logs for scope_logs in resource.scope_logs)


def _records(request: ExportLogsServiceRequest, tenant: str) -> Iterator[tuple[dict[str, object], LogRecord]]:
    for resource_logs in request.resource_logs:
        source = resource_columns(resource_logs.resource, tenant)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield {**source, "scope": scope_logs.scope.name}, record


def _row(record: LogRecord, window: Window) -> dict[str, object]:
    return {
        "time": record.time_unix_nano or record.observed_time_unix_nano or window.received_ns,
        "observed_time": record.observed_time_unix_nano or None,
        "severity_number": record.severity_number,
        "severity_text": record.severity_text,
        "event_name": record.event_name,
        "body": attributes.text(record.body),
        "attributes": {each.key: attributes.text(each.value) for each in record.attributes},
        "trace_id": record.trace_id.hex(),
        "span_id": record.span_id.hex(),
        "flags": record.flags,
        "received_at": window.received_ns,
    }


def _fault(record: LogRecord, row: Mapping[str, object], window: Window) -> str | None:
    """Why a record cannot be stored; None when it can."""
    if len(record.trace_id) not in {0, 16}:
        return "bad_trace_id"
    if len(record.span_id) not in {0, 8}:
        return "bad_span_id"
    times = (row["time"], row["observed_time"] or window.received_ns)
    if not all(isinstance(time, int) and window.oldest_ns <= time <= window.newest_ns for time in times):
        return "time_outside_window"
    return None
