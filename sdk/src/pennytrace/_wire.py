"""The protobuf wire format of OTLP's common messages: varints, fields, attributes.

https://protobuf.dev/programming-guides/encoding and opentelemetry-proto's common.proto. Keys, small numbers and
the framing of strings are encoded once and kept, in caches with a bound; building protobuf objects costs
some twenty times as much.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping, Sequence
from typing import Final

_log = logging.getLogger("pennytrace")

CACHED_KEYS_MAX: Final = 64
"""Attribute keys are few; a program that makes them up starts the cache again."""
CACHED_VALUES_MAX: Final = 1_024
"""Per key: counts of tokens, or lengths of strings, that came before."""
_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_DOUBLE = struct.Struct("<Bd")


def varint(number: int) -> bytes:
    """A whole number of at least 0, seven bits to a byte, the least significant first."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    low: list[int] = []
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*low, number))


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field: a message, a string or bytes."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def text(value: str) -> bytes:
    """UTF-8. A lone surrogate, which UTF-8 cannot say, becomes a question mark: a decoder would refuse the batch."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="replace")


def any_value(value: object) -> bytes:
    """An `AnyValue`; raises ValueError for what OTLP has no type for."""
    match value:
        case None:
            return b""
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case str():
            return field(1, text(value))
        case int() if _INT64_MIN <= value <= _INT64_MAX:
            return b"\x18" + varint(int(value) & 0xFFFF_FFFF_FFFF_FFFF)
        case float():
            return _DOUBLE.pack(0x21, value)
        case bytes():
            return field(7, value)
        case Sequence():
            return field(5, b"".join([field(1, any_value(item)) for item in value]))
        case Mapping():
            return field(6, b"".join([field(1, key_value(str(key), item)) for key, item in value.items()]))
        case _:
            raise ValueError(
                f"expected an attribute value of an OpenTelemetry type, got {value!r}; use a string or a 64-bit number"
            )


def key_value(key: str, value: object) -> bytes:
    """A `KeyValue`."""
    name = text(key)
    return (field(1, name) if name else b"") + field(2, any_value(value))


def attributes(number: int, values: Mapping[str, object] | None) -> bytes:
    """Every attribute as field `number`; one that cannot be said is left out, as OpenTelemetry's exporter does."""
    out: list[bytes] = []
    for key, value in (values or {}).items():
        try:
            out.append(field(number, key_value(key, value)))
        except ValueError as error:
            _log.warning("An attribute cannot be exported and is left out", extra={"key": key, "reason": str(error)})
    return b"".join(out)


class _Counts(dict[int, bytes]):
    """One key with whole numbers from 0, as field 9: the whole attribute, kept by the number."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def __missing__(self, number: int) -> bytes:
        if len(self) >= CACHED_VALUES_MAX:
            self.clear()
        self[number] = encoded = attributes(9, {self._key: number})
        return encoded


class _Framing(dict[int, bytes]):
    """One key with a string, as field 9: all that comes before the string's own bytes, kept by their number."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = text(key)

    def __missing__(self, length: int) -> bytes:
        if len(self) >= CACHED_VALUES_MAX:
            self.clear()
        said = b"\x0a" + varint(length)
        value = b"\x12" + varint(len(said) + length) + said
        head = field(1, self._key) + value
        self[length] = encoded = b"\x4a" + varint(len(head) + length) + head
        return encoded


class SpanAttributes(dict[str, tuple[_Counts, _Framing]]):
    """Encodes a span's attributes (field 9 of `Span`). Bounded; safe to share, since an entry is never changed."""

    def __missing__(self, key: str) -> tuple[_Counts, _Framing]:
        if len(self) >= CACHED_KEYS_MAX:
            self.clear()
        self[key] = made = (_Counts(key), _Framing(key))
        return made

    def add_to(self, out: list[bytes], values: Mapping[str, object]) -> None:
        """Append the bytes of every attribute."""
        for key, value in values.items():
            kind = type(value)
            if kind is int:
                out.append(self[key][0][value])  # type: ignore[index] # an int, as mypy cannot tell from its type
            elif kind is str and key:
                said = text(value)  # type: ignore[arg-type] # likewise
                out.append(self[key][1][len(said)])
                out.append(said)
            else:
                out.append(attributes(9, {key: value}))


class Sizes(dict[int, bytes]):
    """The framing of a message of so many bytes, as field 2."""

    def __missing__(self, length: int) -> bytes:
        if len(self) >= CACHED_VALUES_MAX:
            self.clear()
        self[length] = encoded = b"\x12" + varint(length)
        return encoded
