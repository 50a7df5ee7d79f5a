from __future__ import annotations

import gzip
import random
import time
import tracemalloc
import zlib

import pyarrow as pa
import pytest

from collector import CollectorSettings
from collector.decompression import MEMBERS_MAX, SLICE_BYTES, decompress
from collector.errors import BodyTooLargeError, InvalidBodyError, UnsupportedMediaError

LIMIT = 100_000
SETTINGS = CollectorSettings(decompressed_bytes_max=LIMIT, body_bytes_max=LIMIT)


def zstd(body: bytes) -> bytes:
    return pa.compress(body, codec="zstd", asbytes=True)


PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_body_up_to_the_limit_is_unpacked(name, size):
    body = bytes(range(256)) * (size // 256 + 1)
    assert decompress(PACKERS[name](body[:size]), name, SETTINGS) == body[:size]


@pytest.mark.parametrize("name", [*PACKERS, ""])
def test_a_body_over_the_limit_is_refused(name):
    body = bytes(LIMIT + 1)
    with pytest.raises(BodyTooLargeError, match="at most 100000 bytes"):
        decompress(PACKERS[name](body) if name else body, name, SETTINGS)


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_not_unpacked_past_the_limit(name):
    bomb = PACKERS[name](bytes(50_000_000))
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    with pytest.raises(BodyTooLargeError):
        decompress(bomb, name, SETTINGS)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 5_000_000
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("name", PACKERS)
def test_a_body_that_breaks_off_or_is_not_compressed_is_refused(name):
    packed = PACKERS[name](bytes(range(256)) * 9)
    for body in (packed[:-6], b"not compressed"):
        with pytest.raises(InvalidBodyError):
            decompress(body, name, SETTINGS)


def test_several_gzip_members_are_one_body_and_share_the_limit():
    half = gzip.compress(bytes(LIMIT // 2))
    assert len(decompress(half * 2, "GZIP", SETTINGS)) == LIMIT
    with pytest.raises(BodyTooLargeError):
        decompress(half * 3, "gzip", SETTINGS)


def test_members_that_end_anywhere_in_a_slice_are_all_unpacked():
    rng = random.Random(7)
    bodies = [rng.randbytes(rng.choice([0, 1, 100, SLICE_BYTES - 30, SLICE_BYTES, 3 * SLICE_BYTES])) for _ in range(60)]
    large = CollectorSettings(decompressed_bytes_max=1 << 24)
    assert decompress(b"".join(map(gzip.compress, bodies)), "gzip", large) == b"".join(bodies)


def test_more_members_than_anybody_writes_are_refused_in_little_time():
    empty = gzip.compress(b"")
    assert decompress(empty * MEMBERS_MAX, "gzip", SETTINGS) == b""
    began = time.process_time()
    with pytest.raises(BodyTooLargeError, match="at most 2048 gzip members"):
        decompress(empty * 500_000, "gzip", SETTINGS)
    # The quadratic way takes minutes for these 10 MB.
    assert time.process_time() - began < 3


@pytest.mark.parametrize("name", PACKERS)
def test_nothing_compressed_is_an_empty_body(name):
    assert decompress(b"", name, SETTINGS) == b""


def test_an_unknown_encoding_is_refused_by_name():
    with pytest.raises(UnsupportedMediaError, match="got 'br'"):
        decompress(b"x", "br", SETTINGS)
