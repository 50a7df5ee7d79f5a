"""`pennytrace serve`: every part in one process."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from apscheduler.schedulers.background import BackgroundScheduler

from app.api import create_ui_app
from app.errors import CommandError
from app.job import Job
from app.listening import PURPOSES, STOP_GRACE_S, WebServer, close_all, listen
from app.settings import Address
from collector import Ingest, create_http_app, serve_grpc
from storage import EmbeddedLocation, Store
from storage.sql_endpoint import create_sql_app

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

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
        _require_loopback(settings)
        self._settings = settings
        # A ClickHouse server has an SQL endpoint of its own.
        names = [*PURPOSES] if isinstance(settings.storage.location, EmbeddedLocation) else ["http", "grpc", "ui"]
        with ExitStack() as parts:
            listeners = listen(settings.server, names)
            parts.callback(close_all, listeners)
            self._ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
            self.store = Store.open(settings.storage.location)
            parts.callback(self.store.close)
            self.ingest = Ingest(self.store, settings.collector, clock)
            parts.callback(self.ingest.close)
            self.job = Job(self.store, settings, clock, console, self.url("ui"))
            parts.callback(self.job.wait)
            self._serve_grpc(listeners.pop("grpc"), parts)
            self._web = [WebServer(self._app(name, clock), listener, name) for name, listener in listeners.items()]
            for web in self._web:
                parts.callback(web.stop)
            self.store.announce(self.url("ui"))
            self._scheduler = BackgroundScheduler(timezone=UTC)
            self._parts = parts.pop_all()

    def _serve_grpc(self, listener: socket.socket, parts: ExitStack) -> None:
        # gRPC binds by itself; our socket only found out that the port is free.
        listener.close()
        address = self._address("grpc")
        try:
            server = serve_grpc(self.ingest, str(address), self._settings.collector)
        except RuntimeError as error:
            raise CommandError(f"cannot listen on {address} (OTLP over gRPC): {error}") from error
        parts.callback(server.stop, STOP_GRACE_S)

    def _app(self, name: str, clock: Callable[[], datetime]) -> FastAPI:
        if name == "http":
            return create_http_app(self.ingest, self._settings.collector)
        if name == "sql":
            return create_sql_app(self.store, self._settings.sql.password.get_secret_value() or None)
        hosts = ["*"] if self._settings.server.trust_network else [*LOOPBACK_NAMES, self._address("ui").host]
        return create_ui_app(self.store, self.job, self.ingest, clock, hosts)

    def _address(self, name: str) -> Address:
        return Address(Address.parse(getattr(self._settings.server, name)).host, self._ports[name])

    def url(self, name: str) -> str:
        """Base URL of http, ui or sql."""
        return f"http://{self._address(name)}"

    def addresses(self) -> dict[str, str]:
        """Where each part listens, by the name that people know it by."""
        names = {"OTLP": self.url("http"), "gRPC": str(self._address("grpc")), "page": self.url("ui")}
        return names | ({"SQL": self.url("sql")} if "sql" in self._ports else {})

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


def _require_loopback(settings: Settings) -> None:
    if settings.server.trust_network:
        return
    for name in PURPOSES:
        address = Address.parse(getattr(settings.server, name))
        if not address.is_loopback:
            raise CommandError(
                f"--{name} {address} can be reached from other machines, and there are no API keys: use a loopback "
                "address, or set [server] trust_network = true where a firewall or proxy guards the ports"
            )
