"""`pennytrace serve`: every part in one process."""

from __future__ import annotations

import logging
import signal
import threading
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
    from collections.abc import Callable

    from app.settings import Settings

log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


class Server:
    """All parts over one store, from the constructor until `stop`.

    Raises CommandError or StoreError when a port, the store or a setting does not allow it.
    """

    def __init__(
        self, settings: Settings, console: Callable[[str], None], clock: Callable[[], datetime] = utc_now
    ) -> None:
        _require_loopback(settings)
        self._settings = settings
        # A ClickHouse server has an SQL endpoint of its own.
        names = [*PURPOSES] if isinstance(settings.storage.location, EmbeddedLocation) else ["http", "grpc", "ui"]
        listeners = listen(settings.server, names)
        try:
            self.store = Store.open(settings.storage.location)
        except BaseException:
            close_all(listeners)
            raise
        self.ingest = Ingest(self.store, settings.collector, clock)
        # gRPC binds by itself; our socket only found out that the port is free.
        grpc_port = listeners["grpc"].getsockname()[1]
        listeners.pop("grpc").close()
        self._grpc = serve_grpc(self.ingest, str(self._address("grpc", grpc_port)), settings.collector)
        ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
        self._urls = {name: f"http://{self._address(name, port)}" for name, port in ports.items()}
        self.job = Job(self.store, settings, clock, console, self._urls["ui"])
        hosts = ["*"] if settings.server.trust_network else LOOPBACK_NAMES
        apps = {
            "http": create_http_app(self.ingest, settings.collector),
            "ui": create_ui_app(self.store, self.job, self.ingest, clock, hosts),
        }
        if "sql" in listeners:
            apps["sql"] = create_sql_app(self.store, settings.sql.password.get_secret_value() or None)
        self._web = {name: WebServer(app, listeners[name], name) for name, app in apps.items()}
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self.store.announce(self._urls["ui"])

    def _address(self, name: str, port: int) -> Address:
        return Address(Address.parse(getattr(self._settings.server, name)).host, port)

    def url(self, name: str) -> str:
        """Base URL of http, ui or sql."""
        return self._urls[name]

    def addresses(self) -> dict[str, str]:
        """Where each part listens, by the name that people know it by."""
        grpc = self._address("grpc", self._grpc.port)
        names = {"OTLP": self._urls["http"], "gRPC": str(grpc), "page": self._urls["ui"]}
        return names | ({"SQL": self._urls["sql"]} if "sql" in self._urls else {})

    def schedule(self) -> None:
        """Run the job now, and from now on at its interval."""
        every_s = self._settings.schedule.interval_s
        self._scheduler.add_job(
            self._run_job, "interval", seconds=every_s, coalesce=True, max_instances=1, next_run_time=utc_now()
        )
        self._scheduler.start()

    def _run_job(self) -> None:
        try:
            self.job.run()
        except Exception:
            # The next run takes up the same hours: nothing is lost, but somebody should look.
            log.exception("job failed; it is tried again at the next interval")

    def stop(self) -> None:
        """Take no more, answer what was asked, store what was taken, let a running job finish."""
        self._web["http"].stop()
        self._grpc.stop(STOP_GRACE_S)
        self.ingest.close()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        for name in ("ui", "sql"):
            if name in self._web:
                self._web[name].stop()
        self.store.close()


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
