"""The collector on real ports, for as long as a test needs it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from collector import Count, Ingest, create_http_app, serve_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from collector import CollectorSettings
    from collector.admission import Admission


@dataclass(frozen=True)
class Serving:
    """Where the collector listens."""

    ingest: Ingest
    http_port: int
    grpc_port: int

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def count(self, name: str, **labels: str) -> float:
        return total(self.ingest.counts(), name, **labels)


def total(counts: list[Count], name: str, **labels: str) -> float:
    """Sum of the samples of a name that have these labels."""
    return sum(each.value for each in counts if each.name == name and labels.items() <= each.labels.items())


@contextmanager
def serve(
    ingest: Ingest, settings: CollectorSettings, admission: Admission | None = None, cors_origins: Sequence[str] = ()
) -> Iterator[Serving]:
    app = create_http_app(ingest, settings, admission, cors_origins)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    grpc_server = serve_grpc(ingest, "127.0.0.1:0", settings, admission)
    try:
        while not server.started:
            time.sleep(0.005)
        yield Serving(ingest, server.servers[0].sockets[0].getsockname()[1], grpc_server.port)
    finally:
        server.should_exit = True
        thread.join()
        grpc_server.stop(grace_s=1)
