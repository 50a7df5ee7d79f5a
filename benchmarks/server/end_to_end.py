"""The whole server under load: a client in a process of its own, over loopback HTTP, until everything is stored."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import resource
import threading
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.bodies import fresh, template
from server.load import paced, post, quantiles_ms

from analytics.ledger import recompute
from app.server import Server
from app.settings import ServerSettings, Settings, StorageSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ANY_PORT = "127.0.0.1:0"
CONNECTIONS = 8
PACED_CONNECTIONS = 16
SPANS_A_BODY = 500
FLUSH_S = 120
PANEL = "/api/panels/{}?since=24h"


def measure_end_to_end(folder: Path, seconds: float) -> dict[str, Any]:
    """Sustained rate and CPU a span, then acknowledgement times at half that rate, alone and in company."""
    settings = Settings(
        storage=StorageSettings(data=folder),
        server=ServerSettings(http=ANY_PORT, grpc=ANY_PORT, ui=ANY_PORT, sql=ANY_PORT),
    )
    server = Server(settings, lambda _line: None)
    try:
        port = int(server.url("http").rpartition(":")[2])
        sustained(server, port, min(2.0, seconds))  # first calls import and compile
        rss_start = rss_mib()
        full = sustained(server, port, seconds)
        half = full["spans_per_second"] / 2
        alone = at_rate(port, half, seconds)
        server.ingest.flush(FLUSH_S)
        with company(server, settings) as done:
            beside = at_rate(port, half, seconds)
        server.ingest.flush(FLUSH_S)
        return {
            **full,
            "rss_mib_start": rss_start,
            "rss_mib_end": rss_mib(),
            "half_load": {"spans_per_second": round(half), **alone},
            "half_load_in_company": {**beside, "runs": dict(done)},
            "ack_p50_ms": alone.get("ack_p50_ms"),
            "ack_p99_ms": alone.get("ack_p99_ms"),
            "ack_p99_in_company_ms": beside.get("ack_p99_ms"),
        }
    finally:
        server.stop()


def sustained(server: Server, port: int, seconds: float) -> dict[str, Any]:
    """Closed loop: every connection sends as fast as it is answered; the clock stops when all is stored."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(send_closed_loop, (port, 0.2))
        server.ingest.flush(FLUSH_S)
        cpu, started = time.process_time(), time.monotonic()
        waits = pool.apply(send_closed_loop, (port, seconds))
        sent = time.monotonic() - started
        if not server.ingest.flush(FLUSH_S):
            raise RuntimeError(f"not everything was stored within {FLUSH_S} seconds")
        took, cpu = time.monotonic() - started, time.process_time() - cpu
    spans = len(waits) * SPANS_A_BODY
    return {
        "end_to_end_cpu_us": round(cpu * 1e6 / spans, 2),
        "spans_per_second": round(spans / took),
        "acknowledged_per_second": round(spans / sent),
        "sustained_s": round(took, 1),
        "full_load": quantiles_ms(waits),
    }


def send_closed_loop(port: int, seconds: float) -> list[float]:
    """Seconds that each body waited for its acknowledgement; raises when one was not accepted whole."""
    waits: list[float] = []
    faults: list[int] = []
    body, until = template(SPANS_A_BODY), time.monotonic() + seconds

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < until and not faults:
            made = fresh(body)
            started = time.monotonic()
            status = post(connection, made)
            waits.append(time.monotonic() - started)
            if status != 200:
                faults.append(status)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError(f"expected status 200, got {faults[0]}")
    return waits


def at_rate(port: int, spans_per_second: float, seconds: float) -> dict[str, Any]:
    """Acknowledgement times in an open loop, the first second left out."""
    with paced(port, SPANS_A_BODY, spans_per_second, PACED_CONNECTIONS) as load:
        time.sleep(1.5)
        load.waits()
        time.sleep(seconds)
        return quantiles_ms(load.waits())


@contextmanager
def company(server: Server, settings: Settings) -> Generator[dict[str, int]]:
    """The job, panels and a full recomputation, over and over in the same process; yields how often each ran."""
    stopping, done = threading.Event(), dict[str, int]()

    def repeat(name: str, work: Callable[[], object]) -> None:
        while not stopping.is_set():
            work()
            done[name] = done.get(name, 0) + 1
            stopping.wait(0.2)

    works: dict[str, Callable[[], object]] = {
        "job": server.job.run,
        "panel": lambda: urllib.request.urlopen(
            server.url("ui") + PANEL.format("spend_by_endpoint"), timeout=60
        ).read(),
        "recompute": lambda: recompute(server.store, settings.ledger, lambda: datetime.now(UTC), everything=True),
    }
    threads = [threading.Thread(target=repeat, args=work) for work in works.items()]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def rss_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)
