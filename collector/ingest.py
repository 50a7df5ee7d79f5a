"""Ingest: one request body in, an answer once its rows are on disk.

receive ── parse, check, frame ──▶ group commit ──▶ journal ──▶ drain ──▶ store
            (caller's thread)          (one thread a signal)    (one thread a signal)
                                              │
                                              └─ the answer
"""

from __future__ import annotations

import logging
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from collector import framing, log_records, metric_points, protocol, writers
from collector.admission import ReadingBudget
from collector.content import ContentFilter
from collector.counts import Count, Counts, items
from collector.decompression import decompress
from collector.errors import CollectorError, InvalidBodyError, JournalUnusableError, UnavailableError
from collector.group_commit import Body, ByteBudget
from collector.journal import JournalFolder, Space
from collector.message_count import BYTES_A_MESSAGE, messages_at_most
from collector.pipeline import Pipeline, Shared
from collector.protocol import LOGS, METRICS, TRACES, Encoding, Signal
from collector.window import Window
from collector.writers import SegmentWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from collector.admission import Lease
    from collector.settings import CollectorSettings
    from storage import Store


logger = logging.getLogger(__name__)


class CheckedBody(Body, Protocol):
    """A body that went through the checks."""

    @property
    def rejected(self) -> Mapping[str, int]:
        """Items that were left out, by reason."""
        ...


# How long closing waits for the store; what is not stored then is stored after the next start.
CLOSE_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """The request is kept, and will be in the store: all but `rejected` of its items (reason -> count)."""

    rejected: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class JournalState:
    """What was acknowledged and is not stored yet."""

    bytes: int
    segments: int
    age_s: float
    """Seconds since the oldest of it came; 0 when there is none."""
    accepting: bool
    """Whether there is room for more; without it requests are asked to try again."""
    last_error: str | None
    """Why the last attempt to store failed; None when it did not."""


class Ingest:
    """Takes OTLP request bodies from any thread, and keeps them in `journal` until they are stored.

    What an earlier process left there is stored too. Close it before the store, after the servers have stopped.
    Raises JournalError when the journal cannot be used.
    """

    def __init__(
        self,
        store: Store,
        settings: CollectorSettings,
        clock: Callable[[], datetime],
        journal: Path,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._settings = settings
        self._content = ContentFilter(settings)
        self._clock = clock
        self._counts = Counts()
        self._budget = ByteBudget(settings.queue_bytes_max)
        self._parsing = ReadingBudget(settings.parsing_bytes_max)
        self._folder = JournalFolder(journal)
        self._space = Space(journal, settings.journal_bytes_max, settings.journal_free_bytes_min, time.monotonic)
        shared = Shared(settings, self._folder, self._space, self._budget, self._counts, clock, new_id)
        self._pipelines: dict[Signal, Pipeline] = {}
        try:
            for signal, kind in writers.payloads().items():
                writer = SegmentWriter(signal, kind, store, self._counts)
                self._pipelines[signal] = Pipeline(signal, kind, writer, shared)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise JournalUnusableError(journal, error.strerror or str(error)) from error
            raise

    def receive(
        self,
        signal: Signal,
        body: bytes,
        encoding: Encoding = Encoding.PROTOBUF,
        content_encoding: str = "",
        tenant: str = "",
    ) -> Future[Receipt]:
        """Parse, check and queue a body; the future has its receipt once its rows are on disk.

        Raises a CollectorError, or the future has it: an InvalidBodyError is the sender's fault alone, an
        UnavailableError asks it to try again. Takes time in proportion to the body, so keep large ones off
        an event loop.
        """
        try:
            with self._parsing.lease() as lease:
                plain = decompress(body, content_encoding, self._settings, lease.take)
                return self._receive(signal, plain, encoding, tenant, lease)
        except CollectorError as error:
            self.count_refusal(signal, error)
            raise
        except Exception as unforeseen:
            logger.exception("a request could not be taken in", extra={"signal": signal.name, "bytes": len(body)})
            answer = _answer_to(unforeseen)
            self.count_refusal(signal, answer)
            raise answer from unforeseen

    def count_refusal(self, signal: Signal, error: CollectorError) -> None:
        """Count a request that is answered with an error."""
        self._counts.add("pennytrace_refused_bodies_total", signal=signal.name, reason=error.reason)

    def counts(self) -> list[Count]:
        """A snapshot of all counters and gauges.

        For a signal that is kept, at every moment, in items: received = acknowledged + rejected (stage check) +
        deferred + queue, and acknowledged + replayed = stored + rejected (stage store) + journal. Deferred items
        were answered with "try again", replayed ones were acknowledged by an earlier process.
        """
        gauges = [Count("pennytrace_queue_bytes", {}, self._budget.used_bytes)]
        for signal, pipeline in self._pipelines.items():
            labels = {"signal": signal.name}
            gauges += [
                Count("pennytrace_journal_bytes", labels, pipeline.bytes),
                Count("pennytrace_journal_segments", labels, pipeline.segments),
                Count("pennytrace_journal_age_seconds", labels, self._age_s(pipeline)),
                # Nothing that was acknowledged is ever thrown away; the series is there to be watched.
                Count("pennytrace_dropped_items_total", labels, 0),
            ]
        return sorted([*self._counts.snapshot(), *gauges], key=lambda count: count.name)

    def journal_state(self) -> JournalState:
        """The journal over all signals; never waits for the disk or the store."""
        pipelines = self._pipelines.values()
        return JournalState(
            bytes=sum(pipeline.bytes for pipeline in pipelines),
            segments=sum(pipeline.segments for pipeline in pipelines),
            age_s=max(self._age_s(pipeline) for pipeline in pipelines),
            accepting=self._is_accepting(),
            last_error=next((pipeline.last_error for pipeline in pipelines if pipeline.last_error), None),
        )

    def flush(self, timeout_s: float) -> bool:
        """Have everything stored that was acknowledged before; False when the store is away or time is up."""
        deadline = time.monotonic() + timeout_s
        stored = [pipeline.flush(max(0.0, deadline - time.monotonic())) for pipeline in self._pipelines.values()]
        return all(stored)

    def close(self) -> None:
        """Take no more, answer what is queued, and store what the store takes within CLOSE_S_MAX.

        The rest stays in the journal for the next start. Requests that come later are asked to try again.
        """
        deadline = time.monotonic() + CLOSE_S_MAX
        for pipeline in self._pipelines.values():
            pipeline.stop_taking(max(0.0, deadline - time.monotonic()))
        for pipeline in self._pipelines.values():
            pipeline.close(max(0.0, deadline - time.monotonic()))
        self._folder.release()

    def _age_s(self, pipeline: Pipeline) -> float:
        oldest_at = pipeline.oldest_at
        return max(0.0, (self._clock() - oldest_at).total_seconds()) if oldest_at else 0.0

    def _is_accepting(self) -> bool:
        try:
            self._space.require()
        except (UnavailableError, OSError):
            return False
        return True

    def _receive(self, signal: Signal, body: bytes, encoding: Encoding, tenant: str, lease: Lease) -> Future[Receipt]:
        self._counts.add("pennytrace_received_bytes_total", len(body), signal=signal.name)
        if signal is not LOGS or self._settings.keep_logs:
            self._space.require()
        messages = messages_at_most(signal, body, encoding, self._settings.messages_max)
        lease.take(messages * BYTES_A_MESSAGE[encoding])
        request = protocol.parse(signal, body, encoding)
        self._counts.add("pennytrace_received_bodies_total", signal=signal.name)
        window = Window.around(self._clock(), self._settings)
        if signal is TRACES:
            raw = body if encoding is Encoding.PROTOBUF else None
            traces = cast("ExportTraceServiceRequest", request)
            spans = framing.frame(traces, raw, window, tenant, self._content)
            self._count_content(signal, spans.content_dropped)
            return self._queue(signal, spans)
        if signal is METRICS:
            metrics = cast("ExportMetricsServiceRequest", request)
            points = metric_points.decode(metrics, window, tenant, self._content)
            self._count_content(signal, points.content_dropped)
            return self._queue(signal, points)
        logs = cast("ExportLogsServiceRequest", request)
        if not self._settings.keep_logs:
            return self._discard_logs(logs)
        records = log_records.decode(logs, window, tenant, self._content)
        self._count_content(signal, records.content_dropped)
        return self._queue(signal, records)

    def _queue(self, signal: Signal, body: CheckedBody) -> Future[Receipt]:
        written = self._pipelines[signal].submit(body, body.rejected)
        receipt: Future[Receipt] = Future()
        receipt.set_running_or_notify_cancel()

        def answer(written: Future[None]) -> None:
            error = written.exception()
            if error is None:
                receipt.set_result(Receipt(body.rejected))
                return
            if isinstance(error, CollectorError):
                self.count_refusal(signal, error)
            receipt.set_exception(error)

        written.add_done_callback(answer)
        return receipt

    def _discard_logs(self, request: ExportLogsServiceRequest) -> Future[Receipt]:
        records = log_records.count(request)
        self._counts.change(items("received", LOGS.name, records), items("discarded", LOGS.name, records))
        return _done(Receipt())

    def _count_content(self, signal: Signal, texts: int) -> None:
        if texts:
            self._counts.add("pennytrace_content_dropped_total", texts, signal=signal.name)


def _answer_to(unforeseen: Exception) -> CollectorError:
    """What a sender is told of a fault of ours.

    A machine in trouble passes. Anything else comes of this very body, and would every time it is sent again.
    """
    if isinstance(unforeseen, MemoryError | OSError):
        return UnavailableError("taking the request in failed for want of memory or disk: try again")
    name = type(unforeseen).__name__
    return InvalidBodyError(f"expected a request that can be taken in, got one on which the collector failed ({name})")


def _done(receipt: Receipt) -> Future[Receipt]:
    future: Future[Receipt] = Future()
    future.set_result(receipt)
    return future
