"""From the journal into the store: exactly once, whatever the engine thinks of the rows and whenever it is there."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest

from collector import METRICS, TRACES, CollectorSettings, Count, Ingest
from collector.counts import Counts
from collector.errors import JournalBusyError, JournalFullError, JournalUnusableError
from collector.framing import Row, SpanBody, frame
from collector.journal import Group, JournalFolder
from collector.journal.group import encode, scan
from collector.window import Window
from collector.writers import SegmentWriter, SpanPayload
from storage import EmbeddedLocation, QueryError, Store
from tests.collector.bodies import (
    KEEPS_CONTENT,
    NOW,
    gauge_request,
    refused_by_engine,
    sent_ids,
    span_ids,
    trace_request,
)
from tests.collector.serving import total

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


WINDOW = Window.around(NOW, CollectorSettings())


def body_of(request: ExportTraceServiceRequest) -> SpanBody:
    return frame(request, request.SerializeToString(), WINDOW, "acme", KEEPS_CONTENT)


def payloads_of(*bodies: SpanBody) -> list[bytes]:
    return [SpanPayload().encode([body]) for body in bodies]


def writer_for(store: Store, counts: Counts | None = None) -> SegmentWriter:
    return SegmentWriter(TRACES, SpanPayload(), store, counts or Counts())


def rows_stored(store: Store, table: str = "spans") -> int:
    """Rows as they lie there, duplicates and all."""
    return store.frame_of(f"SELECT count() AS rows FROM {table}")["rows"][0]


def segments(journal: Path, signal: str = "traces") -> list[Path]:
    return sorted((journal / signal).glob("*.journal"))


def unreadable() -> SpanBody:
    """A body that no engine reads; nothing that a sender can send becomes one."""
    return SpanBody((Row(body_of(trace_request(2)).rows[0].message, b"\xff\xff"),), 2)


def test_a_body_that_the_engine_refuses_goes_in_in_canonical_form_with_its_neighbours(store):
    good, odd = trace_request(3), trace_request(2)
    counts = Counts()
    assert writer_for(store, counts).write(payloads_of(body_of(good), odd_body(odd)), "token") == []
    assert total(counts.snapshot(), "pennytrace_inserts_total") == 2, "the raw block must have been refused"
    assert span_ids(store) == sent_ids(good, odd)


def odd_body(request: ExportTraceServiceRequest) -> SpanBody:
    raw = refused_by_engine(request)
    return frame(type(request).FromString(raw), raw, WINDOW, "acme", KEEPS_CONTENT)


def test_canonical_form_keeps_tenant_service_and_resource_and_lets_nobody_choose_them(store):
    request = trace_request(1)
    spoof = body_of(trace_request(1, service="victim")).rows[0].own.replace(b"acme", b"evil")
    request.resource_spans[0].MergeFromString(spoof)
    writer_for(store).write(payloads_of(odd_body(request)), "token")
    [row] = store.frame_of("SELECT tenant, service, resource, received_at FROM spans").to_dicts()
    assert (row["tenant"], row["service"], row["received_at"]) == ("acme", "shop", NOW)
    assert row["resource"] == '{"service.name":"shop"}'


def test_a_row_that_stays_unreadable_is_given_back_and_its_neighbours_go_in(store):
    requests = [trace_request(2) for _ in range(5)]
    bodies = [body_of(request) for request in requests]
    bodies[3] = unreadable()
    [refused] = writer_for(store).write(payloads_of(*bodies), "token")
    assert refused.payload == payloads_of(bodies[3])[0]
    assert span_ids(store) == sent_ids(*requests[:3], requests[4])


@pytest.mark.parametrize("place", range(5))
def test_writing_a_segment_again_adds_nothing_however_it_had_to_be_taken_apart(store, place):
    bodies = [body_of(trace_request(2)) for _ in range(5)]
    bodies[place] = unreadable()
    payloads = payloads_of(*bodies)
    given_back = [writer_for(store).write(payloads, "token") for _ in range(2)]
    assert given_back[0] == given_back[1]
    assert rows_stored(store) == 8


def test_a_fault_of_the_store_is_raised_and_blamed_on_no_row(store):
    store.execute("DROP TABLE otlp_spans")
    with pytest.raises(QueryError):
        writer_for(store).write(payloads_of(body_of(trace_request(1))), "token")


def test_rows_that_the_engine_refuses_are_kept_in_a_file_and_counted(store, ingest, journal):
    good = trace_request(3)
    ingest.receive(TRACES, good.SerializeToString()).result(30)
    bad = unreadable()
    ingest._pipelines[TRACES].submit(bad, {}).result(30)  # noqa: SLF001 (it cannot come in by the front door)
    assert span_ids(store) == sent_ids(good)
    [kept] = (journal / "refused" / "traces").iterdir()
    [group] = scan(kept.read_bytes(), kept.name.encode()).groups
    assert [bytes(group.payload)] == payloads_of(bad)
    assert segments(journal) == []
    refused = {"stage": "store", "reason": "refused_by_engine"}
    assert total(ingest.counts(), "pennytrace_rejected_items_total", **refused) == 1


def test_refused_rows_go_in_when_their_file_is_moved_back(store, settings, journal):
    ingest = Ingest(store, settings, lambda: NOW, journal)
    requests = [trace_request(2) for _ in range(2)]
    ingest.receive(TRACES, requests[0].SerializeToString()).result(30)
    ingest._pipelines[TRACES].submit(unreadable(), {}).result(30)  # noqa: SLF001
    ingest.close()
    [kept] = (journal / "refused" / "traces").iterdir()
    mended = payloads_of(body_of(requests[1]))[0]
    (journal / "traces" / kept.name).write_bytes(encode(Group(mended, 2, 1), kept.name.encode()))
    ingest = Ingest(store, settings, lambda: NOW, journal)
    ingest.close()
    assert span_ids(store) == sent_ids(*requests)


def test_a_segment_that_comes_back_after_it_was_stored_adds_nothing(store, settings, journal, tmp_path):
    slow = settings.model_copy(update={"segment_seconds": 600})
    ingest = Ingest(store, slow, lambda: NOW, journal)
    for _ in range(3):
        ingest.receive(TRACES, trace_request(4).SerializeToString()).result(30)
        ingest.receive(METRICS, gauge_request().SerializeToString()).result(30)
    saved = tmp_path / "saved"
    shutil.copytree(journal, saved)
    ingest.close()
    before = rows_stored(store), rows_stored(store, "metric_points"), rows_stored(store, "dirty_hours")
    assert before[0] == 12
    assert segments(journal) + segments(journal, "metrics") == []

    shutil.rmtree(journal)
    saved.rename(journal)
    ingest = Ingest(store, slow, lambda: NOW, journal)
    assert ingest.flush(30)
    assert (rows_stored(store), rows_stored(store, "metric_points"), rows_stored(store, "dirty_hours")) == before
    counts = ingest.counts()
    assert total(counts, "pennytrace_replayed_items_total") == 15
    assert total(counts, "pennytrace_stored_items_total") == 15
    assert total(counts, "pennytrace_replayed_segments_total") == 2
    ingest.close()


def test_what_is_acknowledged_while_the_store_is_away_is_stored_when_it_is_back(store, ingest):
    store.execute("RENAME TABLE otlp_spans TO elsewhere, metric_points TO points_elsewhere")
    requests = [trace_request(3) for _ in range(4)]
    for request in requests:
        ingest.receive(TRACES, request.SerializeToString()).result(30)
        ingest.receive(METRICS, gauge_request().SerializeToString()).result(30)
    assert not ingest.flush(10)
    state = ingest.journal_state()
    assert (state.segments, state.accepting) == (2, True)
    assert "elsewhere" not in (state.last_error or "elsewhere")
    store.execute("RENAME TABLE elsewhere TO otlp_spans, points_elsewhere TO metric_points")
    assert ingest.flush(30)
    assert span_ids(store) == sent_ids(*requests)
    assert rows_stored(store) == 12
    assert ingest.journal_state().last_error is None


def test_closing_while_the_store_is_away_keeps_everything_for_the_next_start(store, settings, journal):
    store.execute("RENAME TABLE otlp_spans TO elsewhere")
    request = trace_request(3)
    ingest = Ingest(store, settings, lambda: NOW, journal)
    ingest.receive(TRACES, request.SerializeToString()).result(30)
    began = time.monotonic()
    ingest.close()
    assert time.monotonic() - began < 8
    assert len(segments(journal)) == 1
    store.execute("RENAME TABLE elsewhere TO otlp_spans")
    ingest = Ingest(store, settings, lambda: NOW, journal)
    assert ingest.flush(30)
    assert span_ids(store) == sent_ids(request)
    ingest.close()


def test_received_is_acknowledged_and_acknowledged_is_stored_at_every_moment_that_is_looked_at(store, ingest):
    store.execute("RENAME TABLE otlp_spans TO elsewhere")
    odd = trace_request(2)
    odd.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    for request in (trace_request(3), odd):
        ingest.receive(TRACES, request.SerializeToString()).result(30)
    check_sums(ingest)
    store.execute("RENAME TABLE elsewhere TO otlp_spans")
    assert ingest.flush(30)
    check_sums(ingest)
    assert total(ingest.counts(), "pennytrace_journal_items") == 0


def check_sums(ingest: Ingest) -> None:
    counts = ingest.counts()

    def items(what: str, **labels: str) -> float:
        return total(counts, f"pennytrace_{what}_items_total", signal="traces", **labels)

    assert items("received") == items("acknowledged") + items("rejected", stage="check") + items("deferred") == 5
    in_journal = total(counts, "pennytrace_journal_items", signal="traces")
    assert items("acknowledged") + items("replayed") == items("stored") + items("rejected", stage="store") + in_journal


def test_a_full_journal_asks_to_try_again_and_takes_more_once_there_is_room(store, settings, journal):
    small = settings.model_copy(update={"journal_bytes_max": 4096, "segment_seconds": 600})
    ingest = Ingest(store, small, lambda: NOW, journal)
    sent = []
    store.execute("RENAME TABLE otlp_spans TO elsewhere")
    while ingest.journal_state().bytes < 4096 - 700:
        sent.append(trace_request(3))
        ingest.receive(TRACES, sent[-1].SerializeToString()).result(30)
    sent.append(trace_request(20))
    with pytest.raises(JournalFullError, match="at most 4096 bytes waiting in the journal"):
        ingest.receive(TRACES, sent[-1].SerializeToString()).result(30)
    assert total(ingest.counts(), "pennytrace_deferred_items_total", reason="journal_full") == 20
    store.execute("RENAME TABLE elsewhere TO otlp_spans")
    assert ingest.flush(30)
    assert span_ids(store) == sent_ids(*sent[:-1])
    ingest.receive(TRACES, sent[-1].SerializeToString()).result(30)
    ingest.close()
    assert span_ids(store) == sent_ids(*sent)


def test_readiness_turns_when_there_is_no_room(store, settings, journal):
    full = settings.model_copy(update={"journal_free_bytes_min": 1 << 50})
    ingest = Ingest(store, full, lambda: NOW, journal)
    assert not ingest.journal_state().accepting
    with pytest.raises(JournalFullError, match="make room"):
        ingest.receive(TRACES, b"not even looked at")
    ingest.close()


@pytest.mark.usefixtures("ingest")
def test_a_journal_serves_one_ingest_at_a_time(store, settings, journal):
    with pytest.raises(JournalBusyError, match="in use by another process"):
        Ingest(store, settings, lambda: NOW, journal)


def test_a_damaged_segment_is_stored_as_far_as_it_is_whole_and_kept(store, settings, journal):
    small = settings.model_copy(update={"segment_bytes_max": 1024, "segment_seconds": 600})
    store.execute("RENAME TABLE otlp_spans TO elsewhere")
    ingest = Ingest(store, small, lambda: NOW, journal)
    requests = [trace_request(2) for _ in range(8)]
    for request in requests:
        ingest.receive(TRACES, request.SerializeToString()).result(30)
    ingest.close()
    store.execute("RENAME TABLE elsewhere TO otlp_spans")
    older = segments(journal)[0]
    data = bytearray(older.read_bytes())
    data[60] ^= 1
    older.write_bytes(data)
    ingest = Ingest(store, small, lambda: NOW, journal)
    assert ingest.flush(30)
    assert span_ids(store) == sent_ids(*requests[1:])
    assert [path.name for path in (journal / "damaged" / "traces").iterdir()] == [older.name]
    assert total(ingest.counts(), "pennytrace_damaged_segments_total") == 1
    ingest.close()


def test_damage_to_a_segment_that_waits_is_seen_and_only_what_went_in_is_counted(store, ingest, journal):
    store.execute("RENAME TABLE otlp_spans TO elsewhere")
    requests = [trace_request(10), trace_request(7)]
    for request in requests:
        ingest.receive(TRACES, request.SerializeToString()).result(30)
    assert not ingest.flush(10)
    [path] = segments(journal)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    store.execute("RENAME TABLE elsewhere TO otlp_spans")
    assert ingest.flush(30)
    assert span_ids(store) == sent_ids(requests[1])
    assert (journal / "damaged" / "traces" / path.name).read_bytes() == data
    counts = ingest.counts()
    assert total(counts, "pennytrace_stored_items_total") == 7
    assert total(counts, "pennytrace_rejected_items_total", stage="store", reason="damaged") == 10
    assert total(counts, "pennytrace_damaged_segments_total") == 1
    assert total(counts, "pennytrace_journal_items") == 0


@pytest.mark.parametrize("fault", ["missing", "bad sector"])
def test_a_segment_that_cannot_be_read_does_not_stop_those_behind_it(store, settings, journal, fault):
    small = settings.model_copy(update={"segment_bytes_max": 1024})
    store.execute("RENAME TABLE otlp_spans TO elsewhere")
    ingest = Ingest(store, small, lambda: NOW, journal)
    requests = [trace_request(8) for _ in range(3)]
    for request in requests:
        ingest.receive(TRACES, request.SerializeToString()).result(30)
    path = segments(journal)[0]
    path.unlink()
    if fault == "bad sector":
        path.symlink_to("/proc/self/mem")  # address 0 of it is an input/output error
    store.execute("RENAME TABLE elsewhere TO otlp_spans")
    deadline = time.monotonic() + 30
    while not ingest.flush(5) and time.monotonic() < deadline:
        pass
    assert span_ids(store) == sent_ids(*requests[1:])
    counts = ingest.counts()
    assert total(counts, "pennytrace_rejected_items_total", stage="store", reason="unreadable") == 8
    assert total(counts, "pennytrace_damaged_segments_total") == 1
    assert ingest.journal_state().segments == 0
    ingest.close()


class SilentStore(Store):
    """A store that takes an insert and does not answer."""

    answering = threading.Event()

    def insert_block(self, *args, **kwargs):
        self.answering.wait()
        return super().insert_block(*args, **kwargs)


def test_closing_does_not_wait_for_a_store_that_does_not_answer(tmp_path, settings, monkeypatch, caplog):
    monkeypatch.setattr("collector.ingest.CLOSE_S_MAX", 1.0)
    store, journal = SilentStore.open(EmbeddedLocation(tmp_path / "data")), tmp_path / "journal"
    ingest = Ingest(store, settings.model_copy(update={"segment_seconds": 600}), lambda: NOW, journal)
    request, points = trace_request(3), gauge_request()
    ingest.receive(TRACES, request.SerializeToString()).result(30)
    ingest.receive(METRICS, points.SerializeToString()).result(30)
    began = time.monotonic()
    ingest.close()
    assert time.monotonic() - began < 4
    assert "did not answer in time" in caplog.text
    assert segments(journal, "metrics") == [], "the other signals are stored meanwhile"
    JournalFolder(journal).release()
    store.answering.set()
    deadline = time.monotonic() + 30
    while segments(journal) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert span_ids(store) == sent_ids(request)
    store.close()


def test_a_start_that_fails_leaves_nothing_behind(store, settings, journal):
    Ingest(store, settings, lambda: NOW, journal).close()
    (journal / "metrics").rmdir()
    (journal / "metrics").write_text("in the way")
    threads = threading.active_count()
    with pytest.raises(JournalUnusableError):
        Ingest(store, settings, lambda: NOW, journal)
    assert threading.active_count() == threads
    (journal / "metrics").unlink()
    Ingest(store, settings, lambda: NOW, journal).close()


def test_the_counts_add_up_in_every_snapshot_while_spans_come_and_go(store, settings, journal):
    fast = settings.model_copy(update={"segment_seconds": 0.01})
    ingest, stop = Ingest(store, fast, lambda: NOW, journal), threading.Event()

    def send() -> None:
        while not stop.is_set():
            ingest.receive(TRACES, trace_request(3).SerializeToString()).result(30)

    senders = [threading.Thread(target=send) for _ in range(2)]
    for sender in senders:
        sender.start()
    until, looked = time.monotonic() + 2, 0
    try:
        while time.monotonic() < until:
            add_up(ingest.counts())
            looked += 1
    finally:
        stop.set()
        for sender in senders:
            sender.join()
        ingest.close()
    assert looked > 100
    assert total(ingest.counts(), "pennytrace_stored_items_total") > 0


def add_up(counts: list[Count]) -> None:
    def items(what: str, **labels: str) -> float:
        return total(counts, f"pennytrace_{what}", signal="traces", **labels)

    acknowledged = items("acknowledged_items_total")
    left_out = items("rejected_items_total", stage="check") + items("deferred_items_total")
    assert items("received_items_total") == acknowledged + left_out + items("queue_items")
    settled = items("stored_items_total") + items("rejected_items_total", stage="store")
    assert acknowledged + items("replayed_items_total") == settled + items("journal_items")
    assert items("queue_items") >= 0
    assert items("journal_items") >= 0
