"""What OTLP defines: the three signals, their messages, and parsing them.

Protobuf bodies are parsed by the official parser; JSON ones become its messages in collector/otlp_json.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace

from collector import otlp_json
from collector.errors import InvalidBodyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message


class Encoding(StrEnum):
    """How a body is written."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


@dataclass(frozen=True)
class Signal:
    """One of OTLP's signals."""

    name: str
    items: str
    """What a partial success counts: the field is rejected_<items>."""
    service: str
    """Full name of the gRPC service."""
    request: type[Message]
    response: type[Message]


TRACES = Signal(
    "traces",
    "spans",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    trace.ExportTraceServiceRequest,
    trace.ExportTraceServiceResponse,
)
METRICS = Signal(
    "metrics",
    "data_points",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    metrics.ExportMetricsServiceRequest,
    metrics.ExportMetricsServiceResponse,
)
LOGS = Signal(
    "logs",
    "log_records",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    logs.ExportLogsServiceRequest,
    logs.ExportLogsServiceResponse,
)
SIGNALS = (TRACES, METRICS, LOGS)


def parse(signal: Signal, body: bytes, encoding: Encoding) -> Message:
    """The request message in `body`; an empty body is an empty request. Raises InvalidBodyError."""
    if not body:
        return signal.request()
    return _parse_json(signal, body) if encoding is Encoding.JSON else _parse_protobuf(signal, body)


def response(signal: Signal, rejected: Mapping[str, int], encoding: Encoding) -> bytes:
    """The answer to a request that was accepted, all but `rejected` items (reason -> count)."""
    message: Any = signal.response()
    if rejected:
        partial = message.partial_success
        setattr(partial, f"rejected_{signal.items}", sum(rejected.values()))
        counted = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
        partial.error_message = f"rejected {signal.items.replace('_', ' ')}: {counted}"
    return encode(message, encoding)


def encode(message: Message, encoding: Encoding) -> bytes:
    """The bytes of `message`."""
    if encoding is Encoding.JSON:
        return orjson.dumps(json_format.MessageToDict(message))
    content: bytes = message.SerializeToString()
    return content


def _parse_protobuf(signal: Signal, body: bytes) -> Message:
    try:
        return signal.request.FromString(body)
    except DecodeError as error:
        raise InvalidBodyError(
            f"expected a protobuf {signal.request.__name__}, got {len(body)} bytes that are not one ({error}): "
            "check the exporter's protocol and content type"
        ) from error


def _parse_json(signal: Signal, body: bytes) -> Message:
    try:
        return otlp_json.build(signal.request, orjson.loads(body))
    except (orjson.JSONDecodeError, RecursionError, TypeError, ValueError, OverflowError) as error:
        raise InvalidBodyError(
            f"expected {signal.request.__name__} as OTLP JSON, got {len(body)} bytes that are not it ({error}): "
            "names are in lowerCamelCase, ids in hex"
        ) from error
