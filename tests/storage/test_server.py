"""The store over HTTP does what it does embedded."""

import os
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from storage import QueryError, Store, StoreUnavailableError, otlp
from storage.migrations import all_migrations, migrate
from storage.retention import drop_expired
from storage.settings import RetentionSettings
from storage.traces import find_trace
from tests.clickhouse_server import running_clickhouse

START = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_clickhouse(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def store(server):
    opened = Store.open(server.location)
    yield opened
    opened.close()


def test_the_schema_is_applied_once_and_found_by_the_next_program(store):
    assert migrate(store) == []
    applied = store.frame_of("SELECT count() AS files FROM schema_migrations FINAL")["files"].item()
    assert applied == len(all_migrations())


def test_decimals_and_utc_times_survive_the_way_in_and_out(store):
    store.execute("CREATE OR REPLACE TABLE t (at DateTime64(3, 'UTC'), usd Nullable(Decimal(38, 12))) ENGINE = Memory")
    frame = pl.DataFrame(
        {"at": [START] * 2, "usd": [Decimal("12345678901234.000000000001"), None]},
        schema_overrides={"usd": pl.Decimal(38, 12)},
    )
    store.insert("t", frame)
    read = store.frame_of("SELECT at, usd FROM t WHERE at = {at:DateTime64(3, 'UTC')}", {"at": START})
    assert read["usd"].to_list() == frame["usd"].to_list()
    assert read["at"].to_list() == frame["at"].to_list()


def test_a_refused_statement_carries_the_engines_numeric_code(store):
    with pytest.raises(QueryError) as refusal:
        store.frame_of("SELECT nonsense FROM spans")
    assert refusal.value.code == 47


def framed_span(trace_id):
    """One ResourceSpans of one span, as the collector frames it."""
    span = b"\x0a\x10" + trace_id + b"\x12\x08" + os.urandom(8) + b"\x2a\x04chat"
    span += b"\x39" + (int(START.timestamp()) * 10**9).to_bytes(8, "little")
    scope_spans = b"\x12" + bytes([len(span)]) + span
    message = b"\x12" + bytes([len(scope_spans)]) + scope_spans
    return bytes([len(message)]) + message


def test_a_block_sent_twice_with_its_token_is_stored_once_and_found_by_trace_id(store):
    trace_id, token = os.urandom(16), uuid.uuid4().hex
    block = framed_span(trace_id)
    for _ in range(2):
        otlp.insert_spans(store, block, token)
    stored = store.frame_of(
        "SELECT count() AS rows FROM spans WHERE trace_id = unhex({id:String})", {"id": trace_id.hex()}
    )
    assert stored["rows"].item() == 1
    (found,) = find_trace(store, trace_id).resource_spans[0].scope_spans[0].spans
    assert found.name == "chat"


def test_retention_drops_a_month(store):
    store.execute(
        "INSERT INTO spans (started_at, trace_id, span_id) SELECT toDateTime64('2024-01-05', 9, 'UTC'), '1', '2'"
    )
    settings = RetentionSettings(spans_days=365, metric_points_days=0, logs_days=0)
    dropped = drop_expired(store, settings, datetime(2024, 2, 1, tzinfo=UTC) + timedelta(days=400))
    assert [(each.month, each.rows) for each in dropped] == [("202401", 1)]


def test_a_server_that_went_away_is_told_from_one_that_refuses(store, server):
    server.stop()
    try:
        with pytest.raises(StoreUnavailableError) as failure:
            store.frame_of("SELECT 1")
    finally:
        server.start()
    assert failure.value.retryable
    assert store.ping()
