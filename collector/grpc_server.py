"""OTLP over gRPC: the Trace, Metrics and Logs services on an event loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import grpc
import grpc.aio

from collector import protocol, refusal
from collector.admission import BODY_BYTES_PER_S_MIN, Admission, Lease, ReadingFullError, SlowBodyError
from collector.errors import CollectorError, UnavailableError
from collector.keys import Scope, presented
from collector.protocol import SIGNALS, Encoding, Signal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from collector.ingest import Ingest
    from collector.settings import CollectorSettings

# As for HTTP: parsing this much takes under a millisecond.
INLINE_BYTES_MAX = 64 * 1024
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
# A request waits this long for others to be read, half of what exporters wait for their answer by default.
TURN_TIMEOUT_S = 5
# While others wait, whoever is being read has this long for its message: most have come before their turn.
CROWDED_TIMEOUT_S = 2
# One connection has at most this part of the turns.
CONNECTION_PART = 4
ANY = ""
OPTIONS = [
    ("grpc.so_reuseport", 0),
    # Exporters send one request at a time; a few proxies send many over one connection. More streams wait.
    ("grpc.max_concurrent_streams", 100),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    # An hour, so that a load balancer in front gets to spread long-lived connections again.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    # Finds out within a minute and a half that the other side is gone, also without a word from it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients that ping as often as this are not told off.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]


class GrpcServer:
    """A running server; `port` is the one it listens on."""

    def __init__(
        self,
        ingest: Ingest,
        address: str,
        settings: CollectorSettings,
        admission: Admission,
        credentials: grpc.ServerCredentials | None,
        connections_max: int,
    ) -> None:
        self._settings = settings
        self._exporter = _Exporter(ingest, settings, admission)
        self._credentials = credentials
        self._connections_max = connections_max
        self._loop = asyncio.new_event_loop()
        self._stop_requested: Future[float] = Future()
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(address, started), name="otlp-grpc", daemon=True)
        self._thread.start()
        try:
            self.port = started.result()
        except BaseException:
            self._thread.join()
            raise

    def stop(self, grace_s: float) -> None:
        """Take no new requests, let those in flight finish for up to `grace_s` seconds, and end the thread."""
        if not self._stop_requested.done():
            self._stop_requested.set_result(grace_s)
        self._thread.join()

    def _run(self, address: str, started: Future[int]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve(address, started))
            except Exception as error:  # told to the thread that waits for the start
                if started.done():
                    raise
                started.set_exception(error)

    async def _serve(self, address: str, started: Future[int]) -> None:
        limits = [
            ("grpc.max_receive_message_length", message_bytes_max(self._settings)),
            ("grpc.max_allowed_incoming_connections", self._connections_max),
        ]
        server = grpc.aio.server(options=[*OPTIONS, *limits])
        server.add_generic_rpc_handlers((_Services(self._exporter),))
        if self._credentials:
            port = server.add_secure_port(address, self._credentials)
        else:
            port = server.add_insecure_port(address)
        await server.start()
        started.set_result(port)
        grace_s = await asyncio.wrap_future(self._stop_requested)
        await server.stop(grace_s)


def serve_grpc(
    ingest: Ingest,
    address: str,
    settings: CollectorSettings,
    admission: Admission | None = None,
    tls: tuple[bytes, bytes] | None = None,
    connections_max: int = 2000,
) -> GrpcServer:
    """Start serving on `address`, host:port with port 0 for a free one; returns once it listens.

    Connections past `connections_max` are closed. `tls` is a private key and its certificate chain, in PEM. Raises
    RuntimeError when the address cannot be bound.
    """
    credentials = grpc.ssl_server_credentials([tls]) if tls else None
    return GrpcServer(ingest, address, settings, admission or Admission.of(settings), credentials, connections_max)


def message_bytes_max(settings: CollectorSettings) -> int:
    """The largest message that is taken, in bytes."""
    return min(settings.grpc_message_bytes_max, settings.decompressed_bytes_max)


class _Services(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc ships no types
    """Finds the method of a call and, before a byte of its message is read, whether it may be made."""

    def __init__(self, exporter: _Exporter) -> None:
        self._exporter = exporter
        self._signals = {f"/{signal.service}/Export": signal for signal in SIGNALS}

    def service(self, handler_call_details: Any) -> Any:  # noqa: ANN401 - grpc ships no types
        """The method's handler; None when there is no such method."""
        signal = self._signals.get(handler_call_details.method)
        if signal is None:
            return None
        # To the wire one message is a stream of one, and only a stream leaves reading it to the handler: a message
        # is not taken in before there is room for it, and not waited for without end.
        export = self._exporter.method(signal, handler_call_details.invocation_metadata)
        return grpc.stream_unary_rpc_method_handler(export)


@dataclass(frozen=True)
class _Reading:
    """A turn that is taken; the loop's time."""

    connection: str
    began: float
    deadline: asyncio.Timeout


class Turns:
    """Room for so many messages at once: nobody sees how much of a message has come before it is whole.

    A turn lasts at most `read_timeout_s`, and no longer than a moment while others wait; one connection has at
    most a quarter of them.
    """

    def __init__(self, turns: int, read_timeout_s: float) -> None:
        self._turns = asyncio.Semaphore(turns)
        self._each_max = max(1, turns // CONNECTION_PART)
        self._of_connection: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._read_timeout_s = read_timeout_s
        self._reading: set[_Reading] = set()
        # By the connection whose turns they wait for; by ANY where they wait for a turn at all.
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, connection: str) -> AsyncGenerator[None]:
        """Room for one message; small ones have come before their turn and are through it at once.

        Raises ReadingFullError when none gets free, SlowBodyError when the message does not come within its time.
        """
        own = self._of_connection.setdefault(connection, asyncio.Semaphore(self._each_max))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(TURN_TIMEOUT_S):
                    await self._take(own, connection, held)
                    await self._take(self._turns, ANY, held)
            except TimeoutError as error:
                raise ReadingFullError("too many requests are being read already: try again") from error
            try:
                async with asyncio.timeout(self._read_timeout_s) as deadline:
                    reading = _Reading(connection, asyncio.get_running_loop().time(), deadline)
                    self._reading.add(reading)
                    held.callback(self._reading.discard, reading)
                    self._hurry()
                    yield
            except TimeoutError as error:
                raise SlowBodyError("expected the message sooner: try again") from error

    async def _take(self, turns: asyncio.Semaphore, whose: str, held: AsyncExitStack) -> None:
        self._waiting[whose] += 1
        try:
            if turns.locked():
                self._hurry()
            await held.enter_async_context(turns)
        finally:
            self._waiting[whose] -= 1
            self._waiting = +self._waiting  # without those that nobody waits for

    def _hurry(self) -> None:
        """End the turns that others wait for, when they have lasted long enough."""
        for each in self._reading:
            deadline = each.began + CROWDED_TIMEOUT_S
            if (self._waiting[ANY] or self._waiting[each.connection]) and deadline < (each.deadline.when() or deadline):
                each.deadline.reschedule(deadline)


class _Exporter:
    def __init__(self, ingest: Ingest, settings: CollectorSettings, admission: Admission) -> None:
        self._ingest = ingest
        self._settings = settings
        self._admission = admission
        self._message_bytes_max = message_bytes_max(settings)
        turns = max(1, admission.grpc_reading.bytes_max // self._message_bytes_max)
        self._turns = Turns(turns, settings.body_timeout_s + self._message_bytes_max / BODY_BYTES_PER_S_MIN)

    def method(self, signal: Signal, metadata: Any) -> Callable[[Any, Any], Awaitable[bytes]]:  # noqa: ANN401 - untyped
        async def export(_requests: object, context: Any) -> bytes:  # noqa: ANN401 - grpc ships no types
            try:
                return await self._export(signal, self._tenant(signal, metadata), context)
            except CollectorError as error:
                return await self._refuse(error, context)

        return export

    def _tenant(self, signal: Signal, metadata: Any) -> str:  # noqa: ANN401
        if not self._admission.keys:
            return ""
        said = dict(metadata)
        try:
            found = presented(_text(said.get("authorization")), _text(said.get("x-api-key")))
            return self._admission.keys.require(Scope.WRITE, found)
        except CollectorError as error:
            self._ingest.count_refusal(signal, error)
            raise

    async def _export(self, signal: Signal, tenant: str, context: Any) -> bytes:  # noqa: ANN401
        with self._admission.grpc_reading.lease() as lease:
            body = await self._read(signal, lease, context)
            if len(body) <= INLINE_BYTES_MAX:
                pending = self._ingest.receive(signal, body, tenant=tenant)
            else:
                pending = await asyncio.to_thread(self._ingest.receive, signal, body, tenant=tenant)
        receipt = await asyncio.wrap_future(pending)
        return protocol.response(signal, receipt.rejected, Encoding.PROTOBUF)

    async def _read(self, signal: Signal, lease: Lease, context: Any) -> bytes:  # noqa: ANN401
        try:
            async with self._turns.turn(context.peer()):
                lease.take(self._message_bytes_max)
                body = await context.read()
        except UnavailableError as error:
            self._ingest.count_refusal(signal, error)
            raise
        message = body if isinstance(body, bytes) else b""  # no message at all
        lease.shrink(len(message))
        return message

    async def _refuse(self, error: CollectorError, context: Any) -> bytes:  # noqa: ANN401
        retry_after_s = self._settings.retry_after_s
        status = refusal.status(error, retry_after_s)
        trailers = [("grpc-status-details-bin", status.SerializeToString())]
        if isinstance(error, UnavailableError):
            retry_info = refusal.retry_info(retry_after_s)
            trailers.append(("google.rpc.retryinfo-bin", retry_info.SerializeToString()))
        await context.abort(STATUS_CODES[error.code], status.message, tuple(trailers))
        raise AssertionError("abort always raises") from error


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
