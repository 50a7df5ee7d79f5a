"""Sound bodies made unsound, each mutation after what has gone wrong in other receivers."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from google.protobuf.descriptor import FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.fuzz.seeds import JSON, PROTOBUF, Seed

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

BOMB_BYTES = 100 << 20
# One in so many bodies is a bomb: unpacking to the limit takes a tenth of a second.
BOMB_EVERY = 200
VARINT_MAX = b"\xff" * 9 + b"\x01"
VARINT_ENDLESS = b"\xff" * 12
ODD_VALUES: list[Any] = [
    None, True, "", "\ud800", "NaN", "-Infinity", -1, 2**63, 2**64, 1e400, 0.1, [], {}, "9" * 400, [[]], {"": {}},
]  # fmt: skip
ODD_SCALARS: dict[int, list[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: [0, -1, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_INT64: [0, -1, 2**63 - 1, -(2**63)],
    FieldDescriptor.CPPTYPE_UINT32: [0, 1, 2**32 - 1],
    FieldDescriptor.CPPTYPE_UINT64: [0, 1, 2**63 - 1, 2**63, 2**64 - 1],
    FieldDescriptor.CPPTYPE_DOUBLE: [0.0, -0.0, 5e-324, 1.8e308 / 2, float("inf"), float("-inf"), float("nan")],
    FieldDescriptor.CPPTYPE_BOOL: [True, False],
    FieldDescriptor.CPPTYPE_ENUM: [0, 1, 7, 99, -1, 2**31 - 1],
    FieldDescriptor.CPPTYPE_STRING: ["", "\x00", "'\\\t\n", "\U0010ffff", "x" * 100_000, "é" * 333],
}
MESSAGES = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
CONTENT_TYPES = [PROTOBUF, JSON, "application/grpc", "text/plain", "", "application/json; charset=utf-16", "x" * 3000]
ENCODINGS = ["", "gzip", "deflate", "zstd", "br", "identity", "gzip, gzip", "unheard-of"]


@dataclass(frozen=True)
class Attack:
    """One request; `kind` names the mutation in reports."""

    kind: str
    signal: str
    content_type: str
    content_encoding: str
    body: bytes


class Mutator:
    """Endless attacks made of `seeds`, the same ones for the same randomness."""

    def __init__(self, seeds: list[Seed], random: random.Random) -> None:
        self._seeds = seeds
        self._random = random
        zeros = bytes(BOMB_BYTES)
        self._bombs = [("gzip", gzip.compress(zeros)), ("deflate", zlib.compress(zeros)), ("zstd", zstd(zeros))]
        self._binary: list[Callable[[bytes], bytes]] = [
            self._flip, self._truncate, self._splice, self._insert_varint, self._repeat, self._swap_wire_type,
            self._nest, self._grow_length,
        ]  # fmt: skip

    def next(self) -> Attack:
        """One more."""
        random = self._random
        seed = random.choice(self._seeds)
        if random.randrange(BOMB_EVERY) == 0:
            encoding, bomb = random.choice(self._bombs)
            return Attack("bomb", seed.signal, seed.content_type, encoding, bomb)
        if seed.content_type == JSON and random.random() < 0.7:
            kind, body = "json", self._mutate_json(seed.body)
        elif random.random() < 0.4:
            kind, body = "odd_fields", self._set_odd_fields(seed)
        else:
            mutate = random.choice(self._binary)
            kind, body = mutate.__name__.strip("_"), mutate(seed.body)
            for _ in range(random.choice([0, 0, 1, 3])):
                body = random.choice(self._binary)(body)
        if random.random() < 0.1:
            return Attack("headers", seed.signal, random.choice(CONTENT_TYPES), random.choice(ENCODINGS), body)
        if random.random() < 0.2:
            return self._packed(seed, kind, body)
        return Attack(kind, seed.signal, seed.content_type, "", body)

    def _packed(self, seed: Seed, kind: str, body: bytes) -> Attack:
        encoding, pack = self._random.choice([("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd)])
        packed = pack(body)
        if self._random.random() < 0.3:
            kind, packed = f"packed_{kind}", self._random.choice(self._binary)(packed)
        return Attack(kind, seed.signal, seed.content_type, encoding, packed)

    def _flip(self, body: bytes) -> bytes:
        if not body:
            return body
        changed = bytearray(body)
        for _ in range(self._random.choice([1, 1, 1, 2, 8, 64])):
            changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _truncate(self, body: bytes) -> bytes:
        return body[: self._random.randrange(len(body) + 1)]

    def _splice(self, body: bytes) -> bytes:
        other = self._random.choice(self._seeds).body
        return body[: self._at(body)] + other[self._at(other) :]

    def _insert_varint(self, body: bytes) -> bytes:
        at = self._at(body)
        return body[:at] + self._random.choice([VARINT_MAX, VARINT_ENDLESS, b"\x80" * 9 + b"\x00"]) + body[at:]

    def _repeat(self, body: bytes) -> bytes:
        first, last = sorted((self._at(body), self._at(body)))
        return body[:first] + body[first:last] * self._random.choice([2, 3, 50]) + body[last:]

    def _swap_wire_type(self, body: bytes) -> bytes:
        if not body:
            return body
        at = self._random.randrange(len(body))
        return body[:at] + bytes([body[at] & 0xF8 | self._random.randrange(8)]) + body[at + 1 :]

    def _nest(self, body: bytes) -> bytes:
        """A span attribute that holds key-value lists in key-value lists."""
        value = b""
        for _ in range(self._random.choice([5, 98, 101, 2000])):
            pair = _field(2, value)
            value = _field(6, _field(1, pair))
            if len(value) > 200_000:
                break
        span = _field(9, _field(1, b"deep") + _field(2, value))
        return body + _field(1, _field(2, _field(2, span)))

    def _grow_length(self, body: bytes) -> bytes:
        at = self._at(body)
        return body[:at] + _varint(self._random.choice([2**31 - 1, 2**31, 2**32, 2**63])) + body[at + 1 :]

    def _set_odd_fields(self, seed: Seed) -> bytes:
        """A body that the parser takes and that says strange things."""
        message = MESSAGES[seed.signal]()
        if seed.content_type == JSON:
            return self._flip(seed.body)
        message.ParseFromString(seed.body)
        for _ in range(self._random.choice([1, 1, 2, 5])):
            owner, descriptor = self._random.choice(_scalars(message))
            odd = self._random.choice(ODD_SCALARS[descriptor.cpp_type])
            if descriptor.type == descriptor.TYPE_BYTES:
                odd = self._random.randbytes(self._random.choice([0, 1, 7, 8, 9, 16, 17, 4000]))
            if descriptor.is_repeated:
                getattr(owner, descriptor.name).append(odd)
            else:
                setattr(owner, descriptor.name, odd)
        return message.SerializeToString()

    def _mutate_json(self, body: bytes) -> bytes:
        random = self._random
        if random.random() < 0.1:
            depth = random.choice([50, 99, 101, 5000])
            return b'{"resourceSpans":' + b"[" * depth + b"]" * depth + b"}"
        document = json.loads(body)
        for _ in range(random.choice([1, 1, 2, 5])):
            node, key = random.choice(_places(document))
            node[key] = random.choice([*ODD_VALUES, document]) if random.random() < 0.9 else {key: node[key]}
            document = json.loads(_dump(document))
        return _dump(document)

    def _at(self, body: bytes) -> int:
        return self._random.randrange(len(body) + 1)


def _scalars(message: Any) -> list[tuple[Any, FieldDescriptor]]:
    """Every scalar field of the messages that are there, set or not."""
    found: list[tuple[Any, FieldDescriptor]] = []
    pending = [message]
    while pending:
        node = pending.pop()
        for descriptor in node.DESCRIPTOR.fields:
            if descriptor.message_type is None:
                found.append((node, descriptor))
            elif descriptor.is_repeated:
                pending += getattr(node, descriptor.name)
            elif node.HasField(descriptor.name):
                pending.append(getattr(node, descriptor.name))
    return found


def zstd(body: bytes) -> bytes:
    """One zstd frame."""
    return bytes(pa.compress(body, codec="zstd", asbytes=True))


def _dump(document: object) -> bytes:
    """JSON, a document that holds itself cut off there."""
    seen: list[int] = []

    def plain(node: object) -> object:
        if id(node) in seen:
            return None
        seen.append(id(node))
        try:
            if isinstance(node, dict):
                return {str(key): plain(value) for key, value in node.items()}
            return [plain(each) for each in node] if isinstance(node, list) else node
        finally:
            seen.pop()

    return json.dumps(plain(document)).encode()


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every place in the document that holds a value."""
    found: list[tuple[Any, Any]] = []
    pending = [document]
    while pending:
        node = pending.pop()
        entries = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in entries:
            found.append((node, key))
            if isinstance(value, dict | list):
                pending.append(value)
    return found or [({}, "")]


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
