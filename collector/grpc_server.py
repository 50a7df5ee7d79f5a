"""OTLP over gRPC: the Trace, Metrics and Logs services on an event loop of their own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from collector import protocol, refusal
from collector.errors import CollectorError, UnavailableError
from collector.protocol import SIGNALS, Encoding, Signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from collector.ingest import Ingest
    from collector.settings import CollectorSettings

# As for HTTP: parsing this much takes under a millisecond.
INLINE_BYTES_MAX = 64 * 1024
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcServer:
    """A running server; `port` is the one it listens on."""

    def __init__(self, ingest: Ingest, address: str, settings: CollectorSettings) -> None:
        self._ingest = ingest
        self._settings = settings
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
        limit = self._settings.decompressed_bytes_max
        options = [("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers(tuple(_service(signal, self._method(signal)) for signal in SIGNALS))
        port = server.add_insecure_port(address)
        await server.start()
        started.set_result(port)
        grace_s = await asyncio.wrap_future(self._stop_requested)
        await server.stop(grace_s)

    def _method(self, signal: Signal) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def export(body: bytes, context: Any) -> bytes:  # noqa: ANN401 (grpc ships no types)
            try:
                if len(body) <= INLINE_BYTES_MAX:
                    pending = self._ingest.receive(signal, body)
                else:
                    pending = await asyncio.to_thread(self._ingest.receive, signal, body)
                receipt = await asyncio.wrap_future(pending)
            except CollectorError as error:
                return await self._refuse(error, context)
            return protocol.response(signal, receipt.rejected, Encoding.PROTOBUF)

        return export

    async def _refuse(self, error: CollectorError, context: Any) -> bytes:  # noqa: ANN401
        retry_after_s = self._settings.retry_after_s
        status = refusal.status(error, retry_after_s)
        trailers = [("grpc-status-details-bin", status.SerializeToString())]
        if isinstance(error, UnavailableError):
            retry_info = refusal.retry_info(retry_after_s)
            trailers.append(("google.rpc.retryinfo-bin", retry_info.SerializeToString()))
        await context.abort(STATUS_CODES[error.code], status.message, tuple(trailers))
        raise AssertionError("abort always raises") from error


def serve_grpc(ingest: Ingest, address: str, settings: CollectorSettings) -> GrpcServer:
    """Start serving on `address`, host:port with port 0 for a free one; returns once it listens.

    Raises RuntimeError when the address cannot be bound.
    """
    return GrpcServer(ingest, address, settings)


def _service(signal: Signal, export: Callable[[bytes, Any], Awaitable[bytes]]) -> grpc.GenericRpcHandler:
    """The signal's service; without a deserializer its method gets the bytes, which are parsed only once."""
    return grpc.method_handlers_generic_handler(signal.service, {"Export": grpc.unary_unary_rpc_method_handler(export)})
