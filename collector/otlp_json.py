"""OTLP JSON into messages of the official parser.

A plan for each message type is made once of its descriptor; with it a parsed JSON document becomes keyword arguments,
and the parser's own constructor checks and copies them in C. protobuf's general json_format, which this is tested
against, takes ten times as long. What OTLP says other than protobuf's JSON mapping: ids are hex.
"""

from __future__ import annotations

import binascii
import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, EnumDescriptor
    from google.protobuf.message import Message

    Convert = Callable[[Any, int], object]

# The parser's own limit for protobuf is 100 messages deep; the same for JSON.
DEPTH_MAX = 100
HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})
NOT_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_SKIP = object()
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,4})?")
_DIGITS_MAX = 20
_ONE_ALPHABET = str.maketrans("-_", "+/")


def build(message_type: type[Message], document: object) -> Message:
    """The message that a JSON document describes; fields that OTLP does not know are ignored.

    Raises TypeError, ValueError, OverflowError or RecursionError when it does not describe one.
    """
    arguments: dict[str, object] = _plan(message_type.DESCRIPTOR).arguments(document, 1)
    return message_type(**arguments)


class _Field(NamedTuple):
    name: str
    convert: Convert | None
    """None where the parser's own check of the type is enough."""
    is_repeated: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do with each member of a message's JSON object, by lowerCamelCase and by proto name."""

    name: str
    fields: dict[str, _Field] = field(default_factory=dict[str, _Field])
    oneofs: dict[str, str] = field(default_factory=dict[str, str])

    def arguments(self, node: object, depth: int) -> dict[str, object]:
        """Keyword arguments for the message's constructor."""
        if not isinstance(node, dict):
            raise TypeError(f"expected an object for {self.name}, got {_said(node)}")
        if depth > DEPTH_MAX:
            raise RecursionError(f"expected at most {DEPTH_MAX} messages in each other")
        members = cast("dict[str, object]", node)
        if self.oneofs and len(members) > 1:
            self._require_one_of_each(members)
        found: dict[str, object] = {}
        for key, value in members.items():
            known = self.fields.get(key)
            if known is None or value is None:
                continue
            name, convert, is_repeated = known
            if is_repeated:
                value = _items(key, value, convert, depth)  # noqa: PLW2901 (the loop is the hot path)
            elif convert:
                value = convert(value, depth)  # noqa: PLW2901 (as above)
            if value is not _SKIP:
                found[name] = value
        return found

    def _require_one_of_each(self, members: dict[str, object]) -> None:
        named = [self.oneofs[key] for key, value in members.items() if key in self.oneofs and value is not None]
        if len(named) != len(set(named)):
            raise ValueError(f"expected one {named[0]} in {self.name}, got several")


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    plan = _Plan(descriptor.name)
    for one in descriptor.fields:
        for key in (one.name, one.camelcase_name):
            plan.fields[key] = _Field(one.name, _converter(one), one.is_repeated)
            if one.containing_oneof:
                plan.oneofs[key] = one.containing_oneof.name
    return plan


def _items(key: str, value: object, convert: Convert | None, depth: int) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected an array for {key!r}, got {_said(value)}")
    items = cast("list[object]", value)
    if convert is None:
        return items
    return [item for item in [convert(item, depth) for item in items] if item is not _SKIP]


def _converter(one: FieldDescriptor) -> Convert | None:
    if one.message_type:
        return _message(one.message_type)
    if one.enum_type:
        return _enum(one.enum_type)
    if one.type == FieldDescriptor.TYPE_BYTES:
        return _hex if one.name in HEX_FIELDS else _base64
    return _SCALARS[one.cpp_type]


def _message(descriptor: Descriptor) -> Convert:
    """Its plan is made when it is first needed, because messages hold each other."""
    plans: list[_Plan] = []

    def convert(value: object, depth: int) -> object:
        if not plans:
            plans.append(_plan(descriptor))
        return plans[0].arguments(value, depth + 1)

    return convert


def _enum(descriptor: EnumDescriptor) -> Convert:
    numbers = {value.name: value.number for value in descriptor.values}

    def convert(value: object, depth: int) -> object:
        if isinstance(value, str) and not value.lstrip("-").isdecimal():
            return numbers.get(value, _SKIP)
        return _integer(value, depth)

    return convert


def _bool(value: object, _depth: int) -> object:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {_said(value)}")
    return value


def _integer(value: object, _depth: int) -> object:
    """64-bit numbers come as strings or as numbers; JavaScript may write a whole one as 3.0 or 1e21."""
    if type(value) is int:
        return value
    if isinstance(value, str):
        return int(value) if value.removeprefix("-").isdecimal() else _whole(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise TypeError(f"expected a whole number, got {_said(value)}")


def _whole(text: str) -> int:
    number = Decimal(text) if _NUMBER.fullmatch(text) else Decimal("NaN")
    # Any longer is no 64-bit number, and takes long to write out.
    if not number.is_finite() or number.adjusted() >= _DIGITS_MAX or number != number.to_integral_value():
        raise ValueError(f"expected a whole number, got {_said(text)}")
    return int(number)


def _double(value: object, _depth: int) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return NOT_NUMBERS[value] if value in NOT_NUMBERS else _finite(value)
    raise TypeError(f"expected a number, got {_said(value)}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {_said(text)}")
    return number


def _hex(value: object, _depth: int) -> object:
    if not isinstance(value, str):
        raise TypeError(f"expected an id in hex, got {_said(value)}")
    return binascii.unhexlify(value)


def _base64(value: object, _depth: int) -> object:
    """Either alphabet, padded or not."""
    if not isinstance(value, str):
        raise TypeError(f"expected base64, got {_said(value)}")
    padding = "" if value.endswith("=") else "=" * (-len(value) % 4)
    return binascii.a2b_base64(value.translate(_ONE_ALPHABET) + padding, strict_mode=True)


def _said(value: object) -> str:
    return repr(value)[:50]


_SCALARS: dict[int, Convert | None] = {
    FieldDescriptor.CPPTYPE_STRING: None,
    FieldDescriptor.CPPTYPE_BOOL: _bool,
    FieldDescriptor.CPPTYPE_DOUBLE: _double,
    FieldDescriptor.CPPTYPE_FLOAT: _double,
    FieldDescriptor.CPPTYPE_INT32: _integer,
    FieldDescriptor.CPPTYPE_INT64: _integer,
    FieldDescriptor.CPPTYPE_UINT32: _integer,
    FieldDescriptor.CPPTYPE_UINT64: _integer,
}
