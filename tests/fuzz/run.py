"""Attacks through the real ports of a real server: python -m tests.fuzz.run --bodies 200000 [--seed N].

Prints JSON: answers by status and by kind of attack, the server's resident memory at the start, after 2,000 bodies and
at the end, and whether the sound spans that were sent in between are all stored, once. Exits 1 on a failure.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import grpc

from tests.app.serving import serving
from tests.fuzz.mutation import Attack, Mutator
from tests.fuzz.seeds import PROTOBUF, seeds, spans

if TYPE_CHECKING:
    from tests.app.serving import Running

SENDERS = 8
NEIGHBOUR_EVERY = 50
EARLY_BODIES = 2000
GRPC_SHARE = 0.15
STORE_S = 60
LINES_KEPT = 100
NEIGHBOUR = "neighbour"
# What a fault of the sender's may be answered with. 503 is not among them: nothing here fills a queue.
HTTP_ANSWERS = {200, 400, 413, 415}
GRPC_ANSWERS = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
PACKAGE = "/opentelemetry.proto.collector"
METHODS = {
    "traces": f"{PACKAGE}.trace.v1.TraceService/Export",
    "metrics": f"{PACKAGE}.metrics.v1.MetricsService/Export",
    "logs": f"{PACKAGE}.logs.v1.LogsService/Export",
}


@dataclass
class Report:
    """What came of the attacks."""

    seed: int
    bodies: int = 0
    seconds: float = 0
    answers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    last_words: list[str] = field(default_factory=list)
    neighbours_sent: int = 0
    neighbours_stored: int = 0
    rss_mib_start: int = 0
    rss_mib_early: int = 0
    rss_mib_end: int = 0

    @property
    def is_sound(self) -> bool:
        return not self.failures and self.neighbours_stored == self.neighbours_sent > 0


class Senders:
    """Threads that attack one server until so many bodies are sent or time is up."""

    def __init__(self, server: Running, report: Report, bodies: int, seconds: float) -> None:
        self._server = server
        self._report = report
        self._bodies_max = bodies
        self._until = time.monotonic() + seconds
        self._guard = threading.Lock()
        self._channel = grpc.insecure_channel(server.grpc)

    def run(self) -> None:
        """Returns when all have ended."""
        started = time.monotonic()
        threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._channel.close()
        self._report.seconds = round(time.monotonic() - started, 1)

    def _send(self, number: int) -> None:
        own = random.Random(f"{self._report.seed}-{number}")
        mutator = Mutator(seeds(time.time_ns()), own)
        connection = http.client.HTTPConnection(urlsplit(self._server.http).netloc, timeout=60)
        while self._goes_on():
            attack = mutator.next()
            over_grpc = not attack.content_encoding and own.random() < GRPC_SHARE
            self._note(attack, self._over_grpc(attack) if over_grpc else post(connection, attack))
            if own.randrange(NEIGHBOUR_EVERY) == 0:
                self._send_neighbour(connection)
        connection.close()

    def _goes_on(self) -> bool:
        with self._guard:
            if self._report.bodies == EARLY_BODIES:
                self._report.rss_mib_early = rss_mib(self._server.process.pid)
            is_running = self._server.process.poll() is None
            return is_running and self._report.bodies < self._bodies_max and time.monotonic() < self._until

    def _over_grpc(self, attack: Attack) -> str:
        try:
            self._channel.unary_unary(METHODS[attack.signal])(attack.body, timeout=60)
        except grpc.RpcError as error:
            code = error.code()
            return code.name if code in GRPC_ANSWERS else f"unexpected {code.name}"
        return "OK"

    def _note(self, attack: Attack, answer: str) -> None:
        with self._guard:
            report = self._report
            report.bodies += 1
            report.answers[answer] += 1
            report.kinds[attack.kind] += 1
            if not (answer.isdecimal() or answer.isupper()) and len(report.failures) < 20:
                report.failures.append(f"{answer} to {attack.kind}: {attack.body[:2000].hex()} {attack}"[:6000])

    def _send_neighbour(self, connection: http.client.HTTPConnection) -> None:
        body = spans(time.time_ns(), NEIGHBOUR, 1).SerializeToString()
        answer = post(connection, Attack(NEIGHBOUR, "traces", PROTOBUF, "", body))
        with self._guard:
            self._report.neighbours_sent += 1
            if answer != "200":
                self._report.failures.append(f"a sound neighbour was answered with {answer}")


def post(connection: http.client.HTTPConnection, attack: Attack) -> str:
    """The status of the answer; a connection that the server closes is opened again for the next."""
    headers = {"content-type": attack.content_type, "content-encoding": attack.content_encoding}
    try:
        # A server may answer before it has read all of a body that it refuses, and close.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(
                "POST", f"/v1/{attack.signal}", attack.body, {key: value for key, value in headers.items() if value}
            )
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"no answer ({type(error).__name__})"
    return str(answer.status) if answer.status in HTTP_ANSWERS else f"unexpected {answer.status}"


def rss_mib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"process {pid} has ended")


def attack(folder: Path, bodies: int, seconds: float, seed: int) -> Report:
    """A fresh server in `folder` under attack."""
    report = Report(seed)
    try:
        with serving(folder, PYTHONFAULTHANDLER="1") as server:
            _attack(server, report, bodies, seconds)
    except AssertionError:  # it did not end as it was asked to
        if not report.failures:
            raise
    return report


def _attack(server: Running, report: Report, bodies: int, seconds: float) -> None:
    report.rss_mib_start = rss_mib(server.process.pid)
    Senders(server, report, bodies, seconds).run()
    if (status := server.process.poll()) is not None:
        report.failures.append(f"the server ended with status {status}")
        report.last_words = list(server.lines)[-LINES_KEPT:]
        return
    report.rss_mib_end = rss_mib(server.process.pid)
    report.neighbours_stored = stored(server, report.neighbours_sent)


def stored(server: Running, expected: int) -> int:
    """How many of the neighbours' spans are stored, every copy counted."""
    sql = quote(f"SELECT count() FROM spans WHERE service = '{NEIGHBOUR}'")
    until = time.monotonic() + STORE_S
    while True:
        connection = http.client.HTTPConnection(urlsplit(server.sql).netloc, timeout=30)
        connection.request("GET", f"/?query={sql}")
        found = int(connection.getresponse().read())
        connection.close()
        if found >= expected or time.monotonic() > until:
            return found
        time.sleep(0.2)


def main() -> int:
    """Attack and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=7200)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = attack(Path(folder), arguments.bodies, arguments.seconds, arguments.seed)
    print(json.dumps({**vars(report), "is_sound": report.is_sound}, indent=1))  # noqa: T201 (this is its output)
    return 0 if report.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
