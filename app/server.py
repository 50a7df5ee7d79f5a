"""`pennytrace serve`: every part in one process."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING

from apscheduler.schedulers.background import BackgroundScheduler

from app.access import KeyGate
from app.api import create_ui_app
from app.connections import ConnectionLimits
from app.errors import CommandError
from app.job import Job
from app.listening import PURPOSES, STOP_GRACE_S, WebServer, bind, close_all, connections_that_fit
from app.settings import Address
from app.tls import load_tls
from app.waiting import open_store
from collector import Ingest, JournalError, create_http_app, serve_grpc
from collector.admission import Admission
from collector.counts import Count, Counts
from collector.keys import ForbiddenError, Keys, Scope, UnauthenticatedError
from collector.scraping.scraper import Scraper
from storage import EmbeddedLocation
from storage.retention import accepted_past_days
from storage.sql_endpoint import UnknownKeyError, WrongKeyError, create_sql_app

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import FastAPI

    from app.settings import Settings

log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


class Server:
    """All parts over one store, from the constructor until `stop`.

    Raises CommandError or StoreError when a port, the store or a setting does not allow it; then nothing runs.
    """

    def __init__(
        self, settings: Settings, console: Callable[[str], None], clock: Callable[[], datetime] = utc_now
    ) -> None:
        # A ClickHouse server has an SQL endpoint of its own.
        names = [*PURPOSES] if isinstance(settings.storage.location, EmbeddedLocation) else ["http", "grpc", "ui"]
        _require_keys_off_loopback(settings, names)
        self._settings = settings
        self._tls = load_tls(settings.server)
        self._admission = Admission.of(settings.collector, Keys(settings.keys))
        self._edge = Counts()
        self._web: list[WebServer] = []
        self._connections_max = connections_that_fit(settings.server.connections_max, len(names))
        with ExitStack() as parts:
            listeners = bind(settings.server, names)
            parts.callback(close_all, listeners)
            self._ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
            self.store = open_store(settings.storage.location, settings.storage.wait_s)
            parts.callback(self.store.close)
            self.ingest = self._open_ingest(clock)
            parts.callback(self.ingest.close)
            self._scraper = Scraper(settings.scrape.targets, self.ingest, clock, SystemRandom())
            parts.callback(self._scraper.close)
            self.job = Job(self.store, settings, clock, console, self.url("ui", by_name=True), self.ingest.flush)
            parts.callback(self.job.wait)
            self._serve_grpc(listeners.pop("grpc"), parts)
            self._serve_web(listeners, clock, parts)
            self.store.announce(self.url("ui"))
            self._scheduler = BackgroundScheduler(timezone=UTC)
            self._parts = parts.pop_all()

    def _open_ingest(self, clock: Callable[[], datetime]) -> Ingest:
        collector, retention = self._settings.collector, self._settings.retention
        kept = retention.accepted_past_days(collector.accepted_past_days)
        # Days that an earlier, narrower setting dropped stay refused.
        days = accepted_past_days(self.store, clock(), kept)
        collector = collector.model_copy(update={"accepted_past_days": days})
        journal = collector.journal or self._settings.storage.data / "journal"
        try:
            return Ingest(self.store, collector, clock, journal)
        except JournalError as error:
            raise CommandError(str(error)) from error

    def _serve_grpc(self, listener: socket.socket, parts: ExitStack) -> None:
        # gRPC binds by itself; our socket only found out that the port is free.
        listener.close()
        address = self._address("grpc")
        tls = (self._tls.key, self._tls.certificate) if self._tls else None
        try:
            server = serve_grpc(
                self.ingest, str(address), self._settings.collector, self._admission, tls, self._connections_max
            )
        except RuntimeError as error:
            raise CommandError(f"cannot listen on {address} (OTLP over gRPC): {error}") from error
        parts.callback(server.stop, STOP_GRACE_S)

    def _serve_web(self, listeners: dict[str, socket.socket], clock: Callable[[], datetime], parts: ExitStack) -> None:
        settings = self._settings.server
        limits = ConnectionLimits(self._connections_max, settings.head_timeout_s, settings.idle_timeout_s)
        for name, listener in listeners.items():
            tally = partial(self._count_ended, name)
            web = WebServer(
                self._app(name, clock), listener, name, limits, tally, self._tls.context if self._tls else None
            )
            parts.callback(web.stop)
            self._web.append(web)

    def _count_ended(self, listener: str, reason: str) -> None:
        self._edge.add("pennytrace_ended_connections_total", listener=listener, reason=reason)

    def _count_refused(self, listener: str, reason: str) -> None:
        self._edge.add("pennytrace_refused_requests_total", listener=listener, reason=reason)

    def counts(self) -> list[Count]:
        """What the server counts, for its metrics."""
        listeners = [
            Count(f"pennytrace_{name}", {"listener": web.name}, value)
            for web in self._web
            for name, value in (("open_connections", web.connections), ("answered_requests_total", web.requests))
        ]
        reading = [
            Count("pennytrace_reading_bytes", {"listener": name}, budget.used_bytes)
            for name, budget in (("http", self._admission.reading), ("grpc", self._admission.grpc_reading))
        ]
        return [*self.ingest.counts(), *self._scraper.counts(), *self._edge.snapshot(), *listeners, *reading]

    def _app(self, name: str, clock: Callable[[], datetime]) -> FastAPI:
        keys = self._admission.keys
        if name == "http":
            origins = self._settings.server.cors_origins
            return create_http_app(self.ingest, self._settings.collector, self._admission, origins)
        if name == "sql":
            password = self._settings.sql.password.get_secret_value() or None
            return create_sql_app(self.store, password, require_key=self._require_sql_key if keys else None)
        # A page elsewhere that points its own name at us has no key; without keys the name is all that stops it.
        anywhere = self._settings.server.trust_network or keys
        hosts = ["*"] if anywhere else [*LOOPBACK_NAMES, self._address("ui").host]
        app = create_ui_app(self.store, self.job, self.ingest, clock, hosts, self.counts)
        if keys:
            app.add_middleware(KeyGate, keys=keys, tally=partial(self._count_refused, "ui"))
        return app

    def _require_sql_key(self, presented: Sequence[str]) -> None:
        try:
            self._admission.keys.require(Scope.READ, presented)
        except UnauthenticatedError as error:
            self._count_refused("sql", error.reason)
            raise UnknownKeyError from error
        except ForbiddenError as error:
            self._count_refused("sql", error.reason)
            raise WrongKeyError from error

    def _address(self, name: str) -> Address:
        return Address(Address.parse(getattr(self._settings.server, name)).host, self._ports[name])

    def url(self, name: str, *, by_name: bool = False) -> str:
        """Base URL of http, grpc, ui or sql, for this machine; `by_name`: for others, if they can reach it."""
        address = self._address(name)
        if address.is_wildcard:
            address = Address(socket.gethostname() if by_name else address.loopback, address.port)
        return f"{self._scheme}://{address}"

    @property
    def _scheme(self) -> str:
        return "https" if self._tls else "http"

    def addresses(self) -> dict[str, str]:
        """Where each part listens, by the name that people know it by."""
        urls = {name: f"{self._scheme}://{self._address(name)}" for name in self._ports}
        grpc = urls["grpc"] if self._tls else str(self._address("grpc"))
        names = {"OTLP": urls["http"], "gRPC": grpc, "page": urls["ui"]}
        return names | ({"SQL": urls["sql"]} if "sql" in urls else {})

    def schedule(self) -> None:
        """Run the job now, and from now on at its interval."""
        every_s = self._settings.schedule.interval_s
        self._scheduler.add_job(
            self._run_job, "interval", seconds=every_s, coalesce=True, max_instances=1, next_run_time=utc_now()
        )
        self._scheduler.start()
        self._parts.callback(self._scheduler.shutdown)

    def _run_job(self) -> None:
        try:
            self.job.run()
        except Exception:
            # The next run takes up the same hours: nothing is lost, but somebody should look.
            log.exception("job failed; it is tried again at the next interval")

    def stop(self) -> None:
        """Take no more, answer what was asked, store what was taken, let a running job finish."""
        for web in self._web:
            web.begin_stop()
        self._parts.close()


def wait_for_stop() -> None:
    """Block until SIGTERM or Ctrl-C; a second one ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    stop.wait()


def _require_keys_off_loopback(settings: Settings, names: Sequence[str]) -> None:
    if settings.server.trust_network or settings.keys:
        return
    for name in names:
        address = Address.parse(getattr(settings.server, name))
        if address.is_loopback or (name == "sql" and settings.sql.password.get_secret_value()):
            continue
        raise CommandError(
            f"--{name} {address} can be reached from other machines, and there are no API keys: make one with "
            "'pennytrace keys new', use a loopback address, or set [server] trust_network = true where a firewall "
            "or proxy guards the ports"
        )
