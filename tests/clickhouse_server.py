"""A ClickHouse server in a process of its own, to be stopped, killed and started again on the same data.

The engine behind it is the real one; tests/clickhouse_http.py says what is ours.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from storage import ServerLocation

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


class ClickHouseServer:
    """The server over one directory. After a restart it has the port that it had before."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def location(self) -> ServerLocation:
        return ServerLocation(f"http://default:@127.0.0.1:{self._port}")

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "tests.clickhouse_http", str(self._data), str(self._port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"expected the test server to print its port, it ended with {self._process.wait()}")
        self._port = int(line)

    def stop(self) -> None:
        """End it in good order; nothing if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections are taken and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("expected a running server, got one that was ended: start() it first")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._process = None


@contextmanager
def running_clickhouse(data: Path) -> Iterator[ClickHouseServer]:
    """A started server that is ended afterwards."""
    server = ClickHouseServer(data)
    server.start()
    try:
        yield server
    finally:
        server.kill()
