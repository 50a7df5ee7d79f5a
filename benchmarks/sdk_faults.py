"""Where spans go when things break, as JSON: python benchmarks/sdk_faults.py.

Each case is a process of its own with `@observe` and `configure` as an application has them, against a sink that
counts distinct spans, or against something broken. `made = delivered + dropped + failed + queued` by the SDK's own
counts, and `received`, where the sink could receive, is what it says it delivered. `exit_s` is how long the process
took to end once it wanted to; `caller_ms_max` the longest single call. `holds` says whether all of it is true.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from sdk.sink import Sink

EXIT_S_MAX = 2.5
"""The 2 s that an exit may wait, and the interpreter's own end."""
PROGRAM = """
import json, os, signal, sys, time
import pennytrace

handle = pennytrace.configure(service="faults", endpoint_url=sys.argv[1], gpu=False, **json.loads(sys.argv[2]))
slowest = 0

@pennytrace.observe(endpoint="/chat", model="m")
def chat():
    pennytrace.record_usage(input_tokens=1, output_tokens=1)

def make(calls):
    global slowest
    for _ in range(calls):
        then = time.perf_counter()
        chat()
        slowest = max(slowest, time.perf_counter() - then)
    return calls

def tell(made):
    counts = handle.counts()
    told = {name: getattr(counts, name) for name in ("spans", "delivered", "dropped", "failed", "queued")}
    line = json.dumps({"made": made, **told, "caller_ms_max": slowest * 1e3}) + "\\n"
    os.write(1, line.encode())  # in one piece, since forked children write here, too

"""
ENDS = "handle.flush(%s)\nprint(time.time(), flush=True)\nhandle.shutdown()\ntell(made)\n"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "healthy": ({}, {}, "made = make(5000)\n" + ENDS % 20),
    "hanging": ({"hold_s": 3600}, {}, "made = make(5000)\n" + ENDS % 0.2),
    "error_500": ({"status": 500}, {}, "made = make(5000)\n" + ENDS % 20),
    "unavailable_503": (
        {"status": 503, "retry_after_s": 0.3, "refusals": 3},
        {},
        "made = make(5000)\n" + ENDS % 20,
    ),
    "always_503": ({"status": 503, "retry_after_s": 60}, {}, "made = make(5000)\n" + ENDS % 0.2),
    "burst_50000": ({}, {}, "made = make(50000)\n" + ENDS % 30),
    "burst_50000_small_queue": ({}, {"queue_spans_max": 1000}, "made = make(50000)\n" + ENDS % 30),
    "exit": ({}, {"export_interval_s": 60}, "made = make(1000)\nprint(time.time(), flush=True)\n"),
    "exit_while_hanging": (
        {"hold_s": 3600},
        {"export_interval_s": 0.01},
        "made = make(1000)\nprint(time.time(), flush=True)\n",
    ),
    "sigterm": (
        {},
        {"export_interval_s": 60},
        "made = make(1000)\nprint(time.time(), flush=True)\nos.kill(os.getpid(), signal.SIGTERM)\n",
    ),
    "fork": (
        {},
        {"export_interval_s": 60},
        """made = make(1000)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        made = make(500)
        handle.shutdown()
        tell(made)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""
        + ENDS % 20,
    ),
    "multiprocessing": (
        {},
        {"export_interval_s": 60},
        """made = make(1000)
from multiprocessing import get_context
children = [get_context("fork").Process(target=make, args=(500,)) for _ in range(3)]
for child in children:
    child.start()
for child in children:
    child.join()
"""
        + ENDS % 20,
    ),
}
RECEIVED = {
    "exit": 1000,
    "sigterm": 1000,
    "multiprocessing": 2500,
    "fork": 2500,
    "healthy": 5000,
    "unavailable_503": 5000,
}
"""Cases in which every span must arrive, of which some processes do not live to tell their counts."""


def run(name: str, sink: Sink) -> dict[str, Any]:
    """One case."""
    behaviour, settings, body = CASES[name]
    sink.behave(**behaviour)
    return judged(name, *ended(sink.url, settings, body), sink.seen()["spans"])


def dead_port(sink: Sink) -> dict[str, Any]:
    """Nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    sink.behave()
    return judged("dead_port", *ended(url, {}, "made = make(5000)\n" + ENDS % 0.2), sink.seen()["spans"])


def ended(url: str, settings: dict[str, Any], body: str) -> tuple[list[dict[str, float]], float, int]:
    """What the case's processes told, the seconds from wanting to end to the end, and the exit status."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + body, url, json.dumps(settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    output, _ = process.communicate(timeout=120)
    now = time.time()
    told = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    wanted = next(float(line) for line in output.splitlines() if line.replace(".", "", 1).isdigit())
    return told, now - wanted, process.returncode


def judged(name: str, told: list[dict[str, float]], exit_s: float, status: int, received: int) -> dict[str, Any]:
    """The case's figures, and whether it holds."""
    total = {
        key: sum(one[key] for one in told) for key in ("made", "spans", "delivered", "dropped", "failed", "queued")
    }
    accounted = all(
        one["made"] == one["spans"] == one["delivered"] + one["dropped"] + one["failed"] + one["queued"] for one in told
    )
    arrived = received == RECEIVED[name] if name in RECEIVED else received == total["delivered"] or not told
    return {
        **total,
        "received": received,
        "exit_s": round(exit_s, 3),
        "exit_status": status,
        "caller_ms_max": round(max((one["caller_ms_max"] for one in told), default=0.0), 3),
        "holds": accounted
        and arrived
        and exit_s <= EXIT_S_MAX
        and not total["queued"]
        and status == (-signal.SIGTERM if name == "sigterm" else 0),
    }


def main() -> None:
    """Print the figures; exit 1 when a case does not hold."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true", help="the only output there is")
    options.add_argument("--only", choices=[*CASES, "dead_port"])
    given = options.parse_args()
    found: dict[str, Any] = {}
    for name in (*CASES, "dead_port"):
        if given.only in (None, name):
            sink = Sink()
            try:
                found[name] = dead_port(sink) if name == "dead_port" else run(name, sink)
            finally:
                sink.close()
    print(json.dumps(found, indent=2))
    sys.exit(0 if all(case["holds"] for case in found.values()) else 1)


if __name__ == "__main__":
    main()
