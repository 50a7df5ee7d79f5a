"""Undoing Content-Encoding, never past the limit: what a bomb would unpack to is not unpacked."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pyarrow as pa

from collector.errors import BodyTooLargeError, InvalidBodyError, UnsupportedMediaError

if TYPE_CHECKING:
    from collector.settings import CollectorSettings

GZIP_WBITS, ZLIB_WBITS = 31, 15


def decompress(body: bytes, content_encoding: str, settings: CollectorSettings) -> bytes:
    """The body without its content encoding: none, identity, gzip, deflate (the zlib format) or zstd.

    Raises UnsupportedMediaError, InvalidBodyError or BodyTooLargeError.
    """
    limit = settings.decompressed_bytes_max
    name = content_encoding.strip().lower()
    if name in {"", "identity"}:
        return _within(limit, body)
    if not body:
        return body
    if name in {"gzip", "x-gzip"}:
        return _inflate(body, GZIP_WBITS, limit)
    if name == "deflate":
        return _inflate(body, ZLIB_WBITS, limit)
    if name == "zstd":
        return _unpack_zstd(body, limit)
    raise UnsupportedMediaError(f"expected content-encoding gzip, deflate, zstd or none, got {content_encoding!r}")


def _inflate(body: bytes, wbits: int, limit: int) -> bytes:
    """One or more gzip members, or one zlib stream."""
    parts: list[bytes] = []
    room = limit
    while body:
        stream = zlib.decompressobj(wbits)
        try:
            part = stream.decompress(body, room + 1)
        except zlib.error as error:
            raise InvalidBodyError(f"expected a compressed body, got one that does not unpack ({error})") from error
        room -= len(part)
        if room < 0:
            raise _too_large(limit)
        if not stream.eof:
            raise InvalidBodyError("expected a whole compressed body, got one that breaks off")
        parts.append(part)
        body = stream.unused_data if wbits == GZIP_WBITS else b""
    return b"".join(parts)


def _unpack_zstd(body: bytes, limit: int) -> bytes:
    try:
        with pa.input_stream(pa.BufferReader(body), compression="zstd") as stream:
            return _within(limit, bytes(stream.read(limit + 1)))
    except OSError as error:
        raise InvalidBodyError(f"expected a zstd body, got one that does not unpack ({error})") from error


def _within(limit: int, body: bytes) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"expected at most {limit} bytes after decompression, got more: send smaller batches")
