"""Reading back the rows that collector/framing.py writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from collector.framing import FIXED64, LENGTH_DELIMITED, Row, read_varint, varint
from storage import otlp

if TYPE_CHECKING:
    from collections.abc import Iterator


def canonical_rows(payload: bytes) -> Iterator[tuple[bytes, int]]:
    """The framed rows of a payload, each without what the official parser keeps but does not know, and its spans.

    A row that cannot be taken apart comes back as it is and counts as one span: whatever it holds, it is not lost.
    """
    for row in split(payload):
        try:
            yield _canonical(row)
        except (DecodeError, ValueError):
            yield Row(row, b"").framed(), 1


def _canonical(row: bytes) -> tuple[bytes, int]:
    message = ResourceSpans.FromString(row)
    own = row[len(row) - own_bytes(message) :]
    message.DiscardUnknownFields()
    spans = sum(len(scope_spans.spans) for scope_spans in message.scope_spans)
    return Row(message.SerializeToString(), own).framed(), spans


def split(payload: bytes) -> Iterator[bytes]:
    """The rows of a payload without their lengths."""
    position = 0
    while position < len(payload):
        length, position = read_varint(payload, position)
        yield payload[position : position + length]
        position += length


def own_bytes(row: ResourceSpans) -> int:
    """How many bytes Pennytrace's own fields take at the end of a row.

    They begin with the last service field: a sender's own field of that number stands in front of it.
    """
    unknown = UnknownFieldSet(row)
    fields = [unknown[position] for position in range(len(unknown))]
    numbers = [field.field_number for field in fields]
    first = len(numbers) - 1 - numbers[::-1].index(otlp.SERVICE_FIELD)
    return sum(_field_bytes(field.field_number, field.wire_type, field.data) for field in fields[first:])


def _field_bytes(number: int, wire_type: int, data: bytes) -> int:
    tag = len(varint(number << 3 | wire_type))
    if wire_type == FIXED64:
        return tag + 8
    if wire_type == LENGTH_DELIMITED:
        return tag + len(varint(len(data))) + len(data)
    raise ValueError(f"expected own fields of wire type {FIXED64} or {LENGTH_DELIMITED}, got {wire_type}")
