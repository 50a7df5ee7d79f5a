"""What port 8900 serves: the page, the API, health and the server's own metrics."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import anyio
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse

from app.answers import LocalAnswers, SettableState, State
from app.errors import CommandError
from app.health import add_health
from app.timespan import parse_time
from app.traces import TraceNotFoundError
from dashboards import create_page_router
from storage import StoreError, StoreUnavailableError
from storage.store import CLIENTS_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from datetime import datetime

    from app.job import Job
    from collector import Count, Ingest
    from storage import Store

CALLS_LIMIT_DEFAULT = 10_000
CALLS_LIMIT_MAX = 1_000_000
# What the page and the API read at once: it leaves the store's other clients to the committers, the job, whoever asks
# for a run of it, and the probe.
READERS_MAX = CLIENTS_MAX - 6
STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (TraceNotFoundError, 404),
    (CommandError, 400),
    (StoreUnavailableError, 503),
    (StoreError, 500),
)

When = Annotated[str | None, Query(description="a date, a time, or a span such as 7d")]


def create_ui_app(
    store: Store,
    job: Job,
    ingest: Ingest,
    clock: Callable[[], datetime],
    hosts: Sequence[str],
    counts: Callable[[], Iterable[Count]],
) -> FastAPI:
    """The application on the UI port. It answers only to the host names in `hosts`; '*' stands for any."""
    # The interactive documentation pages load scripts from the internet, which nothing of ours does.
    app = FastAPI(title="Pennytrace", docs_url=None, redoc_url=None, lifespan=_few_readers)
    # Otherwise a web page elsewhere could point its own name at loopback and read the ledger through the browser.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    answers = LocalAnswers(store, job, clock)
    # Runs of the job follow one another anyway; those that wait need no thread.
    runs = anyio.CapacityLimiter(1)

    def moment(text: str | None) -> datetime | None:
        return parse_time(text, clock()) if text else None

    @app.get("/api/report")
    def report(by: str = "endpoint", since: When = None, until: When = None) -> Any:  # noqa: ANN401 - JSON
        return answers.report([name for name in by.split(",") if name], moment(since), moment(until))

    @app.get("/api/calls")
    def calls(
        since: When = None,
        until: When = None,
        limit: Annotated[int, Query(ge=1, le=CALLS_LIMIT_MAX)] = CALLS_LIMIT_DEFAULT,
    ) -> Any:  # noqa: ANN401 - JSON
        return answers.calls(moment(since), moment(until), limit)

    @app.post("/api/analyze", dependencies=[Depends(_require_same_site)])
    async def analyze(*, everything: bool = False) -> Any:  # noqa: ANN401 - JSON
        return await anyio.to_thread.run_sync(partial(answers.analyze, None, everything=everything), limiter=runs)

    @app.get("/api/incidents")
    def incidents(state: State | None = None) -> Any:  # noqa: ANN401 - JSON
        return answers.incidents(state)

    @app.post("/api/incidents/{key}", dependencies=[Depends(_require_same_site)])
    def set_incident_state(key: str, state: SettableState) -> Any:  # noqa: ANN401 - JSON
        return answers.set_incident_state(key, state)

    @app.get("/api/traces/{trace_id}")
    def trace(trace_id: str) -> Any:  # noqa: ANN401 - JSON
        return answers.trace(trace_id)

    for error, status in STATUSES:
        app.add_exception_handler(error, _answering(status))
    add_health(app, store, ingest, counts)
    app.include_router(create_page_router(store, clock))
    return app


@asynccontextmanager
async def _few_readers(_app: FastAPI) -> AsyncGenerator[None]:
    """Every endpoint that is not a coroutine runs in the threads that this bounds."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = READERS_MAX
    yield


def _answering(status: int) -> Callable[[Request, Exception], JSONResponse]:
    def answer(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=status)

    return answer


def _require_same_site(request: Request) -> None:
    """Refuse what another site's page has a browser send: only reading is harmless."""
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"} or (
        origin and urlsplit(origin).netloc != request.headers.get("host")
    ):
        raise HTTPException(403, "expected a request from this server's own page or from a program, got another site's")
