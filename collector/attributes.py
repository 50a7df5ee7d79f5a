"""Attribute values as plain Python and as text."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


def plain(value: AnyValue) -> object:
    """An attribute value as JSON can hold it; bytes become base64, as OTLP JSON writes them."""
    which = value.WhichOneof("value")
    if which == "array_value":
        return [plain(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return plain_map(value.kvlist_value.values)
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, which) if which else None


def plain_map(attributes: Iterable[KeyValue]) -> dict[str, object]:
    """Attributes by key; the last of several values of a key counts."""
    return {attribute.key: plain(attribute.value) for attribute in attributes}


def as_json(attributes: Iterable[KeyValue]) -> bytes:
    """Attributes as one JSON object in UTF-8."""
    return orjson.dumps(plain_map(attributes))


def text(value: AnyValue) -> str:
    """A value as the engine writes those of spans: scalars bare, whole doubles without a point, null empty.

    Arrays and key-value lists are JSON here (spans keep them raw).
    """
    which = value.WhichOneof("value")
    if which == "string_value":
        return value.string_value
    if which == "double_value":
        return repr(value.double_value).removesuffix(".0")
    if which in {None, "bytes_value"}:
        return str(plain(value) or "")
    return orjson.dumps(plain(value)).decode()
