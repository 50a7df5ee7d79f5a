"""One trace, back from its rows as the OTLP messages that were sent.

Kept: every field of spans, scopes and resources that OTLP defines. Not kept: fields that it does not define, what
the collector drops on the way in (message content, unless that is switched on), in which order spans came and in
how many requests, the difference between a message left out and an empty one, and which not-a-number a double was.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from storage.store import named_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.store import Store

# A trace of more spans is a loop that never ends its trace; nobody reads it whole, and memory is bounded.
TRACE_SPANS_MAX = 100_000
NO_PARENT = bytes(8)
TRACE_ID_BYTES = 16

Row = dict[str, Any]


def find_trace(store: Store, trace_id: bytes) -> TracesData:
    """The trace of this 16-byte id, of all tenants; without spans when there is none.

    More than TRACE_SPANS_MAX spans say that there are more, and which came last. Spans stand
    in the order in which they started. Raises StoreError.
    """
    if len(trace_id) != TRACE_ID_BYTES:
        raise ValueError(f"expected a trace id of {TRACE_ID_BYTES} bytes, got {len(trace_id)}")
    parameters = {
        "trace_id": trace_id.hex(),
        "spans_max": TRACE_SPANS_MAX + 1,
    }
    # Raw messages are no text, so every string comes as bytes.
    rows = store.frame_of(named_query("trace"), parameters, {"output_format_arrow_string_as_string": 0})
    return _assembled(rows.sort("start_ns", "span_id").to_dicts())


def otlp_json(trace: TracesData) -> dict[str, Any]:
    """The trace as OTLP's own JSON: ids in hex, enums as numbers, 64-bit integers as strings."""
    document: dict[str, Any] = MessageToDict(trace, use_integers_for_enums=True)
    for span, message in zip(_json_spans(document), _spans(trace), strict=True):
        _name_ids(span, message)
        for link, linked in zip(span.get("links", []), message.links, strict=True):
            _name_ids(link, linked)
    return document


def _name_ids(shown: dict[str, Any], message: Span | Span.Link) -> None:
    shown |= {"traceId": message.trace_id.hex(), "spanId": message.span_id.hex()}
    if isinstance(message, Span) and message.parent_span_id:
        shown["parentSpanId"] = message.parent_span_id.hex()


def _json_spans(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource_spans in document.get("resourceSpans", []):
        for scope_spans in resource_spans.get("scopeSpans", []):
            yield from scope_spans.get("spans", [])


def _spans(trace: TracesData) -> Iterator[Span]:
    for resource_spans in trace.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from scope_spans.spans


def _assembled(rows: list[Row]) -> TracesData:
    trace = TracesData()
    resources: dict[tuple[bytes, ...], ResourceSpans] = {}
    scopes: dict[tuple[bytes, ...], ScopeSpans] = {}
    for row in rows:
        of_resource = (row["resource_message"], row["resource"], row["resource_schema_url"])
        if of_resource not in resources:
            resources[of_resource] = trace.resource_spans.add(
                resource=_resource(row), schema_url=_text(row["resource_schema_url"])
            )
        of_scope = (*of_resource, row["scope"], row["scope_schema_url"])
        if of_scope not in scopes:
            scopes[of_scope] = resources[of_resource].scope_spans.add(
                scope=InstrumentationScope.FromString(row["scope"]), schema_url=_text(row["scope_schema_url"])
            )
        scopes[of_scope].spans.append(_span(row))
    return trace


def _resource(row: Row) -> Resource:
    if row["resource_message"] or not row["resource"]:
        return Resource.FromString(row["resource_message"])
    # Rows from before 0005_lossless_spans.sql have the JSON only.
    known: dict[str, object] = json.loads(row["resource"])
    return Resource(attributes=[KeyValue(key=key, value=_from_json(value)) for key, value in known.items()])


def _from_json(value: object) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case None:
            return AnyValue()
        case _:
            return AnyValue(string_value=json.dumps(value))


def _span(row: Row) -> Span:
    parent: bytes = row["parent_span_id"]
    return Span(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        trace_state=_text(row["trace_state"]),
        parent_span_id=b"" if parent == NO_PARENT else parent,
        flags=row["flags"],
        name=_text(row["name"]),
        kind=row["kind"],
        start_time_unix_nano=row["start_ns"],
        end_time_unix_nano=row["start_ns"] + row["duration_ns"] - row["end_before_start_ns"],
        attributes=_attributes(row),
        dropped_attributes_count=row["dropped_attributes"],
        events=[Span.Event.FromString(raw) for raw in row["events"]],
        dropped_events_count=row["dropped_events"],
        links=[Span.Link.FromString(raw) for raw in row["links"]],
        dropped_links_count=row["dropped_links"],
        status=Status(code=row["status_code"], message=_text(row["status_message"])),
    )


def _attributes(row: Row) -> list[KeyValue]:
    parts = zip(row["attribute_keys"], row["attribute_values"], _text(row["attribute_type_codes"]), strict=True)
    return [KeyValue(key=_text(key), value=_value(code, value)) for key, value, code in parts]


def _value(code: str, value: bytes) -> AnyValue:
    """A value from its text; `code` is the number of the AnyValue field that it came in."""
    match code:
        case "1":
            return AnyValue(string_value=_text(value))
        case "2":
            return AnyValue(bool_value=value == b"true")
        case "3":
            return AnyValue(int_value=int(value))
        case "4":
            return AnyValue(double_value=float(value))
        case "5":
            return AnyValue(array_value=ArrayValue.FromString(value))
        case "6":
            return AnyValue(kvlist_value=KeyValueList.FromString(value))
        case "7":
            return AnyValue(bytes_value=value)
        case _:
            return AnyValue()


def _text(value: bytes) -> str:
    return value.decode()
