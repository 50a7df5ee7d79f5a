"""HTTP connections that cannot be held: every wait for a client has an end, and so has what it may send unasked.

    head ──▶ body ──▶ whole ──▶ idle ──▶ head …      (`Stage`: what came of the request that is being read)

uvicorn bounds only how long a connection stays idle between two requests. Here also: the head of a request comes
within its time and size, what follows an early answer is read off for a while and no longer, an answer is taken off
us at some speed, and past the largest number of connections the next one is told so. How fast a body has to come is
left to who reads it.

An offer to speak another protocol from here on (`Upgrade`, which Java's client makes unasked) is declined: the request
is read as if it had not been made. uvicorn would take such a request for whole with its head.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn import Config
    from uvicorn.server import ServerState

# Heads of real clients are under 2 KB; proxies that pass tokens on stay under 16.
HEAD_BYTES_MAX = 64 * 1024
# A chunk costs six bytes around its first; senders of single bytes are let through, endless trailers are not.
FRAMING_BYTES_PER_BODY_BYTE = 8
# Of an answer: slower than any line that people use, and a full buffer of 64 MiB is gone within an hour and a half.
TAKEN_BYTES_PER_S_MIN = 16 * 1024
TURNED_AWAY_S = 1.0
BUSY = b"too many connections: try again\n"
TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BUSY), BUSY)
)
HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections a listener has at most, and its patience with each."""

    connections_max: int
    head_timeout_s: float
    idle_timeout_s: int
    drain_timeout_s: float = 10.0
    """For the rest of a body that was answered early: read off, for the client to see its answer."""
    stall_timeout_s: float = 60.0
    """For an answer that the client does not take, or less of it than `TAKEN_BYTES_PER_S_MIN`."""


class Stage(Enum):
    """What has come of the request."""

    HEAD = auto()
    BODY = auto()
    WHOLE = auto()
    IDLE = auto()


class GuardedProtocol(HttpToolsProtocol):
    """One connection; `tally` counts by reason those that were ended."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        limits: ConnectionLimits,
        tally: Callable[[str], None],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._limits = limits
        self._tally = tally
        self._stage = Stage.HEAD
        self._patience: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._untaken_bytes = 0
        self._framing_bytes = 0
        self._is_turned_away = False
        self._is_offer = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        if len(self.connections) >= self._limits.connections_max:
            self._turn_away(transport)
            return
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._forget_patience()
        if self._stalled:
            self._stalled.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._is_turned_away:
            return
        if self._stage is Stage.IDLE:
            # Also for bytes that begin no request, such as empty lines.
            self._stage = Stage.HEAD
            self._wait_for_head()
        self._framing_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._framing_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._end("head_too_large", HEAD_TOO_LARGE if self._stage is Stage.HEAD else b"")

    def _parse(self, data: memoryview) -> None:
        """Raises HttpParserError for what is not HTTP."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                head = self._head_without_offer()
                data = data[offer.args[0] :]
                self._start_parser()
                self.parser.feed_data(head)
            else:
                return

    def _start_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's

    def _head_without_offer(self) -> bytes:
        self._is_offer = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":  # an offer by its method
            raise httptools.HttpParserInvalidMethodError("CONNECT")
        lines = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([b"%s %s HTTP/%s" % (method, self.url, version), *lines, b"", b""])

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends no more; if it has asked, it still gets its answer (TLS cannot be half closed)."""
        if self._stage is not Stage.WHOLE or self.scheme != "http" or self.cycle.response_complete:
            return None
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """A request begins."""
        self._stage = Stage.HEAD
        if not self._patience:
            self._wait_for_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the head, or a trailer, which nothing here reads."""
        if self._stage is Stage.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._is_offer = self.parser.should_upgrade()
        if self._is_offer:
            return
        self._forget_patience()
        self._stage = Stage.BODY
        self._framing_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        self._framing_bytes = max(0, self._framing_bytes - (1 + FRAMING_BYTES_PER_BODY_BYTE) * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._is_offer:
            return
        super().on_message_complete()
        self._framing_bytes = 0
        self._stage = Stage.WHOLE
        if self.cycle.response_complete:
            self._rest()

    def on_response_complete(self) -> None:
        """An answer was given, maybe before its request was whole."""
        super().on_response_complete()
        if self.transport.is_closing() or not self.cycle.response_complete:
            return
        if self._stage is Stage.WHOLE:
            self._stage = Stage.IDLE
        elif self._stage is Stage.BODY:
            self._patience = self.loop.call_later(self._limits.drain_timeout_s, self._end, "unread_body")

    def pause_writing(self) -> None:
        """The client does not keep up with its answer."""
        super().pause_writing()
        self._wait_for_taking()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def _wait_for_taking(self) -> None:
        self._untaken_bytes = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self._limits.stall_timeout_s, self._require_taking)

    def _require_taking(self) -> None:
        """Nothing is written meanwhile, so that what has left the buffer is what the client took."""
        taken = self._untaken_bytes - self.transport.get_write_buffer_size()
        if taken < TAKEN_BYTES_PER_S_MIN * self._limits.stall_timeout_s:
            self._end("stalled")
        else:
            self._wait_for_taking()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._tally("not_http")
        super().send_400_response(msg)

    def _rest(self) -> None:
        """What followed an early answer has been read off: as after any other answer."""
        self._forget_patience()
        self._stage = Stage.IDLE
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _wait_for_head(self) -> None:
        self._patience = self.loop.call_later(self._limits.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if self.flow.read_paused:  # by us, until an earlier request is answered
            self._wait_for_head()
        else:
            self._end("slow_head")

    def _forget_patience(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None

    def _end(self, reason: str, last_words: bytes = b"") -> None:
        self._forget_patience()
        self._tally(reason)
        if last_words:
            self.transport.write(last_words)
            self.transport.close()
        else:
            self.transport.abort()

    def _turn_away(self, transport: asyncio.Transport) -> None:
        """Answer unasked, and linger: if closed at once, what the client sends would erase the answer."""
        self._is_turned_away = True
        self.transport = transport
        self._tally("too_many")
        transport.write(TURNED_AWAY)
        if transport.can_write_eof():
            transport.write_eof()
        self._patience = self.loop.call_later(TURNED_AWAY_S, transport.abort)
