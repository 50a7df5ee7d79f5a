"""Acknowledged means stored, once, whatever happens: python benchmarks/faults.py [--rounds 100] prints JSON.

Every case runs `pennytrace serve` as a process, sends bodies of 20 spans, and compares what was answered with 200 to
what is in the store at the end: nothing missing, nothing in part, nothing twice (copies are counted, not merged).
Exits 1 when a case is not sound. Disk full needs root, for a small tmpfs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1]))  # the ClickHouse server for tests

from server.bodies import keyed, template
from server.ledger import SPANS_A_BODY, Ledger, Senders, send_once
from server.load import HEADERS, PATH, quantiles_ms
from server.process import Served, served

from storage import EmbeddedLocation
from tests.clickhouse_server import ClickHouseServer, running_clickhouse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Result = dict[str, Any]
DRAIN_S = 60
TMPFS_MIB = 48
CONNECTIONS = 1000
LORIS = 300
LORIS_S = 30


def killed(folder: Path, rounds: int) -> Result:
    """kill -9 at a random moment, and start again, over and over."""
    ledger, server, starts = Ledger(), Served(folder), list[float]()
    starts.append(server.start())
    senders = Senders(server.ports["http"], ledger)
    for done in range(rounds):
        time.sleep(random.uniform(0.02, 1.5))
        server.kill()
        starts.append(server.start())
        report_progress(f"killed {done + 1} of {rounds}")
    senders.stop()
    drained = server.wait_until_stored(DRAIN_S)
    server.stop()
    return {
        "kills": rounds,
        "journal_was_drained": drained,
        "start_s_median": round(sorted(starts)[len(starts) // 2], 2),
        **ledger.check(EmbeddedLocation(server.data)),
    }


def store_away(folder: Path) -> Result:
    """The ClickHouse server is killed, hangs, and is away for a while; senders must notice nothing."""
    ledger = Ledger()
    with running_clickhouse(folder / "clickhouse" / "data") as store, over(folder, store) as server:
        senders = Senders(server.ports["http"], ledger)
        for _ in range(3):
            time.sleep(random.uniform(0.5, 2))
            store.kill()
            time.sleep(1)
            store.start()
        store.pause()
        time.sleep(3)
        store.resume()
        store.kill()
        before = len(ledger.acknowledged)
        time.sleep(8)
        while_away, waiting = len(ledger.acknowledged) - before, server.metrics()
        store.start()
        senders.stop()
        drained = server.wait_until_stored(DRAIN_S)
        server.stop()
        return {
            "acknowledged_while_away": while_away,
            "journal_bytes_while_away": int(waiting["pennytrace_journal_bytes"]),
            "journal_was_drained": drained,
            **ledger.check(store.location),
        }


def disk_full(folder: Path) -> Result:
    """The journal's disk fills up while the store is away; then the store comes back and room is made."""
    if os.geteuid() != 0:
        return {"skipped": "needs root, to mount a tmpfs"}
    ledger = Ledger()
    with (
        tmpfs(folder / "journal") as journal,
        running_clickhouse(folder / "clickhouse" / "data") as store,
        over(folder, store, journal) as server,
    ):
        store.kill()
        senders = Senders(server.ports["http"], ledger)
        until = time.monotonic() + DRAIN_S
        while ledger.deferred < 50 and time.monotonic() < until:
            time.sleep(0.1)
        acknowledged_when_full, free = len(ledger.acknowledged), os.statvfs(journal)
        store.start()
        while len(ledger.acknowledged) < acknowledged_when_full + 50 and time.monotonic() < until:
            time.sleep(0.1)
        senders.stop()
        drained = server.wait_until_stored(DRAIN_S)
        server.stop()
        return {
            "acknowledged_when_full": acknowledged_when_full,
            "acknowledged_after_room_was_made": len(ledger.acknowledged) - acknowledged_when_full,
            "free_bytes_when_full": free.f_bavail * free.f_frsize,
            "journal_was_drained": drained,
            **ledger.check(store.location),
        }


def clock_jumps(folder: Path) -> Result:
    """The server's clock jumps by hours, days and years, and senders' clocks are wrong; rejected is said."""
    code = "import sys; sys.path[:0] = sys.argv[2:]; import faults; faults.serve_with_jumping_clock(sys.argv[1])"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *paths], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    ledger, rejected = Ledger(), 0
    with process:
        port = int(process.stdout.readline()) if process.stdout else 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for hours in [0, 1, -1, 23, 24 * 30, -24 * 30, -24 * 365 * 4, 24 * 365 * 10, -24 * 365 * 30, 0] * 20:
            start_ns = max(1, time.time_ns() + hours * 3600 * 10**9)
            key, body = keyed(template(SPANS_A_BODY, start_ns))
            before = ledger.refused
            send_once(connection, key, body, ledger)
            rejected += ledger.refused - before
            ledger.refused = before  # a partial success: outside the window of a clock that jumps
        connection.close()
        if process.stdin:
            process.stdin.close()
        status = process.wait(timeout=DRAIN_S)
    found = ledger.check(EmbeddedLocation(folder / "data"))
    return {"rejected_bodies": rejected, "exit_status": status, **found, "is_sound": found["is_sound"] and not status}


def serve_with_jumping_clock(folder: str) -> None:
    """A server whose clock is another at every reading; ends with its standard input."""
    from app.server import Server
    from app.settings import ServerSettings, Settings, StorageSettings

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(hours=random.choice([0, 0, 0, -1, 1, -48, 48, 24 * 400, -24 * 400]))

    any_port = "127.0.0.1:0"
    server = Server(
        Settings(
            storage=StorageSettings(data=Path(folder) / "data"),
            server=ServerSettings(http=any_port, grpc=any_port, ui=any_port, sql=any_port),
        ),
        lambda _line: None,
        clock,
    )
    print(server.url("http").rpartition(":")[2], flush=True)
    sys.stdin.read()
    server.stop()


def many_connections(folder: Path) -> Result:
    """A thousand connections are open at once; each sends a body in two halves."""
    ledger, waits = Ledger(), list[float]()
    with served(folder) as server:
        body = template(SPANS_A_BODY)
        made = [keyed(body) for _ in range(CONNECTIONS)]
        sockets = [socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=60) for _ in made]
        whole = [head(each) + each for _, each in made]
        for each, request in zip(sockets, whole, strict=True):
            each.sendall(request[: len(request) // 2])
        started = time.monotonic()
        for each, request in zip(sockets, whole, strict=True):
            each.sendall(request[len(request) // 2 :])
        for (key, _), each in zip(made, sockets, strict=True):
            answer = http.client.HTTPResponse(each)
            answer.begin()
            answered = answer.status == 200 and not answer.read()
            waits.append(time.monotonic() - started)
            (ledger.acknowledged.add(key.hex()) if answered else None)
            each.close()
        peak = server.usage()
        server.wait_until_stored(DRAIN_S)
        server.stop()
        found = ledger.check(EmbeddedLocation(server.data))
    return {"connections": CONNECTIONS, "all_answered_s": round(max(waits), 2), "rss_mib": peak.rss_mib, **found}


def slow_loris(folder: Path) -> Result:
    """Hundreds of connections that never come to the end of their head or body, beside senders that do."""
    ledger, waits = Ledger(), list[float]()
    with served(folder, {"PENNYTRACE_COLLECTOR_BODY_TIMEOUT_S": "10"}) as server:
        port, cut_off = server.ports["http"], list[float]()
        started = time.monotonic()
        loris = [socket.create_connection(("127.0.0.1", port)) for _ in range(LORIS)]
        stopping = threading.Event()
        dripping = threading.Thread(target=drip, args=(loris, stopping, cut_off, started))
        dripping.start()
        connection, body = http.client.HTTPConnection("127.0.0.1", port, timeout=60), template(SPANS_A_BODY)
        while time.monotonic() < started + LORIS_S:
            key, made = keyed(body)
            began = time.monotonic()
            send_once(connection, key, made, ledger)
            waits.append(time.monotonic() - began)
            time.sleep(0.01)
        connection.close()
        stopping.set()
        dripping.join()
        server.wait_until_stored(DRAIN_S)
        server.stop()
        found = ledger.check(EmbeddedLocation(server.data))
    return {
        "slow_connections": LORIS,
        "cut_off": len(cut_off),
        "cut_off_after_s_max": round(max(cut_off, default=0), 1),
        "others": quantiles_ms(waits),
        **found,
    }


def drip(connections: list[socket.socket], stopping: threading.Event, cut_off: list[float], started: float) -> None:
    """Send a byte a second on each: of an endless head on half of them, of an endless body on the other half."""
    with_body = set(connections[::2])
    for each in connections:
        each.settimeout(0)
        each.send(head(b"x" * 10_000) if each in with_body else b"POST /v1/traces HTTP/1.1\r\nx-slow: ")
    open_ones = set(connections)
    while not stopping.wait(1) and open_ones:
        for each in list(open_ones):
            try:
                if each.recv(4096) == b"":
                    raise ConnectionResetError
            except BlockingIOError:
                pass
            except OSError:
                open_ones.discard(each)
                cut_off.append(time.monotonic() - started)
                continue
            with suppress(OSError):  # the next round reads why
                each.send(b"x")
    for each in connections:
        each.close()


def head(body: bytes) -> bytes:
    """A request up to its body."""
    lines = [f"POST {PATH} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in HEADERS.items()), "", ""]).encode()


@contextmanager
def over(folder: Path, store: ClickHouseServer, journal: Path | None = None) -> Generator[Served]:
    """A server whose store is the given ClickHouse server."""
    environment = {"PENNYTRACE_STORAGE_CLICKHOUSE": store.location.url}
    if journal:
        environment |= {
            "PENNYTRACE_COLLECTOR_JOURNAL": str(journal),
            "PENNYTRACE_COLLECTOR_JOURNAL_FREE_BYTES_MIN": "0",
        }
    with served(folder, environment) as server:
        yield server


@contextmanager
def tmpfs(path: Path) -> Generator[Path]:
    """A file system of TMPFS_MIB."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m", "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def report_progress(line: str) -> None:
    """On the standard error; the standard output is JSON."""
    print(f"\r{line}  ", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Run the cases and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="kills (default 100)")
    parser.add_argument("--only", action="append", help="run these cases only")
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the output is always JSON")
    arguments = parser.parse_args()
    cases: dict[str, Callable[[Path], Result]] = {
        "killed": lambda folder: killed(folder, arguments.rounds),
        "store_away": store_away,
        "disk_full": disk_full,
        "clock_jumps": clock_jumps,
        "many_connections": many_connections,
        "slow_loris": slow_loris,
    }
    results: dict[str, Result] = {}
    for name in arguments.only or cases:
        report_progress(name)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            results[name] = cases[name](Path(folder))
    print(json.dumps(results, indent=1))
    return 0 if all(result.get("is_sound", True) for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
