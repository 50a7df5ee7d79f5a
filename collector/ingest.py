"""Ingest: one request body in, an answer once its rows are committed.

    receive ── parse, check, frame ──▶ group commit ──▶ writer ──▶ store
                    (caller's thread)       (one thread a signal)

The writer handed to a group commit is where a journal will slot in: to a sender, committed means whatever
the writer returning means.
"""

from __future__ import annotations

import logging
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from collector import framing, metric_points, protocol
from collector.content import decompress
from collector.counts import Count, Counts
from collector.errors import CollectorError, UnavailableError
from collector.group_commit import Body, ByteBudget, CommitLimits, GroupCommit
from collector.protocol import LOGS, METRICS, TRACES, Encoding, Signal
from collector.window import Window
from collector.writers import PointWriter, SpanWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from collector.framing import SpanBody
    from collector.metric_points import PointBody
    from collector.settings import CollectorSettings
    from storage import Store


logger = logging.getLogger(__name__)


class CheckedBody(Body, Protocol):
    """A body that went through the checks."""

    @property
    def rejected(self) -> Mapping[str, int]:
        """Items that were left out, by reason."""
        ...


BodyT = TypeVar("BodyT", bound=CheckedBody)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The request was accepted and is stored, all but `rejected` of its items (reason -> count)."""

    rejected: Mapping[str, int] = field(default_factory=dict[str, int])


class Ingest:
    """Takes OTLP request bodies from any thread. Close it before the store, after the servers have stopped."""

    def __init__(
        self,
        store: Store,
        settings: CollectorSettings,
        clock: Callable[[], datetime],
        new_token: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._counts = Counts()
        self._budget = ByteBudget(settings.queue_bytes_max)
        self._spans: GroupCommit[SpanBody] = GroupCommit(
            "traces",
            SpanWriter(store, self._counts, new_token).write,
            _limits(settings, settings.commit_delay_ms),
            self._budget,
        )
        self._points: GroupCommit[PointBody] = GroupCommit(
            "metrics",
            PointWriter(store, self._counts, new_token).write,
            _limits(settings, settings.metrics_commit_delay_ms),
            self._budget,
        )

    def receive(
        self,
        signal: Signal,
        body: bytes,
        encoding: Encoding = Encoding.PROTOBUF,
        content_encoding: str = "",
        tenant: str = "",
    ) -> Future[Receipt]:
        """Parse, check and queue a body; the future has its receipt once it is committed.

        Raises a CollectorError, or the future has it: an InvalidBodyError is the sender's fault alone, an
        UnavailableError asks it to try again. Takes time in proportion to the body, so keep large ones off
        an event loop.
        """
        try:
            return self._receive(signal, decompress(body, content_encoding, self._settings), encoding, tenant)
        except CollectorError as error:
            self.count_refusal(signal, error)
            raise
        except Exception as unforeseen:
            # An answer that clients drop their data on must not come from a fault of ours.
            logger.exception("a request could not be taken in", extra={"signal": signal.name, "bytes": len(body)})
            later = UnavailableError("taking the request in failed for a reason that was not foreseen: try again")
            self.count_refusal(signal, later)
            raise later from unforeseen

    def count_refusal(self, signal: Signal, error: CollectorError) -> None:
        """Count a request that is answered with an error."""
        self._counts.add("pennytrace_refused_bodies_total", signal=signal.name, reason=error.reason)

    def counts(self) -> list[Count]:
        """A snapshot of all counters and of the queue's size.

        For spans and data points: received = stored + rejected + deferred + what is queued. Deferred ones
        were answered with "try again".
        """
        return [*self._counts.snapshot(), Count("pennytrace_queue_bytes", {}, self._budget.used_bytes)]

    def close(self) -> None:
        """Store and answer everything that is queued; requests that come later are asked to try again."""
        self._spans.close()
        self._points.close()

    def _receive(self, signal: Signal, body: bytes, encoding: Encoding, tenant: str) -> Future[Receipt]:
        self._counts.add("pennytrace_received_bytes_total", len(body), signal=signal.name)
        request = protocol.parse(signal, body, encoding)
        self._counts.add("pennytrace_received_bodies_total", signal=signal.name)
        window = Window.around(self._clock(), self._settings)
        if signal is TRACES:
            raw = body if encoding is Encoding.PROTOBUF else None
            spans = framing.frame(cast("ExportTraceServiceRequest", request), raw, window, tenant)
            return self._queue(signal, spans, self._spans)
        if signal is METRICS:
            points = metric_points.decode(cast("ExportMetricsServiceRequest", request), window, tenant)
            return self._queue(signal, points, self._points)
        return self._discard_logs(cast("ExportLogsServiceRequest", request))

    def _queue(self, signal: Signal, body: BodyT, group: GroupCommit[BodyT]) -> Future[Receipt]:
        rejected = sum(body.rejected.values())
        self._count("received", body.items + rejected, signal)
        for reason, items in body.rejected.items():
            self._count("rejected", items, signal, stage="check", reason=reason)
        if not body.items:
            return _done(Receipt(body.rejected))
        try:
            stored = group.submit(body)
        except UnavailableError as error:
            self._count("deferred", body.items, signal, reason=error.reason)
            raise
        return self._receipt_of(stored, signal, body)

    def _receipt_of(self, stored: Future[None], signal: Signal, body: CheckedBody) -> Future[Receipt]:
        receipt: Future[Receipt] = Future()
        receipt.set_running_or_notify_cancel()

        def answer(stored: Future[None]) -> None:
            error = stored.exception()
            if error is None:
                self._count("stored", body.items, signal)
                receipt.set_result(Receipt(body.rejected))
                return
            if isinstance(error, CollectorError):
                self.count_refusal(signal, error)
            if isinstance(error, UnavailableError):
                self._count("deferred", body.items, signal, reason=error.reason)
            else:
                self._count("rejected", body.items, signal, stage="store", reason="refused_by_engine")
            receipt.set_exception(error)

        stored.add_done_callback(answer)
        return receipt

    def _discard_logs(self, request: ExportLogsServiceRequest) -> Future[Receipt]:
        records = sum(
            len(scope_logs.log_records) for resource in request.resource_logs for scope_logs in resource.scope_logs
        )
        self._count("received", records, LOGS)
        self._count("discarded", records, LOGS)
        return _done(Receipt())

    def _count(self, what: str, items: int, signal: Signal, **labels: str) -> None:
        if items:
            self._counts.add(f"pennytrace_{what}_items_total", items, signal=signal.name, **labels)


def _limits(settings: CollectorSettings, delay_ms: int) -> CommitLimits:
    return CommitLimits(delay_ms / 1000, settings.commit_bytes_max, settings.commit_items_max)


def _done(receipt: Receipt) -> Future[Receipt]:
    future: Future[Receipt] = Future()
    future.set_result(receipt)
    return future
