"""`pennytrace serve` as a process that a benchmark starts, kills and starts again on the same ports."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

NAMES = ("http", "grpc", "ui", "sql")
START_S = 120
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True)
class Usage:
    """What a process has used."""

    rss_mib: float
    cpu_s: float


class Served:
    """A server on fixed free ports; `environment` has its settings."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self._folder = folder
        self._environment = environment or {}
        self.ports = dict(zip(NAMES, _free_ports(len(NAMES)), strict=True))
        self._process: subprocess.Popen[str] | None = None
        self.said: list[str] = []

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._folder / "data"

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise RuntimeError("expected a server that runs: start() it first")
        return self._process.pid

    def start(self) -> float:
        """Returns when it says that it is ready, with the seconds that this took."""
        began = time.monotonic()
        ports = [part for name, port in self.ports.items() for part in (f"--{name}", f"127.0.0.1:{port}")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", *ports],
            cwd=self._folder,
            env=_clean_environment() | {"PENNYTRACE_STORAGE_DATA": str(self.data)} | self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = threading.Event()
        threading.Thread(target=self._listen, args=(self._process, ready), daemon=True).start()
        until = began + START_S
        while not ready.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError("the server did not start:\n" + "".join(self.said[-20:]))
        return time.monotonic() - began

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; raises when it ends with an error."""
        if status := self._end(signal.SIGTERM):
            raise RuntimeError(f"expected exit status 0, got {status}:\n" + "".join(self.said[-20:]))

    def usage(self) -> Usage:
        """Resident memory and CPU of all its threads since the start."""
        return process_usage(self.pid)

    def metrics(self) -> dict[str, float]:
        """Its own Prometheus series, added up over their labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['ui']}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        sums: dict[str, float] = {}
        for name, value in re.findall(r"^([a-z_]+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def wait_until_stored(self, seconds: float) -> bool:
        """Whether everything acknowledged was stored within the time."""
        until = time.monotonic() + seconds
        while self.metrics().get("pennytrace_journal_bytes", 0) > 0:
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True

    def _listen(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        for line in process.stderr or []:
            self.said.append(line)
            if line.startswith("ready"):
                ready.set()

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        status = self._process.wait(timeout=START_S)
        self._process = None
        return status


@contextmanager
def served(folder: Path, environment: dict[str, str] | None = None) -> Generator[Served]:
    """A started server, killed afterwards if it still runs."""
    server = Served(folder, environment)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def process_usage(pid: int) -> Usage:
    """Of any process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return Usage(round(pages * PAGE_BYTES / 2**20, 1), ticks / CLOCK_TICKS)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PENNYTRACE_", "OTEL_"))}
