"""What the command line and the API answer: the same JSON-ready values, from the store or from a server."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

import httpx2

from alerts import AlertError, acknowledge, incidents, resolve
from analytics.report import UnknownDimensionError, calls, report
from app.errors import CommandError
from app.job import Job
from app.traces import parse_trace_id, trace_answer
from storage import EmbeddedLocation, LocationBusyError, Store, is_store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import polars as pl

    from app.settings import Settings

Json = Any
State = Literal["open", "acknowledged", "resolved"]
SettableState = Literal["acknowledged", "resolved"]
# Without a period everything is meant.
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(2200, 1, 1, tzinfo=UTC)
# A first run over months of back-filled hours takes minutes.
ANALYZE_TIMEOUT_S = 3600
READ_TIMEOUT_S = 60


class Answers(Protocol):
    """Questions that can be put to the ledger. Dollars are decimal strings, times ISO 8601 in UTC."""

    def report(self, by: Sequence[str], since: datetime | None, until: datetime | None) -> Json:
        """{"rows": […], "totals": {…}}."""
        ...

    def calls(self, since: datetime | None, until: datetime | None, limit: int) -> Json:
        """A list of billed calls, oldest first."""
        ...

    def analyze(self, progress: Callable[[int, int], None] | None, *, everything: bool) -> Json:
        """Run the job once; what it did."""
        ...

    def incidents(self, state: State | None) -> Json:
        """A list of incidents, newest first."""
        ...

    def set_incident_state(self, key: str, state: SettableState) -> Json:
        """Acknowledge or resolve an incident; the incident as it then is."""
        ...

    def trace(self, trace_id: str) -> Json:
        """The trace of this hex id as OTLP JSON; `calls` beside it is what the ledger knows of its calls."""
        ...


def json_rows(frame: pl.DataFrame) -> list[dict[str, Json]]:
    """The frame's rows with every value as JSON has it."""
    return [{name: json_value(value) for name, value in row.items()} for row in frame.iter_rows(named=True)]


def json_value(value: object) -> Json:
    """A Decimal as a string without trailing zeros, a time as ISO 8601 in UTC; containers likewise."""
    match value:
        case Decimal():
            return format(value.normalize(), "f")
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case dict():
            return {name: json_value(part) for name, part in value.items()}
        case list() | tuple():
            return [json_value(part) for part in value]
        case _:
            return value


class LocalAnswers:
    """Answers from a store that this process has open."""

    def __init__(self, store: Store, job: Job, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._job = job
        self._clock = clock

    def report(self, by: Sequence[str], since: datetime | None, until: datetime | None) -> Json:
        """Costs and usage of the period, grouped."""
        try:
            found = report(self._store, by, since or BEGINNING, until or END)
        except UnknownDimensionError as error:
            raise CommandError(str(error)) from error
        return {"rows": json_rows(found.rows), "totals": json_value(found.totals)}

    def calls(self, since: datetime | None, until: datetime | None, limit: int) -> Json:
        """Billed calls of the period."""
        return json_rows(calls(self._store, since or BEGINNING, until or END, limit))

    def analyze(self, progress: Callable[[int, int], None] | None, *, everything: bool) -> Json:
        """Run the job here."""
        return asdict(self._job.run(progress, everything=everything))

    def incidents(self, state: State | None) -> Json:
        """Incidents, newest first."""
        return json_rows(incidents(self._store, state).reverse())

    def set_incident_state(self, key: str, state: SettableState) -> Json:
        """Acknowledge or resolve."""
        change = acknowledge if state == "acknowledged" else resolve
        try:
            return json_value(asdict(change(self._store, key, self._clock)))
        except AlertError as error:
            raise CommandError(str(error)) from error

    def trace(self, trace_id: str) -> Json:
        """One trace."""
        document, billed, truncated = trace_answer(self._store, trace_id)
        return {**document, "calls": json_value(billed), "truncated": truncated}


class RemoteAnswers:
    """Answers from a running server."""

    def __init__(self, url: str, key: str = "") -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def report(self, by: Sequence[str], since: datetime | None, until: datetime | None) -> Json:
        """Costs and usage of the period, grouped."""
        return self._ask("GET", "/api/report", {"by": ",".join(by), **_period(since, until)})

    def calls(self, since: datetime | None, until: datetime | None, limit: int) -> Json:
        """Billed calls of the period."""
        return self._ask("GET", "/api/calls", {"limit": str(limit), **_period(since, until)})

    def analyze(self, progress: Callable[[int, int], None] | None, *, everything: bool) -> Json:
        """Have the server run the job; its progress cannot be seen from here."""
        del progress
        return self._ask("POST", "/api/analyze", {"everything": str(everything).lower()}, ANALYZE_TIMEOUT_S)

    def incidents(self, state: State | None) -> Json:
        """Incidents, newest first."""
        return self._ask("GET", "/api/incidents", {"state": state} if state else {})

    def set_incident_state(self, key: str, state: SettableState) -> Json:
        """Acknowledge or resolve."""
        return self._ask("POST", f"/api/incidents/{key}", {"state": state})

    def trace(self, trace_id: str) -> Json:
        """One trace."""
        return self._ask("GET", f"/api/traces/{parse_trace_id(trace_id).hex()}", {})

    def _ask(self, method: str, path: str, query: dict[str, str], timeout_s: float = READ_TIMEOUT_S) -> Json:
        try:
            response = httpx2.request(method, self._url + path, params=query, timeout=timeout_s, headers=self._headers)
        except httpx2.InvalidURL as error:
            raise CommandError(f"expected a URL such as http://127.0.0.1:8900, got {self._url!r}") from error
        except httpx2.HTTPError as error:
            if untrusted := _certificate_fault(error):
                raise CommandError(
                    f"the certificate of {self._url} is not trusted ({untrusted}): ask by a name that it is for, and "
                    "name its authority's file in SSL_CERT_FILE"
                ) from error
            raise CommandError(
                f"no Pennytrace server answered at {self._url} ({type(error).__name__}): start one with "
                "'pennytrace serve', or give its address with --url"
            ) from error
        if response.status_code in {401, 403}:
            raise CommandError(f"{self._url}: {_detail(response)}; give it in PENNYTRACE_KEY, or with --key")
        if response.is_error:
            raise CommandError(_detail(response))
        return response.json()


def _period(since: datetime | None, until: datetime | None) -> dict[str, str]:
    return {name: time.isoformat() for name, time in (("since", since), ("until", until)) if time}


def _certificate_fault(error: BaseException) -> str:
    """What is wrong with the other side's certificate; '' when that is not what went wrong."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return ""


def _detail(response: httpx2.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered HTTP {response.status_code}: is that a Pennytrace server?"


@contextmanager
def open_answers(
    url: str | None,
    settings: Settings,
    clock: Callable[[], datetime],
    console: Callable[[str], None],
    key: str | None = None,
) -> Generator[Answers, None, None]:
    """Answers from the server at `url`, or from the store that the settings name.

    A data directory that a running server holds is asked through that server, with the API key if there is one.
    """
    if url:
        yield RemoteAnswers(url, key or "")
        return
    location = settings.storage.location
    if isinstance(location, EmbeddedLocation) and not is_store(location.path):
        raise CommandError(
            f"no ledger in {location.path}: start 'pennytrace serve', or give --data DIR or --url http://HOST:PORT"
        )
    try:
        store = Store.open(location)
    except LocationBusyError as busy:
        if not busy.holder_url:
            raise
        yield RemoteAnswers(busy.holder_url, key or "")
        return
    try:
        yield LocalAnswers(store, Job(store, settings, clock, console), clock)
    finally:
        store.close()
