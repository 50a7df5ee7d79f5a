"""Health: does the process live, and does it accept telemetry."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import Response
from fastapi.responses import JSONResponse

from app.exposition import exposition
from storage import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastapi import FastAPI

    from collector import Count, Ingest
    from storage import Store

# Orchestrators give a probe about a second by default.
PROBE_S = 0.5
HEALTH_THREADS = 4


class StoreProbe:
    """Whether the store answers, without ever waiting long: a question that hangs is not asked again meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(1, "probe")
        self._asked: Future[str] | None = None

    def is_up(self) -> bool:
        """True when it answered within half a second."""
        if self._asked is None or self._asked.done():
            self._asked = self._pool.submit(self._store.ping)
        try:
            self._asked.result(PROBE_S)
        except (StoreError, TimeoutError):
            return False
        return True


def add_health(app: FastAPI, store: Store, ingest: Ingest, counts: Callable[[], Iterable[Count]]) -> None:
    """GET /healthz, /readyz and /metrics."""
    probe = StoreProbe(store)
    # Threads of their own: the answers must not wait behind questions to the ledger.
    threads = anyio.CapacityLimiter(HEALTH_THREADS)

    @app.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Telemetry is accepted; what is accepted while the store is away waits in the journal")
    async def readyz() -> JSONResponse:
        return await anyio.to_thread.run_sync(ready, limiter=threads)

    @app.get("/metrics", summary="The server's own metrics, for Prometheus")
    async def metrics() -> Response:
        text = await anyio.to_thread.run_sync(exposition, counts, limiter=threads)
        return Response(text, media_type="text/plain; version=0.0.4")

    def ready() -> JSONResponse:
        journal = ingest.journal_state()
        answer: dict[str, Any] = {
            "status": "ok" if journal.accepting else "unavailable",
            "store": "up" if probe.is_up() else "away",
            "journal": {"bytes": journal.bytes, "segments": journal.segments, "age_s": round(journal.age_s, 3)},
        }
        return JSONResponse(answer, 200 if journal.accepting else 503)
