"""Ports: taken all or none before anything else starts, with an error that says which one is in use."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

from app.connections import GuardedProtocol
from app.errors import CommandError
from app.settings import Address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from fastapi import FastAPI

    from app.connections import ConnectionLimits
    from app.settings import ServerSettings

log = logging.getLogger(__name__)

# Longer than the SQL endpoint lets a statement run: one that is cut off would still be using the store.
STOP_GRACE_S = 35
BACKLOG = 1024
# The engine's parts, its clients, the journal. Where there are fewer, half are for connections.
FILES_BESIDES = 2000
# When accepting fails, mostly for want of files, the next try comes after this.
ACCEPT_AGAIN_S = 0.5

PURPOSES = {
    "http": "OTLP over HTTP",
    "grpc": "OTLP over gRPC",
    "ui": "the page and the API",
    "sql": "the SQL endpoint",
}


def bind(settings: ServerSettings, names: Iterable[str]) -> dict[str, socket.socket]:
    """A socket bound to each of the named addresses, which refuses connections until something listens on it.

    Raises CommandError, and then none is left open.
    """
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
    except OSError as error:
        listener.close()
        raise _cannot_listen(address, name, error) from error
    return listener


def _listen(listener: socket.socket, name: str) -> None:
    try:
        listener.listen(BACKLOG)
    except OSError as error:  # another program has bound the same port meanwhile, and was first
        raise _cannot_listen(Address(*listener.getsockname()[:2]), name, error) from error


def _cannot_listen(address: Address, name: str, error: OSError) -> CommandError:
    if error.errno == errno.EADDRINUSE:
        return CommandError(
            f"port {address.port} on {address.host} is in use ({PURPOSES[name]}): "
            f"stop the other program, or choose another with --{name} HOST:PORT"
        )
    return CommandError(
        f"cannot listen on {address} ({PURPOSES[name]}): {error.strerror or error}; give --{name} HOST:PORT"
    )


def connections_that_fit(connections_max: int, ports: int) -> int:
    """How many connections each port may have: `connections_max`, or fewer where the system has no files for them.

    Each connection is an open file. As many files as the system allows are taken up.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = ports * connections_max + FILES_BESIDES
    with suppress(ValueError, OSError):  # the kernel's own limit may be lower still
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fitting = max(1, max(files - FILES_BESIDES, files // 2) // ports)
    if fitting < connections_max:
        log.warning(
            "the system allows too few open files for [server] connections_max; each port takes fewer connections",
            extra={"files_allowed": files, "connections_each_port": fitting},
        )
    return min(connections_max, fitting)


class WebServer:
    """One ASGI application on one socket, in a thread with an event loop of its own; it accepts when this returns.

    Raises what kept it from starting. `tally` counts by reason the connections that were ended for what they did or
    did not do.
    """

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        name: str,
        limits: ConnectionLimits,
        tally: Callable[[str], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        config = uvicorn.Config(
            app,
            loop="uvloop",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=limits.idle_timeout_s,
            timeout_graceful_shutdown=STOP_GRACE_S,
        )
        self._server = _GuardedServer(config, limits, tally, tls)
        _listen(listener, name)
        self._thread = threading.Thread(target=self._run, args=(listener,), name=name)
        self._thread.start()
        try:
            self._server.accepting.result()
        except BaseException:
            self._thread.join()
            raise

    def _run(self, listener: socket.socket) -> None:
        try:
            self._server.run([listener])
        except BaseException as error:  # told to the thread that waits for the start
            if self._server.accepting.done():
                raise
            self._server.accepting.set_exception(error)

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._server.connections

    @property
    def requests(self) -> int:
        """How many were answered."""
        return self._server.server_state.total_requests

    def begin_stop(self) -> None:
        """Take no more; what has been asked is still answered."""
        self._server.should_exit = True

    def stop(self) -> None:
        """Answer what has been asked, then end."""
        self.begin_stop()
        self._thread.join()


class _GuardedServer(uvicorn.Server):
    """uvicorn with guarded connections and an end to TLS handshakes."""

    def __init__(
        self,
        config: uvicorn.Config,
        limits: ConnectionLimits,
        tally: Callable[[str], None],
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(config)
        self.servers = []
        self._limits = limits
        self._tally = tally
        self._tls = tls
        self._doors: list[_TlsDoor] = []
        self.accepting: Future[None] = Future()

    @property
    def connections(self) -> int:
        """How many are open, those in their TLS handshake included."""
        return len(self.server_state.connections) + sum(door.handshakes for door in self._doors)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise RuntimeError("the application did not start")
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            if self._tls:
                self._doors.append(_TlsDoor(listener, self._tls, self._limits.head_timeout_s, self._greet))
            else:
                self.servers.append(await loop.create_server(self._protocol, sock=listener, backlog=BACKLOG))
        self.started = True
        self.accepting.set_result(None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, answer what was asked."""
        for door in self._doors:
            door.close()
        await super().shutdown(sockets)

    def _greet(self) -> GuardedProtocol | None:
        """A protocol for one connection more, or None when there are too many already."""
        if self.connections < self._limits.connections_max:
            return self._protocol()
        self._tally("too_many")
        return None

    def _protocol(self) -> GuardedProtocol:
        return GuardedProtocol(self.config, self.server_state, self.lifespan.state, self._limits, self._tally)


class _TlsDoor:
    """Accepts connections and counts their handshakes, which asyncio's server does without telling anybody.

    `greet` gives the protocol of the next connection, or None for one that is to be closed: an answer would need
    the handshake.
    """

    def __init__(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext,
        handshake_timeout_s: float,
        greet: Callable[[], GuardedProtocol | None],
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._greet = greet
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        listener.setblocking(False)  # noqa: FBT003 - the standard library's
        self._listen()

    @property
    def handshakes(self) -> int:
        """How many are under way."""
        return len(self._tasks)

    def close(self) -> None:
        """Accept no more, and end the handshakes."""
        self._is_open = False
        self._loop.remove_reader(self._listener)
        for task in self._tasks:
            task.cancel()

    def _listen(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("a connection could not be accepted", extra={"error": str(error)})
            self._loop.remove_reader(self._listener)
            self._loop.call_later(ACCEPT_AGAIN_S, self._listen)
            return
        protocol = self._greet()
        if protocol is None:
            connection.close()
            return
        task = self._loop.create_task(self._shake_hands(connection, protocol))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, connection: socket.socket, protocol: GuardedProtocol) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the standard library's
        # What fails here is the client's doing, and the connection is closed with it.
        with suppress(OSError):
            await self._loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._tls, ssl_handshake_timeout=self._handshake_timeout_s
            )
