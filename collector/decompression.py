"""Undoing Content-Encoding, never past the limit: what a bomb would unpack to is not unpacked."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pyarrow as pa

from collector.errors import BodyTooLargeError, InvalidBodyError, UnsupportedMediaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.settings import CollectorSettings

GZIP_WBITS, ZLIB_WBITS = 31, 15
# What a zstd body unpacks to is taken in parts of this size.
PART_BYTES = 1 << 20
# What stands behind a member in its slice is copied once; without slices that would be all of the rest, every time.
SLICE_BYTES = 64 * 1024
# The smallest members unpack to nothing: the size of what comes out does not bound how many there are. Programs that
# write members of 64 KiB, as some do, stay below this up to 128 MiB.
MEMBERS_MAX = 2048


def decompress(
    body: bytes, content_encoding: str, settings: CollectorSettings, take: Callable[[int], None] = lambda _: None
) -> bytes:
    """The body without its content encoding: none, identity, gzip, deflate (the zlib format) or zstd.

    `take` is told how many bytes were unpacked, as they are, and may raise to end it. Raises UnsupportedMediaError,
    InvalidBodyError or BodyTooLargeError.
    """
    limit = settings.decompressed_bytes_max
    name = content_encoding.strip().lower()
    if name in {"", "identity"}:
        return _within(limit, body)
    if not body:
        return body
    if name in {"gzip", "x-gzip"}:
        return _inflate(body, GZIP_WBITS, limit, take)
    if name == "deflate":
        return _inflate(body, ZLIB_WBITS, limit, take)
    if name == "zstd":
        return _unpack_zstd(body, limit, take)
    raise UnsupportedMediaError(f"expected content-encoding gzip, deflate, zstd or none, got {content_encoding!r}")


def _inflate(body: bytes, wbits: int, limit: int, take: Callable[[int], None]) -> bytes:
    """One or more gzip members, or one zlib stream."""
    view, parts, room = memoryview(body), list[bytes](), limit
    position = members = 0
    while position < len(body):
        members += 1
        if members > MEMBERS_MAX:
            raise BodyTooLargeError(f"expected at most {MEMBERS_MAX} gzip members in a body, got more: send one")
        stream = zlib.decompressobj(wbits)
        while not stream.eof:
            if position >= len(body):
                raise InvalidBodyError("expected a whole compressed body, got one that breaks off")
            packed = view[position : position + SLICE_BYTES]
            try:
                part = stream.decompress(packed, room + 1)
            except zlib.error as error:
                raise InvalidBodyError(f"expected a compressed body, got one that does not unpack ({error})") from error
            position += len(packed) - len(stream.unused_data)
            take(len(part))
            room -= len(part)
            if room < 0:
                raise _too_large(limit)
            parts.append(part)
        if wbits != GZIP_WBITS:
            break
    return b"".join(parts)


def _unpack_zstd(body: bytes, limit: int, take: Callable[[int], None]) -> bytes:
    parts, room = list[bytes](), limit
    try:
        with pa.input_stream(pa.BufferReader(body), compression="zstd") as stream:
            while part := bytes(stream.read(min(room + 1, PART_BYTES))):
                take(len(part))
                room -= len(part)
                if room < 0:
                    raise _too_large(limit)
                parts.append(part)
    except OSError as error:
        raise InvalidBodyError(f"expected a zstd body, got one that does not unpack ({error})") from error
    return b"".join(parts)


def _within(limit: int, body: bytes) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"expected at most {limit} bytes after decompression, got more: send smaller batches")
