"""What makes two rows one: never the rows of two tenants, and of log records only the same record."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from storage import EmbeddedLocation, Store

AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
# A row of every table that keeps the last of its duplicates and that senders fill.
ROWS = {
    "spans": {"started_at": AT, "trace_id": "t" * 16, "span_id": "s" * 8, "service": "shop"},
    "metric_points": {"time": AT, "service": "shop", "metric": "hw.energy", "kind": "sum", "value": 1.0},
    "log_records": {
        "time": AT,
        "observed_time": AT,
        "service": "shop",
        "resource": "{}",
        "tenant": "acme",
        "scope": "tests",
        "severity_number": 9,
        "severity_text": "INFO",
        "event_name": "checkout",
        "body": "paid",
        "attributes": {"a": "1"},
        "trace_id": "01" * 16,
        "span_id": "02" * 8,
        "flags": 0,
    },
}
# Another value for each column of a log record.
OTHERS = {
    "time": AT + timedelta(microseconds=1),
    "observed_time": None,
    "service": "bank",
    "resource": '{"a":1}',
    "tenant": "rival",
    "scope": "others",
    "severity_number": 10,
    "severity_text": "info",
    "event_name": "refund",
    "body": "not paid",
    "attributes": {"a": "2"},
    "trace_id": "",
    "span_id": "",
    "flags": 1,
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    opened = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("store") / "data"))
    yield opened
    opened.close()


@pytest.fixture
def store(engine):
    for table in ROWS:
        engine.execute(f"TRUNCATE TABLE {table}")
    return engine


def insert(store, table, received_at=AT, **others):
    row = {**ROWS[table], "received_at": received_at, **others}
    types = {"attributes": pl.Map(pl.String, pl.String)} if "attributes" in row else {}
    store.insert(table, pl.DataFrame([pl.Series(name, [value], types.get(name)) for name, value in row.items()]))


def kept(store, table, columns):
    return sorted(store.frame_of(f"SELECT {columns} FROM {table} FINAL").rows())


@pytest.mark.parametrize("table", ROWS)
def test_nobody_replaces_the_row_of_another_tenant(store, table):
    for later, tenant in enumerate(["", "acme", "rival"]):
        insert(store, table, AT + timedelta(seconds=later), tenant=tenant)
    assert kept(store, table, "tenant") == [("",), ("acme",), ("rival",)]
    store.execute(f"OPTIMIZE TABLE {table} FINAL")
    assert kept(store, table, "tenant") == [("",), ("acme",), ("rival",)]


@pytest.mark.parametrize("table", ROWS)
def test_a_row_that_a_tenant_sends_again_is_read_once_as_it_came_last(store, table):
    for later in (0, 1):
        insert(store, table, AT + timedelta(seconds=later), tenant="acme")
    assert kept(store, table, "toUnixTimestamp64Milli(received_at)") == [(int(AT.timestamp() + 1) * 1000,)]


@pytest.mark.parametrize("column", OTHERS)
def test_log_records_that_differ_in_one_column_are_two(store, column):
    insert(store, "log_records")
    insert(store, "log_records", **{column: OTHERS[column]})
    assert len(kept(store, "log_records", "time")) == 2


def test_every_column_of_a_log_record_belongs_to_its_identity(store):
    columns = store.frame_of(
        "SELECT name FROM system.columns WHERE database = 'pennytrace' AND table = 'log_records' "
        "AND default_kind = '' AND name != 'received_at'"
    )
    assert set(columns["name"]) == set(OTHERS)
