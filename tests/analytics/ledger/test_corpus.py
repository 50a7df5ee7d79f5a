"""The recorded corpus: what real SDKs sent, and the calls that their provider billed."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from analytics.report import calls
from tests.analytics.spans import SPAN_COLUMNS, START, insert_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

CORPUS = Path(__file__).parents[3].parent / "shared" / "corpus"
CASES = sorted(path.parent for path in CORPUS.glob("*/expected.json") if "calls" in json.loads(path.read_text()))
PERIOD = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))

pytestmark = pytest.mark.skipif(not CASES, reason="needs the shared data folder")


def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_calls", CORPUS / "score_calls.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def requests(case: Path) -> Iterator[ExportTraceServiceRequest]:
    for request in json.loads((case / "meta.json").read_text())["requests"]:
        if request["signal"] == "traces":
            encoding = request["headers"].get("content-encoding", "")
            inflate = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(encoding, bytes)
            yield parsed(inflate((case / request["body"]).read_bytes()), request["headers"].get("content-type", ""))


def parsed(body: bytes, content_type: str) -> ExportTraceServiceRequest:
    if "json" not in content_type:
        return ExportTraceServiceRequest.FromString(body)
    message = json.loads(body, object_hook=with_base64_ids)
    return ParseDict(message, ExportTraceServiceRequest(), ignore_unknown_fields=True)


def with_base64_ids(node: dict[str, Any]) -> dict[str, Any]:
    ids = {key: node[key] for key in ("traceId", "spanId", "parentSpanId") if node.get(key)}
    return node | {key: base64.b64encode(bytes.fromhex(text)).decode() for key, text in ids.items()}


def rows(request: ExportTraceServiceRequest) -> Iterator[dict[str, object]]:
    for resource_spans in request.resource_spans:
        resource = {attribute.key: scalar(attribute.value) for attribute in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield {
                    "started_at": span.start_time_unix_nano,
                    "trace_id": span.trace_id,
                    "span_id": span.span_id,
                    "parent_span_id": span.parent_span_id or bytes(8),
                    "name": span.name,
                    "duration_ns": max(0, span.end_time_unix_nano - span.start_time_unix_nano),
                    "status_code": span.status.code,
                    "service": resource.get("service.name", ""),
                    "resource": json.dumps(resource),
                    "tenant": "",
                    "scope": scope_spans.scope.SerializeToString(),
                    "attributes": [(attribute.key, scalar(attribute.value)) for attribute in span.attributes],
                    "received_at": START,
                }


def scalar(value: Any) -> str:
    """As the engine keeps it; arrays and maps stay messages, which nothing here reads."""
    kind = value.WhichOneof("value")
    if kind == "bool_value":
        return str(value.bool_value).lower()
    if kind in {"string_value", "int_value", "double_value"}:
        return str(getattr(value, kind))
    return ""


def test_every_recorded_call_is_billed_once_with_exact_tokens(store, ledger):
    insert_rows(store, "spans", [row for case in CASES for one in requests(case) for row in rows(one)], SPAN_COLUMNS)
    ledger()
    billed = calls(store, *PERIOD).to_dicts()
    results = [scorer().score_case(case, billed) for case in CASES]
    assert [result for result in results if not result["right"]] == []
