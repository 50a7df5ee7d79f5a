from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector import LOGS, CollectorSettings, Encoding, Ingest
from collector.content import ContentFilter
from collector.log_records import decode
from collector.window import Window
from tests.collector.bodies import DAY_NS, KEEPS_CONTENT, NOW, NOW_NS, name_service

SECRET = "my prompt is confidential"
WINDOW = Window.around(NOW, CollectorSettings())


def log_request(event_name: str = "", body: str = "served", **fields: object) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    name_service(resource_logs.resource, "shop")
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.name = "tests"
    record = scope_logs.log_records.add(**{"time_unix_nano": NOW_NS, "event_name": event_name, **fields})
    if body:
        record.body.string_value = body
    return request


def only_record(request: ExportLogsServiceRequest):
    return request.resource_logs[0].scope_logs[0].log_records[0]


@pytest.fixture
def settings(settings) -> CollectorSettings:
    return settings.model_copy(update={"keep_logs": True})


def test_a_kept_record_comes_back_with_everything_it_had(ingest, store):
    request = log_request(
        severity_number=9,
        severity_text="INFO",
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        flags=1,
        observed_time_unix_nano=NOW_NS + 5,
    )
    only_record(request).attributes.add(key="attempt").value.int_value = 2
    assert ingest.receive(LOGS, request.SerializeToString(), tenant="acme").result().rejected == {}
    [row] = store.frame_of("SELECT * FROM log_records FINAL").to_dicts()
    assert row["time"] == NOW
    assert row["observed_time"] is not None
    assert dict(row["attributes"]) == {"attempt": "2"}
    expected = {
        "service": "shop",
        "resource": '{"service.name":"shop"}',
        "tenant": "acme",
        "scope": "tests",
        "severity_number": 9,
        "severity_text": "INFO",
        "event_name": "",
        "body": "served",
        "trace_id": bytes(range(16)).hex(),
        "span_id": bytes(range(8)).hex(),
        "flags": 1,
    }
    assert {name: row[name] for name in expected} == expected


def test_a_record_that_is_sent_twice_is_read_once(ingest, store):
    body = log_request().SerializeToString()
    for _ in range(2):
        ingest.receive(LOGS, body).result()
    ingest.receive(LOGS, log_request(body="another").SerializeToString()).result()
    assert store.frame_of("SELECT count() AS n FROM log_records FINAL")["n"].to_list() == [2]


def test_the_same_record_of_two_tenants_is_kept_for_both(ingest, store):
    for tenant in ("acme", "rival"):
        ingest.receive(LOGS, log_request().SerializeToString(), tenant=tenant).result()
    assert sorted(store.frame_of("SELECT tenant FROM log_records FINAL")["tenant"]) == ["acme", "rival"]


@pytest.mark.parametrize(
    ("field", "value"), [("severity_text", "WARN"), ("flags", 1), ("observed_time_unix_nano", NOW_NS)]
)
def test_records_that_differ_in_one_field_are_two(ingest, store, field, value):
    for fields in ({}, {field: value}):
        ingest.receive(LOGS, log_request(**fields).SerializeToString()).result()
    assert store.frame_of("SELECT count() AS n FROM log_records FINAL")["n"].to_list() == [2]


def test_records_are_counted_and_not_kept_unless_switched_on(store, settings, tmp_path):
    discarding = settings.model_copy(update={"keep_logs": False})
    ingest = Ingest(store, discarding, lambda: NOW, tmp_path / "journal")
    ingest.receive(LOGS, log_request().SerializeToString()).result()
    counts = {one.name: one.value for one in ingest.counts() if one.labels == {"signal": "logs"}}
    ingest.close()
    assert (counts["pennytrace_received_items_total"], counts["pennytrace_discarded_items_total"]) == (1, 1)
    assert store.frame_of("SELECT count() AS n FROM log_records")["n"].to_list() == [0]


def test_records_come_as_json_too(ingest, store):
    record = {
        "timeUnixNano": str(NOW_NS),
        "body": {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}},
    }
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()

    ingest.receive(LOGS, body, Encoding.JSON).result()
    assert store.frame_of("SELECT body FROM log_records")["body"].to_list() == ['{"a":1}']


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"time_unix_nano": 0, "observed_time_unix_nano": NOW_NS - 10**9}, NOW_NS - 10**9),
        ({"time_unix_nano": 0}, NOW_NS),
    ],
)
def test_a_record_without_a_time_has_that_of_its_observation_or_receipt(fields, time):
    assert decode(log_request(**fields), WINDOW, "", KEEPS_CONTENT).rows[0]["time"] == time


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"time_unix_nano": NOW_NS + 30 * DAY_NS}, "time_outside_window"),
        ({"observed_time_unix_nano": 2**64 - 1}, "time_outside_window"),
        ({"trace_id": b"short"}, "bad_trace_id"),
        ({"span_id": b"short"}, "bad_span_id"),
    ],
)
def test_a_faulty_record_is_rejected_and_its_neighbour_goes_in(fields, reason):
    request = log_request(**fields)
    request.MergeFrom(log_request())
    body = decode(request, WINDOW, "", KEEPS_CONTENT)
    assert (body.items, body.rejected) == (1, {reason: 1})


@pytest.mark.parametrize("by_attribute", [True, False])
def test_the_messages_of_models_are_dropped_from_records(by_attribute):
    request = log_request("" if by_attribute else "gen_ai.user.message", SECRET)
    record = only_record(request)
    if by_attribute:
        record.attributes.add(key="event.name").value.string_value = "gen_ai.user.message"
    record.attributes.add(key="gen_ai.provider.name").value.string_value = "openai"
    record.attributes.add(key="gen_ai.input.messages").value.string_value = SECRET
    body = decode(request, WINDOW, "", ContentFilter(CollectorSettings()))
    assert SECRET not in str(body.rows)
    assert (body.rows[0]["body"], body.content_dropped) == ("", 2)
    attributes = body.rows[0]["attributes"]
    assert isinstance(attributes, dict)
    assert attributes["gen_ai.provider.name"] == "openai"


def test_a_record_that_is_no_message_of_a_model_keeps_its_body():
    body = decode(log_request("checkout", "paid"), WINDOW, "", ContentFilter(CollectorSettings()))
    assert body.rows[0]["body"] == "paid"


def test_messages_stay_when_content_is_switched_on():
    content = ContentFilter(CollectorSettings(keep_message_content=True))
    assert decode(log_request("gen_ai.user.message", SECRET), WINDOW, "", content).rows[0]["body"] == SECRET


def test_the_time_of_receipt_is_that_of_the_clock(ingest, store):
    ingest.receive(LOGS, log_request().SerializeToString()).result()
    [received] = store.frame_of("SELECT received_at FROM log_records")["received_at"].to_list()
    assert received == NOW.astimezone(UTC)
    assert isinstance(received, datetime)
