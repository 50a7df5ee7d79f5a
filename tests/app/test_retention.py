"""Retention through the whole server: what it drops is not taken in again, and dollars stay."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from analytics.settings import InstanceRate, LedgerSettings
from app.job import Job
from app.server import Server
from app.settings import ServerSettings, Settings, StorageSettings
from storage.settings import RetentionSettings

ANY_PORT = "127.0.0.1:0"
MAY = datetime(2026, 5, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def settings(folder, **sections):
    return Settings(
        storage=StorageSettings(data=folder / "data"),
        server=ServerSettings(http=ANY_PORT, grpc=ANY_PORT, ui=ANY_PORT, sql=ANY_PORT),
        retention=RetentionSettings(spans_days=60),
        **sections,
    )


@contextmanager
def server_at(now, known):
    server = Server(known, lambda _text: None, lambda: now)
    try:
        yield server
    finally:
        server.stop()


def send_call(server, started_at, number):
    """Post one model call; how many spans were rejected, and why."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "shop"
    start_ns = int(started_at.timestamp()) * 10**9
    span = resource_spans.scope_spans.add().spans.add(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        name="chat",
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + 10**9,
    )
    for key, value in (("operation.name", "chat"), ("provider.name", "openai"), ("request.model", "gpt-4.1")):
        span.attributes.add(key=f"gen_ai.{key}").value.string_value = value
    for key in ("input_tokens", "output_tokens"):
        span.attributes.add(key=f"gen_ai.usage.{key}").value.int_value = 1000
    answer = httpx2.post(
        server.url("http") + "/v1/traces",
        content=request.SerializeToString(),
        headers={"content-type": "application/x-protobuf"},
    )
    said = ExportTraceServiceResponse.FromString(answer.raise_for_status().content).partial_success
    return said.rejected_spans, said.error_message


def dollars(server):
    rows = server.store.frame_of("SELECT hour, sum(cost_usd) AS usd FROM cost_hourly GROUP BY hour ORDER BY hour")
    return rows.rows()


def spans(server):
    return server.store.frame_of("SELECT count() AS spans FROM spans")["spans"].item()


def test_dollars_outlive_dropped_spans_and_late_ones_are_refused(tmp_path):
    with server_at(MAY + DAY, settings(tmp_path)) as server:
        assert send_call(server, MAY, 1) == (0, "")
        server.job.run()
        before = dollars(server)
        assert [hour for hour, _ in before] == [MAY]
        assert before[0][1] > 0
    later = datetime(2026, 6, 1, tzinfo=UTC) + 63 * DAY
    every_call_by_the_hour = LedgerSettings(
        instances=(InstanceRate(service="*", model="*", instance_cost_per_hour_usd=Decimal(5)),)
    )
    with server_at(later, settings(tmp_path, ledger=every_call_by_the_hour)) as server:
        server.job.run()
        assert spans(server) == 0
        server.job.run(everything=True)
        assert dollars(server) == before
        rejected, reason = send_call(server, MAY, 2)
        assert rejected == 1
        assert "start_time_outside_window" in reason
        assert send_call(server, later - 59 * DAY, 3)[0] == 0


def test_retention_runs_once_a_day_and_not_with_every_job(tmp_path):
    now = [MAY + DAY]
    server = Server(settings(tmp_path), lambda _text: None, lambda: now[0])
    try:
        send_call(server, MAY, 1)
        server.job.run()
        now[0] = MAY + 80 * DAY
        server.job.run()
        assert spans(server) == 0
        server.store.execute(
            "INSERT INTO spans (started_at, trace_id, span_id) SELECT toDateTime64('2026-05-02', 9, 'UTC'), '1', '2'"
        )
        now[0] += DAY / 2
        server.job.run()
        assert spans(server) == 1
        now[0] += DAY / 2
        server.job.run()
        assert spans(server) == 0
    finally:
        server.stop()


def test_days_that_were_dropped_stay_refused_when_retention_is_widened(tmp_path):
    with server_at(MAY + DAY, settings(tmp_path)) as server:
        send_call(server, MAY, 1)
        server.job.run()
    later = datetime(2026, 6, 1, tzinfo=UTC) + 63 * DAY
    with server_at(later, settings(tmp_path)) as server:
        server.job.run()
    wide = settings(tmp_path).model_copy(update={"retention": RetentionSettings()})
    with server_at(later, wide) as server:
        assert send_call(server, MAY, 2)[0] == 1
        assert send_call(server, datetime(2026, 6, 2, 12, tzinfo=UTC), 3)[0] == 0
        server.job.run()
        assert len(dollars(server)) == 2


def test_nothing_is_dropped_while_acknowledged_rows_are_not_stored(tmp_path):
    with server_at(MAY + DAY, settings(tmp_path)) as server:
        send_call(server, MAY, 1)
        server.job.run()
        later = Job(server.store, settings(tmp_path), lambda: MAY + 90 * DAY, print, flush=lambda _timeout_s: False)
        later.run()
        assert spans(server) == 1
