"""From a trace request to rows that the engine decodes.

A row is one ResourceSpans message as the sender wrote it, with Pennytrace's own fields behind it: the last
value of a field wins, so a body that carries those field numbers cannot choose its tenant.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from collector import attributes
from storage import otlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

    from collector.content import ContentFilter
    from collector.window import Window

LENGTH_DELIMITED, FIXED64 = 2, 1
RESOURCE_SPANS_TAG = 1 << 3 | LENGTH_DELIMITED


@dataclass(frozen=True, slots=True)
class Row:
    """One ResourceSpans message and the own fields that go behind it."""

    message: bytes | memoryview
    own: bytes

    def framed(self) -> bytes:
        """The row as the engine reads it: its length, then its bytes."""
        return b"".join((varint(len(self.message) + len(self.own)), self.message, self.own))


@dataclass(frozen=True, slots=True)
class SpanBody:
    """What one trace request holds; the rest of it was rejected (reason -> spans)."""

    rows: tuple[Row, ...]
    items: int
    rejected: Mapping[str, int] = field(default_factory=dict[str, int])
    content_dropped: int = 0
    """Texts that went because message content is not kept."""

    @property
    def size_bytes(self) -> int:
        """Bytes of its rows."""
        return sum(len(row.message) + len(row.own) for row in self.rows)


def frame(
    request: ExportTraceServiceRequest,
    raw: bytes | None,
    window: Window,
    tenant: str,
    content: ContentFilter,
) -> SpanBody:
    """Rows of the spans in `request` whose ids and times are sound, without the content that is not kept.

    `raw` is what `request` was parsed from: messages from which nothing is taken go on as their own bytes. None
    when the request did not come as protobuf.
    """
    rejected: Counter[str] = Counter()
    counts = [_drop_faulty(resource_spans, window, rejected) for resource_spans in request.resource_spans]
    edits = content.strip_spans(request, raw)
    slices = message_slices(raw, counts) if raw is not None and not rejected else None
    rows = tuple(
        Row(
            slices[position]
            if slices is not None and not edits[position].is_one
            else resource_spans.SerializeToString(),
            own_fields(resource_spans.resource, tenant, window.received_ns),
        )
        for position, resource_spans in enumerate(request.resource_spans)
        if counts[position]
    )
    return SpanBody(rows, sum(counts), rejected, sum(edit.dropped for edit in edits))


# OTLP calls ids of zeros invalid; stored, all such spans would be one.
NO_TRACE_ID, NO_SPAN_ID = bytes(16), bytes(8)


def fault(span: Span, window: Window) -> str | None:
    """Why a span cannot be stored; None when it can."""
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != 16 or trace_id == NO_TRACE_ID:
        return "bad_trace_id"
    if len(span_id) != 8 or span_id == NO_SPAN_ID:
        return "bad_span_id"
    if len(span.parent_span_id) not in {0, 8}:
        return "bad_parent_span_id"
    if not window.oldest_ns <= span.start_time_unix_nano <= window.newest_ns:
        return "start_time_outside_window"
    if span.end_time_unix_nano > window.newest_ns:
        return "end_time_outside_window"
    return None


def own_fields(resource: Resource, tenant: str, received_ns: int) -> bytes:
    """The fields that Pennytrace puts behind a ResourceSpans message."""
    return b"".join(
        (
            _bytes_field(otlp.SERVICE_FIELD, service_name(resource).encode()),
            _bytes_field(otlp.RESOURCE_FIELD, attributes.as_json(resource.attributes)),
            _bytes_field(otlp.TENANT_FIELD, tenant.encode()),
            varint(otlp.RECEIVED_FIELD << 3 | FIXED64),
            received_ns.to_bytes(8, "little"),
        )
    )


def service_name(resource: Resource) -> str:
    """The resource's service.name, '' when it has none."""
    names = [attributes.text(each.value) for each in resource.attributes if each.key == "service.name"]
    return names[-1] if names else ""


def varint(value: int) -> bytes:
    """A non-negative integer in protobuf's variable length."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(raw: bytes, position: int) -> tuple[int, int]:
    """The integer at `position`, and where it ends. Raises IndexError when it breaks off."""
    value = shift = 0
    while True:
        byte = raw[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def message_slices(raw: bytes, counts: Sequence[int]) -> list[memoryview] | None:
    """The ResourceSpans messages in an accepted request, uncopied; None when it has fields besides them.

    Those that hold no spans by `counts` come out empty: there may be very many of them.
    """
    view, position, slices = memoryview(raw), 0, list[memoryview]()
    nothing = view[:0]
    while position < len(raw):
        tag, position = read_varint(raw, position)
        if tag != RESOURCE_SPANS_TAG:
            return None
        length, position = read_varint(raw, position)
        slices.append(view[position : position + length] if counts[len(slices)] else nothing)
        position += length
    return slices


def _drop_faulty(resource_spans: ResourceSpans, window: Window, rejected: Counter[str]) -> int:
    """Take the spans that cannot be stored out of the message; returns how many are left."""
    kept = 0
    for scope_spans in resource_spans.scope_spans:
        spans = scope_spans.spans
        reasons = [fault(span, window) for span in spans]
        faulty = [reason for reason in reasons if reason]
        kept += len(reasons) - len(faulty)
        if faulty:
            rejected.update(faulty)
            sound = cast("Sequence[Span]", [span for span, reason in zip(spans, reasons, strict=True) if not reason])
            del spans[:]
            spans.extend(sound)
    return kept


def _bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(value)) + value
