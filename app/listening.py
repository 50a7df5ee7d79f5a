"""Ports: taken all or none before anything else starts, with an error that says which one is in use."""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING

import uvicorn

from app.errors import CommandError
from app.settings import Address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI

    from app.settings import ServerSettings

# Longer than the SQL endpoint lets a statement run: one that is cut off would still be using the store.
STOP_GRACE_S = 35
BACKLOG = 1024

PURPOSES = {
    "http": "OTLP over HTTP",
    "grpc": "OTLP over gRPC",
    "ui": "the page and the API",
    "sql": "the SQL endpoint",
}


def listen(settings: ServerSettings, names: Iterable[str]) -> dict[str, socket.socket]:
    """A listening socket for each of the named addresses. Raises CommandError, and then none is left open."""
    listeners: dict[str, socket.socket] = {}
    try:
        for name in names:
            listeners[name] = _bind(Address.parse(getattr(settings, name)), name)
    except BaseException:
        close_all(listeners)
        raise
    return listeners


def close_all(listeners: dict[str, socket.socket]) -> None:
    """Give the ports back."""
    for listener in listeners.values():
        listener.close()


def _bind(address: Address, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"port {address.port} on {address.host} is in use ({PURPOSES[name]}): "
                f"stop the other program, or choose another with --{name} HOST:PORT"
            ) from error
        raise CommandError(
            f"cannot listen on {address} ({PURPOSES[name]}): {error.strerror or error}; give --{name} HOST:PORT"
        ) from error
    return listener


class WebServer:
    """One ASGI application on one socket, in a thread with an event loop of its own."""

    def __init__(self, app: FastAPI, listener: socket.socket, name: str) -> None:
        self.port: int = listener.getsockname()[1]
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_GRACE_S)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name=name)
        self._thread.start()

    def begin_stop(self) -> None:
        """Take no more; what has been asked is still answered."""
        self._server.should_exit = True

    def stop(self) -> None:
        """Answer what has been asked, then end."""
        self.begin_stop()
        self._thread.join()
