"""How groups lie in a segment file, one behind the other:

    magic 4 · payload bytes u32 · items u32 · bodies u32 · payload crc32 u32 · header crc32 u32 · payload

Little-endian. Both checksums start from the salt, which is the file's name: it has a random part that no sender
knows, so bytes in a payload that look like a group are none, even where damage has to be searched through.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

# The last character is the version of the format.
MAGIC = b"PTJ1"
FIELDS = struct.Struct("<4sIIII")
CHECK = struct.Struct("<I")
HEADER_BYTES = FIELDS.size + CHECK.size


@dataclass(frozen=True, slots=True)
class Group:
    """What one append wrote: the rows of one or more bodies, as their signal's payload."""

    payload: bytes | memoryview
    items: int
    bodies: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in a segment."""

    groups: tuple[Group, ...] = ()
    whole_bytes: int = 0
    """Up to the end of the last whole group; what is behind it is a torn tail."""
    damaged: bool = False
    """Whether there is anything else before the end of the last whole group."""

    @property
    def items(self) -> int:
        """Items of the whole groups."""
        return sum(group.items for group in self.groups)

    @property
    def bodies(self) -> int:
        """Bodies of the whole groups."""
        return sum(group.bodies for group in self.groups)


def encode(group: Group, salt: bytes) -> bytes:
    """The group as it stands in the file."""
    seed = zlib.crc32(salt)
    fields = FIELDS.pack(MAGIC, len(group.payload), group.items, group.bodies, zlib.crc32(group.payload, seed))
    return b"".join((fields, CHECK.pack(zlib.crc32(fields, seed)), group.payload))


def scan(data: bytes, salt: bytes) -> Scan:
    """All whole groups in `data`, whatever else is in it; their payloads are views of it."""
    seed = zlib.crc32(salt)
    view, groups = memoryview(data), list[Group]()
    position, whole_bytes, damaged = 0, 0, False
    while position >= 0:
        group = _group_at(view, position, seed)
        if group is None:
            position = data.find(MAGIC, position + 1)
            continue
        damaged = damaged or position != whole_bytes
        groups.append(group)
        position = whole_bytes = position + HEADER_BYTES + len(group.payload)
    return Scan(tuple(groups), whole_bytes, damaged)


def is_unfinished(tail: bytes, salt: bytes) -> bool:
    """Whether what stands behind the last whole group is the beginning of one, and surely not all of it.

    Such a group was still being written. Of any other tail nobody knows whether it was once whole.
    """
    if len(tail) < HEADER_BYTES:
        return True
    fields, (check,) = tail[: FIELDS.size], CHECK.unpack_from(tail, FIELDS.size)
    magic, size, *_ = FIELDS.unpack(fields)
    is_header = magic == MAGIC and zlib.crc32(fields, zlib.crc32(salt)) == check
    return is_header and len(tail) < HEADER_BYTES + int(size)


def _group_at(view: memoryview, position: int, seed: int) -> Group | None:
    start = position + HEADER_BYTES
    if start > len(view):
        return None
    fields = view[position : position + FIELDS.size]
    (check,) = CHECK.unpack_from(view, position + FIELDS.size)
    if zlib.crc32(fields, seed) != check:
        return None
    magic, size, items, bodies, checksum = FIELDS.unpack(fields)
    payload = view[start : start + size]
    if magic != MAGIC or len(payload) != size or zlib.crc32(payload, seed) != checksum:
        return None
    return Group(payload, items, bodies)
