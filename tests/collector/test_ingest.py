from __future__ import annotations

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import ArrayValue, InstrumentationScope, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector import LOGS, METRICS, TRACES, CollectorSettings, Ingest
from collector.admission import ReadingFullError
from collector.errors import ClosingError, CollectorError, InvalidBodyError, QueueFullError, UnavailableError
from collector.framing import own_fields
from storage import ServerLocation, Store
from tests.collector.bodies import (
    DAY_NS,
    NOW,
    NOW_NS,
    SECOND_NS,
    add_spans,
    gauge_request,
    only_span,
    sent_ids,
    span_ids,
    span_rows,
    trace_request,
)
from tests.collector.serving import total


def test_what_is_acknowledged_is_in_the_store(ingest, store):
    requests = [trace_request(10) for _ in range(5)]
    receipts = [ingest.receive(TRACES, request.SerializeToString()).result(30) for request in requests]
    assert all(not receipt.rejected for receipt in receipts)
    assert span_ids(store) == sent_ids(*requests)


def test_every_field_of_a_span_arrives(ingest, store):
    request = trace_request(1)
    span = only_span(request)
    span.parent_span_id, span.trace_state, span.flags = b"\x01" * 8, "a=b", 257
    span.status.code, span.status.message = 2, "deadline exceeded"
    span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count = 1, 2, 3
    span.attributes.add(key="text").value.string_value = "grün"
    span.attributes.add(key="no").value.bool_value = False
    span.attributes.add(key="zero").value.int_value = 0
    span.attributes.add(key="most").value.int_value = 2**63 - 1
    span.attributes.add(key="half").value.double_value = 0.5
    span.attributes.add(key="list").value.array_value.values.add(string_value="stop")
    span.attributes.add(key="map").value.kvlist_value.values.add(key="k").value.int_value = 1
    span.attributes.add(key="bytes").value.bytes_value = b"\x00\xff"
    span.attributes.add(key="null")
    event, link = span.events.add(name="first token", time_unix_nano=NOW_NS), span.links.add(trace_id=b"t" * 16)
    ingest.receive(TRACES, request.SerializeToString(), tenant="acme").result(30)

    [row] = (
        store.frame_of(
            "SELECT *, CAST(attribute_types, 'Array(String)') AS types, mapKeys(attributes) AS keys, "
            "arrayMap(x -> hex(x), mapValues(attributes)) AS hex_values, hex(scope) AS scope_hex, "
            "arrayMap(x -> hex(x), events) AS events_hex, arrayMap(x -> hex(x), links) AS links_hex FROM spans"
        )
        .drop("attributes", "scope", "events", "links")
        .to_dicts()
    )
    values = {key: bytes.fromhex(value) for key, value in zip(row["keys"], row["hex_values"], strict=True)}
    assert row["types"] == ["s", "b", "i", "i", "d", "a", "m", "y", "no"]
    assert ArrayValue.FromString(values.pop("list")).values[0].string_value == "stop"
    assert KeyValueList.FromString(values.pop("map")).values[0].key == "k"
    assert values == {
        "text": "grün".encode(),
        "no": b"false",
        "zero": b"0",
        "most": str(2**63 - 1).encode(),
        "half": b"0.5",
        "bytes": b"\x00\xff",
        "null": b"",
    }
    assert [Span.Event.FromString(bytes.fromhex(each)) for each in row["events_hex"]] == [event]
    assert [Span.Link.FromString(bytes.fromhex(each)) for each in row["links_hex"]] == [link]
    assert InstrumentationScope.FromString(bytes.fromhex(row["scope_hex"])).name == "tests"
    assert (row["trace_id"], row["span_id"]) == (span.trace_id, span.span_id)
    assert (row["parent_span_id"], row["trace_state"], row["flags"], row["kind"]) == (b"\x01" * 8, "a=b", 257, 3)
    assert (row["status_code"], row["status_message"]) == (2, "deadline exceeded")
    assert (row["dropped_attributes"], row["dropped_events"], row["dropped_links"]) == (1, 2, 3)
    assert (row["started_at"], row["duration_ns"], row["received_at"]) == (NOW, SECOND_NS, NOW)
    assert (row["service"], row["tenant"], json.loads(row["resource"])) == ("shop", "acme", {"service.name": "shop"})


def test_a_body_cannot_choose_its_tenant_or_service(ingest, store):
    spoof = own_fields(trace_request(1, service="victim").resource_spans[0].resource, "victim", 7)
    request = trace_request(1)
    request.resource_spans[0].MergeFromString(spoof)
    ingest.receive(TRACES, request.SerializeToString(), tenant="").result(30)
    [row] = span_rows(store)
    assert (row["service"], row["tenant"], row["received_at"]) == ("shop", "", NOW)
    assert json.loads(str(row["resource"])) == {"service.name": "shop"}


def test_a_span_sent_twice_is_read_once(ingest, store):
    body = trace_request(20).SerializeToString()
    for _ in range(2):
        ingest.receive(TRACES, body).result(30)
    assert len(span_ids(store)) == 20


def test_spans_of_three_years_ago_are_stored_and_mark_their_hour_dirty(ingest, store):
    start_ns = NOW_NS - 3 * 365 * DAY_NS
    ingest.receive(TRACES, trace_request(2, start_ns=start_ns).SerializeToString()).result(30)
    then = datetime.fromtimestamp(start_ns // SECOND_NS, UTC).replace(minute=0)
    assert dirty(store) == {then: 1}


def test_every_commit_raises_the_mark_of_the_hours_it_touched(ingest, store):
    for expected in (1, 2):
        request = trace_request(2)
        add_spans(request, 1, start_ns=NOW_NS - 3600 * SECOND_NS)
        ingest.receive(TRACES, request.SerializeToString()).result(30)
        assert set(dirty(store).values()) == {expected}
    ingest.receive(METRICS, gauge_request().SerializeToString()).result(30)
    assert dirty(store)[NOW.replace(minute=0)] == 3


def dirty(store: Store) -> dict[datetime, int]:
    rows = store.frame_of("SELECT hour, sum(batches) AS batches FROM dirty_hours GROUP BY hour").to_dicts()
    return {row["hour"]: row["batches"] for row in rows}


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 3))):
        for span in add_spans(request, draw(st.integers(0, 4))):
            span.trace_id = draw(st.sampled_from([span.trace_id, span.trace_id, b"", b"x" * 17]))
            span.parent_span_id = draw(st.sampled_from([b"", b"p" * 8, b"p"]))
            span.start_time_unix_nano = draw(st.sampled_from([NOW_NS, NOW_NS - 9 * DAY_NS, 0, 2**64 - 1]))
            span.end_time_unix_nano = draw(st.sampled_from([0, NOW_NS, 2**64 - 1]))
            span.name = draw(st.text(max_size=8))
    return request


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(requests=st.lists(requests(), min_size=1, max_size=4))
def test_spans_in_are_spans_stored_plus_spans_rejected(ingest, store, requests):
    stored_before, counts_before = len(span_ids(store)), ingest.counts()
    futures = [ingest.receive(TRACES, request.SerializeToString()) for request in requests]
    rejected = sum(sum(future.result(30).rejected.values()) for future in futures)
    sent = sum(
        len(scope.spans) for request in requests for each in request.resource_spans for scope in each.scope_spans
    )
    assert len(span_ids(store)) - stored_before == sent - rejected

    def grown(what: str) -> float:
        name = f"pennytrace_{what}_items_total"
        return total(ingest.counts(), name) - total(counts_before, name)

    assert (grown("received"), grown("acknowledged"), grown("stored")) == (sent, sent - rejected, sent - rejected)
    assert grown("rejected") == rejected


@pytest.mark.parametrize("body", [b"garbage", b"\x0a\xff\xff\xff\xff\x0f", trace_request(5).SerializeToString()[:-3]])
def test_a_body_that_is_not_otlp_is_refused_and_neighbours_go_in(ingest, store, body):
    request = trace_request(2)
    neighbour = ingest.receive(TRACES, request.SerializeToString())
    with pytest.raises(InvalidBodyError, match="expected a protobuf ExportTraceServiceRequest"):
        ingest.receive(TRACES, body)
    neighbour.result(30)
    assert span_ids(store) == sent_ids(request)


def test_text_that_is_not_utf8_is_refused(ingest):
    raw = trace_request(1).SerializeToString().replace(b"chat", b"\xff\xfe\xff\xfe")
    with pytest.raises(InvalidBodyError):
        ingest.receive(TRACES, raw)


def test_values_nested_two_hundred_deep_are_refused_and_forty_deep_are_kept(ingest, store):
    def nested(levels: int) -> bytes:
        request = trace_request(1)
        value = only_span(request).attributes.add(key="deep").value
        for _ in range(levels):
            value = value.array_value.values.add()
        value.string_value = "bottom"
        return request.SerializeToString()

    with pytest.raises(InvalidBodyError):
        ingest.receive(TRACES, nested(200))
    ingest.receive(TRACES, nested(40)).result(30)
    assert len(span_ids(store)) == 1


def test_concurrent_bodies_share_commits(ingest, store):
    requests = [trace_request(2) for _ in range(60)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda request: ingest.receive(TRACES, request.SerializeToString()).result(30), requests))
    assert span_ids(store) == sent_ids(*requests)
    assert total(ingest.counts(), "pennytrace_inserts_total") < 30


def test_closing_stores_what_is_queued_and_asks_later_ones_to_try_again(store, settings, journal):
    ingest = Ingest(store, settings.model_copy(update={"commit_delay_ms": 5000}), lambda: NOW, journal)
    requests = [trace_request(3) for _ in range(4)]
    pending = [ingest.receive(TRACES, request.SerializeToString()) for request in requests]
    ingest.close()
    assert all(future.done() and not future.exception() for future in pending)
    assert span_ids(store) == sent_ids(*requests)
    with pytest.raises(ClosingError):
        ingest.receive(TRACES, trace_request(1).SerializeToString())


def test_a_full_queue_asks_to_try_again_and_loses_nothing_it_took(store, journal):
    small = CollectorSettings(
        body_bytes_max=2048, decompressed_bytes_max=2048, queue_bytes_max=4096, commit_delay_ms=2000
    )
    ingest = Ingest(store, small, lambda: NOW, journal)
    taken = [trace_request(5) for _ in range(2)]
    for request in taken:
        ingest.receive(TRACES, request.SerializeToString())
    with pytest.raises(QueueFullError, match="at most 4096 bytes"):
        ingest.receive(TRACES, trace_request(5).SerializeToString())
    assert 2048 < total(ingest.counts(), "pennytrace_queue_bytes") <= 4096
    ingest.close()
    assert span_ids(store) == sent_ids(*taken)
    assert total(ingest.counts(), "pennytrace_queue_bytes") == 0
    assert total(ingest.counts(), "pennytrace_deferred_items_total", reason="queue_full") == 5


def test_a_store_that_does_not_answer_is_no_concern_of_senders(settings, tmp_path):
    away = Store(ServerLocation("http://127.0.0.1:9"))
    ingest = Ingest(away, settings, lambda: NOW, tmp_path / "journal")
    for signal, request in ((TRACES, trace_request(1)), (METRICS, gauge_request())):
        assert not ingest.receive(signal, request.SerializeToString()).result(30).rejected
    assert not ingest.flush(30)
    state = ingest.journal_state()
    assert (state.segments, state.accepting) == (2, True)
    assert "did not answer" in state.last_error
    ingest.close()
    away.close()


def test_logs_are_counted_and_not_kept(ingest):
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "hello"
    assert not ingest.receive(LOGS, request.SerializeToString()).result(1).rejected
    assert total(ingest.counts(), "pennytrace_discarded_items_total", signal="logs") == 1


def test_ten_threads_sending_at_once_lose_nothing_while_others_are_refused(ingest, store):
    requests = [trace_request(3) for _ in range(40)]
    start = threading.Barrier(10)

    def send(mine: list[ExportTraceServiceRequest]) -> None:
        start.wait()
        for request in mine:
            with pytest.raises(InvalidBodyError):
                ingest.receive(TRACES, b"\x0a\x05nope")
            ingest.receive(TRACES, request.SerializeToString()).result(30)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(send, [requests[at::10] for at in range(10)]))
    assert span_ids(store) == sent_ids(*requests)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=2)), min_size=1, max_size=3))
def test_a_mutated_body_is_stored_or_refused_and_never_holds_others_up(ingest, changes):
    request = trace_request(2)
    span = only_span(request)
    span.attributes.add(key="flag").value.bool_value = True
    span.attributes.add(key="list").value.array_value.values.add(int_value=5)
    span.events.add(name="event")
    body = bytearray(request.SerializeToString())
    for position, replacement in changes:
        at = position % len(body)
        body[at : at + 1] = replacement
    try:
        receipt = ingest.receive(TRACES, bytes(body)).result(30)
    except InvalidBodyError:
        return
    assert sum(receipt.rejected.values()) <= 2
    assert ingest.flush(30), ingest.journal_state()


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        *((fault, InvalidBodyError) for fault in (RecursionError, ValueError, KeyError)),
        *((fault, UnavailableError) for fault in (MemoryError, OSError)),
    ],
)
def test_a_body_on_which_the_collector_fails_is_not_sent_again_unless_the_fault_passes(
    store, settings, journal, caplog, fault, answer
):
    def clock() -> datetime:
        raise fault("broken")

    ingest = Ingest(store, settings, clock, journal)
    with pytest.raises(CollectorError) as refused:
        ingest.receive(TRACES, trace_request(1).SerializeToString())
    assert type(refused.value) is answer
    assert isinstance(refused.value.__cause__, fault)
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info[0] is fault
    assert total(ingest.counts(), "pennytrace_refused_bodies_total", reason=answer.reason) == 1
    ingest.close()


def test_bodies_that_are_parsed_at_once_share_their_memory(ingest):
    body = gzip.compress(trace_request(100).SerializeToString())
    held = ingest._parsing.bytes_max - 10_000  # noqa: SLF001 (another thread would hold it for a moment)
    ingest._parsing.take(held)  # noqa: SLF001
    with pytest.raises(ReadingFullError, match="try again"):
        ingest.receive(TRACES, body, content_encoding="gzip")
    ingest._parsing.give(held)  # noqa: SLF001
    ingest.receive(TRACES, body, content_encoding="gzip").result(30)
    assert ingest._parsing.used_bytes == 0  # noqa: SLF001
