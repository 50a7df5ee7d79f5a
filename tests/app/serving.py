"""Run the real command line in a process of its own, on ports that the system chooses."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass

ANY_PORT = "127.0.0.1:0"
LINES_KEPT = 10_000


def pennytrace(*arguments, cwd, timeout=120, **environment):
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app", *map(str, arguments)],
        cwd=cwd,
        env={**_clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@dataclass
class Running:
    """A server process and where it listens."""

    process: subprocess.Popen
    http: str
    grpc: str
    ui: str
    sql: str
    lines: deque[str]
    """What it has said since it was ready, the last of it."""

    @property
    def stderr(self):
        return "".join(self.lines)

    def get(self, path):
        with urllib.request.urlopen(self.ui + path, timeout=30) as response:
            return response.read().decode()

    def json(self, path):
        return json.loads(self.get(path))


@contextmanager
def serving(cwd, *arguments, **environment):
    """A server on free ports, ended by SIGTERM; its exit status must be 0."""
    ports = [part for name in ("http", "grpc", "ui", "sql") for part in (f"--{name}", ANY_PORT)]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", *ports, *map(str, arguments)],
        cwd=cwd,
        env={**_clean_environment(), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        server = _ready(process)
        # Read all the while: a full pipe would stop the server.
        listening = threading.Thread(target=server.lines.extend, args=(process.stderr,))
        listening.start()
        try:
            yield server
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        finally:
            process.kill()  # does nothing where it has ended
            listening.join()
        assert process.returncode == 0, server.stderr
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _ready(process):
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("ready"):
            addresses = dict(re.findall(r"^(\w+) +(https?://\S+|\d[\d.]*:\d+)", "".join(said), re.MULTILINE))
            return Running(
                process,
                addresses["OTLP"],
                addresses["gRPC"],
                addresses["page"],
                addresses["SQL"],
                deque(maxlen=LINES_KEPT),
            )
    raise AssertionError("the server ended early:\n" + "".join(said))


def _clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("PENNYTRACE_", "OTEL_"))}
