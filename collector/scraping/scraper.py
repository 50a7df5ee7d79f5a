"""Fetching metrics from engines that only offer them to Prometheus.

Each target has a thread of its own, which hands each page to ingest as an OTLP request, so that it goes the way
of all metrics. A target that is down is counted and logged when that changes; nothing raises.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from urllib3.connection import HTTPConnection, HTTPSConnection

from collector.counts import Count, Counts
from collector.errors import CollectorError
from collector.protocol import METRICS
from collector.scraping import exposition
from collector.scraping.gpu_metrics import gpu_metrics

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator, Mapping, Sequence
    from concurrent.futures import Future
    from datetime import datetime

    from collector.ingest import Ingest, Receipt
    from collector.scraping.settings import ScrapeTarget

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
SCOPE = "pennytrace.scraper"
# What we say about a target has a service of its own: for the ledger, metrics of a replica are a sign that it lives.
OWN_SERVICE = "pennytrace.scraper"
INTERVAL_JITTER = 0.05
# Resolving a name is all that no timeout ends; then the thread is left behind.
CLOSE_S_MAX = 2.0


class ScrapeError(Exception):
    """A page that could not be had; `outcome` is the word under which it is counted."""

    def __init__(self, outcome: str, message: str) -> None:
        self.outcome = outcome
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Page:
    """What a target answered."""

    content: str
    content_type: str


class Scraper:
    """Scrapes the targets from construction until `close`. Close it before the ingest."""

    def __init__(
        self,
        targets: Sequence[ScrapeTarget],
        ingest: Ingest,
        clock: Callable[[], datetime],
        random: random.Random,
    ) -> None:
        self._ingest = ingest
        self._clock = clock
        self._random = random
        self._counts = Counts()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(each,), name="scraper", daemon=True) for each in targets
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends within CLOSE_S_MAX. A scrape that is still under way then stores nothing, and ends by its timeout."""
        self._closing.set()
        until = time.monotonic() + CLOSE_S_MAX
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def counts(self) -> list[Count]:
        """Scrapes by target and outcome, and series that were left out."""
        return self._counts.snapshot()

    def _run(self, target: ScrapeTarget) -> None:
        # Spread over the interval, so that a start does not ask all at once.
        due = time.monotonic() + self._random.random() * target.interval_s
        was_up: bool | None = None
        while not self._closing.wait(max(0.0, due - time.monotonic())):
            was_up = self._scrape(target, was_up)
            jitter = (self._random.random() - 0.5) * INTERVAL_JITTER * target.interval_s
            # What was missed meanwhile is not made up for.
            due = max(due + target.interval_s + jitter, time.monotonic())

    def _scrape(self, target: ScrapeTarget, was_up: bool | None) -> bool:
        """Whether the target gave metrics."""
        started_ns, started = self._now_ns(), time.monotonic()
        samples, failure = 0, None
        try:
            samples = self._take(target, started_ns)
        except ScrapeError as error:
            failure = error
        except Exception as error:  # the thread must go on: the next page may be sound
            logger.exception("a scrape failed for a reason that was not foreseen", extra={"url": target.address})
            failure = ScrapeError("failed", str(error))
        is_up = failure is None
        if not self._closing.is_set():
            self._tell(target, failure, was_up)
            self._send(target, health_request(target, is_up, time.monotonic() - started, samples, started_ns))
        return is_up

    def _take(self, target: ScrapeTarget, time_ns: int) -> int:
        """Fetch and hand over; returns the number of samples. Raises ScrapeError."""
        page = fetch(target)
        try:
            found = exposition.convert(exposition.parse(page.content, page.content_type), time_ns)
        except ValueError as error:
            raise ScrapeError("unreadable", str(error)) from error
        if found.skipped:
            self._counts.add("pennytrace_scrape_skipped_series_total", found.skipped, service=target.service)
        self._send(target, request_of(target.resource_attributes, [*found.metrics, *gpu_metrics(found.metrics)]))
        return found.samples

    def _send(self, target: ScrapeTarget, request: ExportMetricsServiceRequest) -> None:
        """What is not taken in is not kept: the next scrape has the counters again."""
        if self._closing.is_set():
            return

        def count_loss(answer: Future[Receipt]) -> None:
            if answer.exception():
                self._counts.add("pennytrace_scrapes_not_stored_total", service=target.service)

        try:
            answer = self._ingest.receive(METRICS, request.SerializeToString(), tenant=target.tenant)
        except CollectorError:
            self._counts.add("pennytrace_scrapes_not_stored_total", service=target.service)
        else:
            answer.add_done_callback(count_loss)

    def _tell(self, target: ScrapeTarget, failure: ScrapeError | None, was_up: bool | None) -> None:
        outcome = failure.outcome if failure else "ok"
        self._counts.add("pennytrace_scrapes_total", service=target.service, url=target.address, outcome=outcome)
        if failure and was_up is not False:
            fields = {"url": target.address, "service": target.service, "outcome": outcome, "reason": str(failure)}
            logger.warning("a scrape target gives no metrics", extra=fields)
        if not failure and was_up is False:
            logger.info("a scrape target gives metrics again", extra={"url": target.address, "service": target.service})

    def _now_ns(self) -> int:
        return int(self._clock().timestamp() * 1_000_000) * 1000


def fetch(target: ScrapeTarget) -> Page:
    """The target's page, within its limits. Raises ScrapeError."""
    headers = {"accept": exposition.ACCEPT, "accept-encoding": "gzip", "user-agent": "pennytrace"}
    if token := target.bearer_token.get_secret_value():
        headers["authorization"] = f"Bearer {token}"
    until = time.monotonic() + target.timeout_s
    connection = _connection(target)
    try:
        connection.connect()
        with _ending_at(until, connection.sock):
            connection.request("GET", target.path, headers=headers, preload_content=False)
            response = connection.getresponse()
            try:
                if response.status != 200:
                    raise ScrapeError("refused", f"expected status 200, got {response.status}")
                content = _read(response, target.body_bytes_max)
            finally:
                response.close()
    except (urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
        raise ScrapeError("down", f"expected an answer, got {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if time.monotonic() > until:  # a page without a length ends like a whole one
        raise ScrapeError("down", "expected the whole page within timeout_s, got part of it")
    try:
        return Page(content.decode(), response.headers.get("content-type", ""))
    except UnicodeDecodeError as error:
        raise ScrapeError("unreadable", f"expected UTF-8, got {error}") from error


def _connection(target: ScrapeTarget) -> HTTPConnection:
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return HTTPSConnection(host, parts.port, timeout=target.timeout_s, ssl_context=ssl.create_default_context())
    return HTTPConnection(host, parts.port, timeout=target.timeout_s)


@contextmanager
def _ending_at(until: float, connected: socket.socket | None) -> Generator[None, None, None]:
    """Cuts the connection then: timeouts of a socket begin anew with every drop that comes."""

    def cut() -> None:
        if connected:
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    watchdog = threading.Timer(max(0.0, until - time.monotonic()), cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _read(response: urllib3.BaseHTTPResponse, bytes_max: int) -> bytes:
    """The unpacked body, which ends with the limit if not before."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(CHUNK_BYTES, decode_content=True):
        size += len(part)
        parts.append(part)
        if size > bytes_max:
            raise ScrapeError("too_large", f"expected at most {bytes_max} bytes, got more: raise body_bytes_max")
    return b"".join(parts)


def request_of(resource: Mapping[str, str], metrics: Sequence[Metric]) -> ExportMetricsServiceRequest:
    """One export request with one resource."""
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    resource_metrics.resource.attributes.extend(exposition.attributes(resource))
    scope_metrics = resource_metrics.scope_metrics.add()
    scope_metrics.scope.name = SCOPE
    scope_metrics.metrics.extend(metrics)
    return request


def health_request(
    target: ScrapeTarget, is_up: bool, seconds: float, samples: int, time_ns: int
) -> ExportMetricsServiceRequest:
    """Prometheus's own series about a scrape: up, scrape_duration_seconds, scrape_samples_scraped."""
    about = {"service.name": target.service, "url.full": target.address}
    about["service.instance.id"] = target.resource_attributes["service.instance.id"]
    values = {
        "up": ("1", float(is_up)),
        "scrape_duration_seconds": ("s", seconds),
        "scrape_samples_scraped": ("1", float(samples)),
    }
    metrics: list[Metric] = []
    for name, (unit, value) in values.items():
        metric = Metric(name=name, unit=unit)
        metric.gauge.data_points.add(as_double=value, time_unix_nano=time_ns, attributes=exposition.attributes(about))
        metrics.append(metric)
    return request_of({"service.name": OWN_SERVICE}, metrics)
