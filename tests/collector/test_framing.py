from __future__ import annotations

from datetime import UTC, datetime

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from collector import CollectorSettings, framing
from collector.window import Window
from storage import otlp
from tests.collector.bodies import DAY_NS, KEEPS_CONTENT, NOW, NOW_NS, add_spans, only_span, trace_request

WINDOW = Window.around(NOW, CollectorSettings())


def frame(request: ExportTraceServiceRequest) -> framing.SpanBody:
    raw = request.SerializeToString()
    return framing.frame(ExportTraceServiceRequest.FromString(raw), raw, WINDOW, "", KEEPS_CONTENT)


def test_a_sound_request_goes_on_byte_for_byte_without_a_copy():
    request = trace_request(3)
    add_spans(request, 2, service="other")
    body = frame(request)
    assert body.items == 5
    assert [bytes(row.message) for row in body.rows] == [each.SerializeToString() for each in request.resource_spans]
    assert all(isinstance(row.message, memoryview) for row in body.rows)


def test_messages_without_spans_between_others_are_left_out_and_cost_no_slices():
    request = ExportTraceServiceRequest()
    for spans in (0, 2, 0, 0, 1, 0):
        add_spans(request, spans) if spans else request.resource_spans.add()
    body = frame(request)
    assert [bytes(row.message) for row in body.rows] == [
        request.resource_spans[position].SerializeToString() for position in (1, 4)
    ]
    slices = framing.message_slices(request.SerializeToString(), [0, 2, 0, 0, 1, 0])
    assert slices[0] is slices[2] is slices[3] is slices[5]


def test_unknown_fields_of_a_request_are_left_out_and_its_spans_kept():
    raw = trace_request(2).SerializeToString() + bytes((99 << 3 & 127 | 128, 99 >> 4, 1))
    body = framing.frame(ExportTraceServiceRequest.FromString(raw), raw, WINDOW, "", KEEPS_CONTENT)
    assert body.items == 2
    assert len(body.rows) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trace_id": b"short"}, "bad_trace_id"),
        ({"trace_id": b"x" * 20}, "bad_trace_id"),
        ({"trace_id": bytes(16)}, "bad_trace_id"),
        ({"span_id": b""}, "bad_span_id"),
        ({"span_id": bytes(8)}, "bad_span_id"),
        ({"parent_span_id": b"1234567"}, "bad_parent_span_id"),
        ({"start_time_unix_nano": 0}, "start_time_outside_window"),
        ({"start_time_unix_nano": NOW_NS - 1827 * DAY_NS}, "start_time_outside_window"),
        ({"start_time_unix_nano": NOW_NS + 2 * DAY_NS}, "start_time_outside_window"),
        ({"start_time_unix_nano": 2**64 - 1}, "start_time_outside_window"),
        ({"end_time_unix_nano": 2**64 - 1}, "end_time_outside_window"),
    ],
)
def test_a_faulty_span_is_left_out_with_its_reason_and_its_neighbours_are_kept(change, reason):
    request = trace_request(3)
    for name, value in change.items():
        setattr(only_span(request), name, value)
    body = frame(request)
    assert (body.items, body.rejected) == (2, {reason: 1})
    kept = ResourceSpans.FromString(bytes(body.rows[0].message))
    assert list(kept.scope_spans[0].spans) == list(request.resource_spans[0].scope_spans[0].spans)[1:]


@pytest.mark.parametrize("age_days", [0, 365, 1825])
def test_a_span_of_the_last_five_years_is_accepted(age_days):
    assert frame(trace_request(1, start_ns=NOW_NS - age_days * DAY_NS)).items == 1


def test_a_request_without_spans_has_no_rows():
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add()
    assert frame(request) == framing.SpanBody((), 0, {})


def test_own_fields_stand_behind_what_the_sender_wrote():
    row = frame(trace_request(1)).rows[0]
    assert row.framed().endswith(row.own)
    assert row.own.endswith(NOW_NS.to_bytes(8, "little"))


def test_the_widest_window_stays_under_the_engines_hundred_partitions_an_insert():
    widest = Window.around(NOW, CollectorSettings(accepted_past_days=2900, accepted_future_hours=48))
    oldest, newest = (datetime.fromtimestamp(ns / 1e9, UTC) for ns in (widest.oldest_ns, widest.newest_ns))
    assert (newest.year - oldest.year) * 12 + newest.month - oldest.month + 1 < 100


def test_a_varint_is_read_back_as_it_was_written():
    for value in (0, 1, 127, 128, 300, otlp.RECEIVED_FIELD << 3, 2**35):
        encoded = framing.varint(value)
        assert framing.read_varint(encoded, 0) == (value, len(encoded))
