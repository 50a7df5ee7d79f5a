"""An open-loop client in a process of its own: bodies leave at their time, whether or not others were answered.

A wait counts from when a body was due, not from when it could be sent, so a server that stalls cannot hide it.
"""

from __future__ import annotations

import http.client
import multiprocessing
import queue
import statistics
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from server.bodies import fresh, template

if TYPE_CHECKING:
    from collections.abc import Generator
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

    Answers = Queue[list[float]]

START_S = 120
TELL_S = 0.5
PATH, HEADERS = "/v1/traces", {"content-type": "application/x-protobuf"}


class Paced:
    """Sends bodies of `spans` at `spans_per_second` over `connections` from construction until `stop`."""

    def __init__(self, port: int, spans: int, spans_per_second: float, connections: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._stopping = context.Event()
        self._answers: Answers = context.Queue()
        ready = context.Event()
        arguments = (port, spans, spans_per_second, connections, ready, self._stopping, self._answers)
        self._process = context.Process(target=_send_paced, args=arguments, daemon=True)
        self._process.start()
        if not ready.wait(START_S):
            raise RuntimeError(f"the client did not start within {START_S} seconds")

    def waits(self) -> list[float]:
        """Seconds that the bodies answered since the last call waited; a refused one is infinite."""
        found: list[float] = []
        while True:
            try:
                found += self._answers.get_nowait()
            except queue.Empty:
                return found

    def stop(self) -> list[float]:
        """End it; the waits since the last call."""
        self._stopping.set()
        found: list[float] = []
        while self._process.is_alive():
            found += self.waits()
            self._process.join(0.1)
        return found + self.waits()


@contextmanager
def paced(port: int, spans: int, spans_per_second: float, connections: int) -> Generator[Paced]:
    """A running load."""
    load = Paced(port, spans, spans_per_second, connections)
    try:
        yield load
    finally:
        load.stop()


def quantiles_ms(waits: list[float]) -> dict[str, float]:
    """p50, p99 and the longest wait in milliseconds."""
    if len(waits) < 2:
        return {}
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {
        "ack_p50_ms": round(cuts[49] * 1000, 1),
        "ack_p99_ms": round(cuts[98] * 1000, 1),
        "ack_max_ms": round(max(waits) * 1000, 1),
        "bodies": len(waits),
    }


def _send_paced(
    port: int, spans: int, rate: float, connections: int, ready: Event, stopping: Event, answers: Answers
) -> None:
    gap_s = spans / rate
    began = time.monotonic() + 0.2
    body = template(spans)
    turn = iter(range(1 << 62))
    guard = threading.Lock()

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        waits: list[float] = []
        told = time.monotonic()
        while not stopping.is_set():
            with guard:
                due = began + next(turn) * gap_s
            made = fresh(body)
            if (wait := due - time.monotonic()) > 0 and stopping.wait(wait):
                break
            waits.append(time.monotonic() - due if post(connection, made) == 200 else float("inf"))
            if time.monotonic() > told + TELL_S:
                answers.put(waits)
                waits, told = [], time.monotonic()
        answers.put(waits)
        connection.close()

    ready.set()
    threads = [threading.Thread(target=send) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def post(connection: http.client.HTTPConnection, body: bytes) -> int:
    """The status of the answer; 0 when there was none."""
    try:
        connection.request("POST", PATH, body, HEADERS)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    return answer.status if not content or answer.status != 200 else -1  # a partial success is no success here
