"""How many messages a body holds, told before it is parsed.

Memory goes by messages and not by bytes: two bytes make an empty span, which takes some 170 when it is parsed.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np

from collector.errors import BodyTooLargeError
from collector.framing import FIXED64, LENGTH_DELIMITED, read_varint
from collector.protocol import Encoding
from collector.settings import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

    from collector.protocol import Signal

WIRE_TYPE, VARINT, FIXED32 = 7, 0, 5
# The parser's own limit; what is deeper it refuses.
DEPTH_MAX = 100
# Tags are looked for in parts of this size, so that looking takes no memory to speak of.
PART_BYTES = 1 << 20
# What is held for a message while it is read: an attribute is two messages of 25 to 50 bytes in the parser, a span one
# of 170; in JSON each is two dicts as well.
BYTES_A_MESSAGE = {Encoding.PROTOBUF: 64, Encoding.JSON: MESSAGE_BYTES_MAX}
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def messages_at_most(signal: Signal, body: bytes, encoding: Encoding, limit: int) -> int:
    """How many messages `body` holds, or somewhat more. Raises BodyTooLargeError when it is more than `limit`.

    In JSON every object and array counts as one, and so do two of their members. Only where the cheap upper bound
    is over the limit are they really counted.
    """
    if encoding is Encoding.JSON:
        found = _values(body)
        if found > limit:
            found = _values(_STRING.sub(b"", body))
    else:
        found = _tags(body)
        if found > limit:
            found = _count(body, cast("Descriptor", signal.request.DESCRIPTOR), limit)
    if found > limit:
        raise BodyTooLargeError(f"expected at most {limit} messages in a body, got more: send smaller batches")
    return found


def _values(body: bytes) -> int:
    return body.count(b"{") + body.count(b"[") + body.count(b",") // 2


def _tags(body: bytes) -> int:
    """Bytes that may begin the tag of a message: the low bits say that a length follows, however long the tag is."""
    octets = np.frombuffer(body, np.uint8)
    parts = (octets[start : start + PART_BYTES] for start in range(0, len(body), PART_BYTES))
    return sum(int(np.count_nonzero((part & WIRE_TYPE) == LENGTH_DELIMITED)) for part in parts)


def _count(body: bytes, descriptor: Descriptor, limit: int) -> int:
    """Messages in a protobuf body; those before the fault in one that the parser will refuse."""
    try:
        return _walk(body, descriptor, limit)
    except IndexError:  # it breaks off in a number
        return 0


def _walk(body: bytes, descriptor: Descriptor, limit: int) -> int:
    position, end, below = 0, len(body), _messages_of(descriptor)
    above: list[tuple[int, dict[int, Descriptor]]] = []
    found = 0
    while found <= limit:
        if position >= end:
            if position > end or not above:
                break
            end, below = above.pop()
            continue
        tag, position = _number(body, position)
        if tag & WIRE_TYPE != LENGTH_DELIMITED:
            position = _behind(body, tag & WIRE_TYPE, position)
            continue
        length, position = _number(body, position)
        if tag not in below:
            position += length
            continue
        found += 1
        if position + length > end or len(above) > DEPTH_MAX:
            break
        above.append((end, below))
        end, below = position + length, _messages_of(below[tag])
    return found


def _number(body: bytes, position: int) -> tuple[int, int]:
    """As read_varint; nearly all are of one byte."""
    byte = body[position]
    return (byte, position + 1) if byte < 128 else read_varint(body, position)


def _behind(body: bytes, wire_type: int, position: int) -> int:
    """Where a number that begins at `position` ends; the marks of a group have nothing behind them."""
    if wire_type == VARINT:
        return read_varint(body, position)[1]
    return position + {FIXED64: 8, FIXED32: 4}.get(wire_type, 0)


@cache
def _messages_of(descriptor: Descriptor) -> dict[int, Descriptor]:
    """A message's fields that are messages, by tag."""
    return {
        field.number << 3 | LENGTH_DELIMITED: field.message_type for field in descriptor.fields if field.message_type
    }
