"""Recorded OTLP export requests, sent again as they were.

| what FILE is | how it is read |
|---|---|
| *.json, *.jsonl, *.ndjson | an OTLP/JSON export request a line, as the Collector's file exporter writes |
| *.bin, *.pb | one protobuf export request of traces |
| a directory with meta.json | a recording with headers: `requests` lists body, signal and headers |
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.errors import CommandError
from app.replay.sender import PROTOBUF, Body

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SIGNAL_OF_KEY = {"resourceSpans": "traces", "resourceMetrics": "metrics", "resourceLogs": "logs"}
_KEPT_HEADERS = frozenset({"content-type", "content-encoding"})


def recorded_bodies(path: Path) -> Iterator[Body]:
    """The bodies in the order in which they were recorded. Raises CommandError when the file is something else."""
    if path.is_dir():
        return _directory(path)
    if path.suffix in {".json", ".jsonl", ".ndjson"}:
        return _json_lines(path)
    if path.suffix in {".bin", ".pb"}:
        return iter([_protobuf(path)])
    raise CommandError(f"expected OTLP in a .json, .jsonl, .bin or .pb file or a recorded directory, got {path}")


def _json_lines(path: Path) -> Iterator[Body]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                message = json.loads(line)
                signal = next(_SIGNAL_OF_KEY[key] for key in message if key in _SIGNAL_OF_KEY)
                spans = _json_spans(message)
            except (ValueError, StopIteration, TypeError, AttributeError):
                raise CommandError(
                    f"{path}, line {number}: expected one OTLP/JSON export request (resourceSpans, resourceMetrics or "
                    f"resourceLogs), got {line[:60]!r}"
                ) from None
            headers = (("content-type", "application/json"),)
            yield Body(f"/v1/{signal}", line, spans, headers)


def _json_spans(message: dict[str, Any]) -> int:
    return sum(
        len(scope.get("spans", ()))
        for resource in message.get("resourceSpans", ())
        for scope in resource.get("scopeSpans", ())
    )


def _protobuf(path: Path) -> Body:
    data = path.read_bytes()
    try:
        request = ExportTraceServiceRequest.FromString(data)
    except DecodeError as error:
        raise CommandError(f"{path} is not a protobuf export request of traces: {error}") from error
    return Body("/v1/traces", data, sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans))


def _directory(path: Path) -> Iterator[Body]:
    try:
        requests = json.loads((path / "meta.json").read_text())["requests"]
        bodies = [_recorded(path, request) for request in requests]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(
            f"expected {path}/meta.json to list requests with signal, transport, headers and body: {error!r}"
        ) from error
    yield from bodies


def _recorded(path: Path, request: dict[str, Any]) -> Body:
    headers = {name: value for name, value in request["headers"].items() if name in _KEPT_HEADERS}
    if request["transport"] == "grpc":
        headers["content-type"] = PROTOBUF
    headers.setdefault("content-type", PROTOBUF)
    return Body(f"/v1/{request['signal']}", (path / request["body"]).read_bytes(), None, tuple(headers.items()))
