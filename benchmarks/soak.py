"""A long run at part of the capacity: python benchmarks/soak.py [--minutes 30] [--load 0.5] [--capacity 40000].

First the idle footprint of a fresh `pennytrace serve` over a minute, then a paced load of `--load` times `--capacity`
spans a second from a process of its own. Resident memory, CPU, acknowledgement times and the journal every half
minute; at the end whether everything acknowledged is stored. Exits 1 when it is not, or when a body was refused.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.load import paced, quantiles_ms
from server.process import Served, served

if TYPE_CHECKING:
    from server.load import Paced

SPANS_A_BODY = 500
CONNECTIONS = 16
SETTLE_S = 20
DRAIN_S = 120


def idle_footprint(server: Served, seconds: float) -> dict[str, float]:
    """What the server takes while nobody sends; the first job is not counted."""
    time.sleep(SETTLE_S)
    before, started = server.usage(), time.monotonic()
    time.sleep(seconds)
    after, took = server.usage(), time.monotonic() - started
    return {
        "idle_rss_mib": after.rss_mib,
        "idle_cpu_percent_of_a_core": round(100 * (after.cpu_s - before.cpu_s) / took, 2),
        "idle_seconds": round(took, 1),
    }


def soak(server: Served, minutes: float, spans_per_second: float, sample_s: float) -> dict[str, Any]:
    """Samples of a paced load, and what became of its spans."""
    samples: list[dict[str, float]] = []
    waits: list[float] = []
    until = time.monotonic() + minutes * 60
    with paced(server.ports["http"], SPANS_A_BODY, spans_per_second, CONNECTIONS) as load:
        while time.monotonic() < until:
            samples.append(sample(server, load, min(sample_s, until - time.monotonic()), waits))
            print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
        waits += load.stop()
    drained = server.wait_until_stored(DRAIN_S)
    counted = server.metrics()
    acknowledged = counted["pennytrace_acknowledged_items_total"]
    return {
        "spans_per_second": spans_per_second,
        "spans_acknowledged": int(acknowledged),
        "bodies_refused": sum(math.isinf(wait) for wait in waits),
        "all_stored": drained and counted["pennytrace_stored_items_total"] >= acknowledged,
        **quantiles_ms([wait for wait in waits if math.isfinite(wait)]),
        "rss_mib_first": samples[0]["rss_mib"],
        "rss_mib_last": samples[-1]["rss_mib"],
        "samples": samples,
    }


def sample(server: Served, load: Paced, seconds: float, waits: list[float]) -> dict[str, float]:
    """The next `seconds`; the waits are added to `waits`."""
    before, started = server.usage(), time.monotonic()
    time.sleep(max(0.0, seconds))
    after, took, counted = server.usage(), time.monotonic() - started, server.metrics()
    answered = load.waits()
    waits += answered
    return {
        "seconds": round(took, 1),
        "rss_mib": after.rss_mib,
        "cpu_percent_of_a_core": round(100 * (after.cpu_s - before.cpu_s) / max(took, 1e-3), 1),
        "spans_per_second": round(len(answered) * SPANS_A_BODY / max(took, 1e-3)),
        "journal_age_s": round(counted.get("pennytrace_journal_age_seconds", 0), 2),
        "journal_mib": round(counted.get("pennytrace_journal_bytes", 0) / 2**20, 2),
        **quantiles_ms([wait for wait in answered if math.isfinite(wait)]),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--load", type=float, default=0.5, help="share of the capacity (default 0.5)")
    parser.add_argument("--capacity", type=float, default=40_000, help="spans a second at full load (default 40,000)")
    parser.add_argument("--idle-seconds", type=float, default=60)
    parser.add_argument("--sample-seconds", type=float, default=30)
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the output is always JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, served(Path(folder)) as server:
        results: dict[str, Any] = idle_footprint(server, arguments.idle_seconds)
        rate = arguments.load * arguments.capacity
        results |= soak(server, arguments.minutes, rate, arguments.sample_seconds)
        server.stop()
    print(json.dumps(results, indent=1))
    return 0 if results["all_stored"] and not results["bodies_refused"] else 1


if __name__ == "__main__":
    sys.exit(main())
