"""A CI-sized piece of what `python -m tests.fuzz.run --bodies 200000` does at length."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from tests.fuzz.mutation import Mutator
from tests.fuzz.run import SENDERS, attack
from tests.fuzz.seeds import JSON, PROTOBUF, seeds

SECONDS = 20
NOW_NS = 1_790_000_000 * 10**9
# All senders may have a bomb unpacked to the limit of 64 MiB at once, of which the allocator keeps the space; the rest
# is for the engine's caches. In 200,000 bodies it grew by no more.
GROWTH_MIB_MAX = SENDERS * 64 + 256


@pytest.mark.slow
def test_no_body_makes_the_server_fall_or_fail_and_neighbours_are_stored_once(tmp_path):
    seed = 1 if os.environ.get("CI") else random.randrange(2**32)
    report = attack(tmp_path, bodies=200_000, seconds=SECONDS, seed=seed)
    assert report.failures == [], f"seed {seed}"
    assert report.neighbours_stored == report.neighbours_sent > 0, f"seed {seed}"
    assert report.bodies > 300, f"too few to mean anything: {report}"
    assert report.rss_mib_end < report.rss_mib_start + GROWTH_MIB_MAX, f"seed {seed}: {report}"


def test_the_same_seed_attacks_the_same_way():
    bodies = seeds(NOW_NS)
    first, second = (Mutator(bodies, random.Random(7)) for _ in range(2))
    assert [first.next() for _ in range(50)] == [second.next() for _ in range(50)]


def test_every_kind_of_attack_comes_up_for_every_signal_and_encoding():
    mutator = Mutator(seeds(NOW_NS), random.Random(3))
    made = [mutator.next() for _ in range(3000)]
    kinds = Counter(each.kind for each in made)
    assert kinds.keys() >= {
        "flip",
        "truncate",
        "splice",
        "insert_varint",
        "nest",
        "grow_length",
        "json",
        "bomb",
        "headers",
    }
    assert {each.signal for each in made} == {"traces", "metrics", "logs"}
    assert {each.content_type for each in made} >= {PROTOBUF, JSON}
    assert {each.content_encoding for each in made} >= {"", "gzip", "deflate", "zstd"}
