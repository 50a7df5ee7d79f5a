"""OTLP over HTTP, by the standard library's client over one kept connection."""

from __future__ import annotations

import base64
import email.utils
import encodings.idna  # noqa: F401 # see below  # pyright: ignore[reportUnusedImport]
import http.client
import math
import os
import ssl
import time
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from pennytrace._exporter import LOOPBACK
from pennytrace._sending import Outcome, Verdict, rejected_spans

if TYPE_CHECKING:
    from pennytrace._sending import Target

# The first connection looks for the codec of host names. Were that on the export thread while another one forks,
# the child would be left with half an import, and never find the codec; so it is imported above, as all else is.

RETRYABLE_STATUSES: Final = frozenset({429, 502, 503, 504})
"""OTLP's own list: https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes"""
GZIP_LEVEL: Final = 1
"""Levels above it cost up to three times the CPU for a few percent of the bytes."""
ANSWER_BYTES_MAX: Final = 65_536
"""A partial success is small; what is longer is not read as one."""
_GZIP_WBITS: Final = 31
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class HttpSender:
    """See `Sender`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._at = urlsplit(target.url)
        host = self._at.hostname or ""
        self._path = (self._at.path or "/") + (f"?{self._at.query}" if self._at.query else "")
        self._compress = target.compress if target.compress is not None else not host.startswith(LOOPBACK)
        self._tls = self._tls_context() if self._at.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        self._proxy = _proxy(self._at.scheme, host)
        self._headers = self._all_headers()

    def send(self, body: bytes, timeout_s: float) -> Outcome:
        """One attempt; a kept connection that the server closed meanwhile is opened again."""
        if self._compress:
            packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
            body = packer.compress(body) + packer.flush()
        kept = self._connection is not None
        try:
            try:
                return self._post(body, timeout_s)
            except (http.client.RemoteDisconnected, ConnectionError):
                if not kept:
                    raise
                self.close()
                return self._post(body, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            connected = self._connection is not None and self._connection.sock is not None
            self.close()
            reached = connected or isinstance(error, http.client.HTTPException)  # which is an answer, or half of one
            return Outcome(Verdict.LATER, f"{type(error).__name__}: {error}", reached=reached)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, body: bytes, timeout_s: float) -> Outcome:
        connection = self._connection or self._connect(timeout_s)
        self._connection = connection
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        connection.request("POST", self._path, body, self._headers)
        response = connection.getresponse()
        answer = response.read(ANSWER_BYTES_MAX)
        if not response.isclosed():
            self.close()
        return _outcome(response, answer)

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        host, port = self._at.hostname or "", self._at.port
        if self._proxy is not None:
            through = urlsplit(self._proxy)
            connection = self._connection_to(through.hostname or "", through.port, timeout_s)
            connection.set_tunnel(host, port or (443 if self._tls else 80), _basic(through.username, through.password))
            return connection
        return self._connection_to(host, port, timeout_s)

    def _connection_to(self, host: str, port: int | None, timeout_s: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls)

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._target.ca_file)
        if self._target.client_cert_file:
            context.load_cert_chain(self._target.client_cert_file, self._target.client_key_file)
        return context

    def _all_headers(self) -> dict[str, str]:
        return {
            "content-type": "application/x-protobuf",
            "user-agent": "pennytrace-python",
            **({"content-encoding": "gzip"} if self._compress else {}),
            **{name.lower(): value for name, value in _basic(self._at.username, self._at.password).items()},
            **self._target.headers,
        }


def _outcome(response: http.client.HTTPResponse, answer: bytes) -> Outcome:
    if 200 <= response.status < 300:
        return Outcome(Verdict.DELIVERED, rejected=rejected_spans(answer))
    reason = f"HTTP {response.status} {response.reason}"
    if response.status in RETRYABLE_STATUSES:
        return Outcome(
            Verdict.LATER, reason, retry_after_s=retry_after_s(response.getheader("Retry-After"), time.time())
        )
    return Outcome(Verdict.REFUSED, reason)


def retry_after_s(said: str | None, now_s: float) -> float | None:
    """`Retry-After`: seconds, or the date at which to come back (`now_s` is Unix time)."""
    if not said:
        return None
    try:
        seconds = float(said)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - now_s)
    except (ValueError, TypeError, OverflowError):
        return None


def _basic(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    said = base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
    return {"Authorization": f"Basic {said}", "Proxy-Authorization": f"Basic {said}"}


def _proxy(scheme: str, host: str) -> str | None:
    if not any(os.environ.get(name) for name in _PROXIES):
        return None
    from urllib.request import getproxies, proxy_bypass  # only where a proxy is named: it is a large import

    proxies = getproxies()
    return None if proxy_bypass(host) else proxies.get(scheme) or proxies.get("all")
