"""The store over the embedded engine, and what it says when it cannot work."""

import os
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from storage import EmbeddedLocation, LocationBusyError, QueryError, ServerLocation, Store, StoreUnavailableError


@pytest.fixture
def store(tmp_path):
    opened = Store.open(EmbeddedLocation(tmp_path / "data"))
    yield opened
    opened.close()


def test_decimals_and_utc_times_survive_the_way_in_and_out(store):
    store.execute("CREATE TABLE t (at DateTime64(3, 'UTC'), usd Nullable(Decimal(38, 12))) ENGINE = Memory")
    frame = pl.DataFrame(
        {"at": [datetime(2026, 1, 2, 3, tzinfo=UTC)] * 2, "usd": [Decimal("12345678901234.000000000001"), None]},
        schema_overrides={"usd": pl.Decimal(38, 12)},
    )
    store.insert("t", frame)
    read = store.frame_of("SELECT at, usd FROM t")
    assert read["usd"].to_list() == frame["usd"].to_list()
    assert read["at"].to_list() == frame["at"].to_list()


def test_parameters_are_bound_and_never_spliced_into_the_text(store):
    hostile = "x'; DROP TABLE spans; --"
    assert store.frame_of("SELECT {name:String} AS name", {"name": hostile})["name"].to_list() == [hostile]


def test_a_refused_statement_carries_the_engines_numeric_code(store):
    with pytest.raises(QueryError) as refusal:
        store.frame_of("SELECT nonsense FROM spans")
    assert refusal.value.code == 47
    assert not refusal.value.retryable


def test_threads_read_while_another_writes(store):
    failures = []

    def read():
        try:
            for _ in range(10):
                store.frame_of("SELECT count() AS spans FROM spans")
        except Exception as error:  # noqa: BLE001 - a thread must hand over whatever went wrong
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(5):
        store.execute(
            "INSERT INTO spans (started_at, trace_id, span_id) "
            "SELECT now64(9), '1', toString(number) FROM numbers(1000)"
        )
    for reader in readers:
        reader.join()
    assert failures == []
    assert store.frame_of("SELECT count() AS spans FROM spans FINAL")["spans"].item() == 1000


def test_every_insert_of_spans_marks_its_hours_dirty(store):
    for _ in range(2):
        store.execute(
            "INSERT INTO spans (started_at, trace_id, span_id) "
            "SELECT toDateTime64('2026-01-01 00:30:00', 9, 'UTC') + INTERVAL number HOUR, '1', '2' FROM numbers(3)"
        )
    marks = store.frame_of("SELECT hour, sum(batches) AS batches FROM dirty_hours GROUP BY hour ORDER BY hour")
    assert marks["hour"].to_list() == [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(3)]
    assert marks["batches"].to_list() == [2, 2, 2]


def test_a_directory_held_by_another_process_is_refused_with_its_holder(tmp_path):
    program = (
        "import sys; from pathlib import Path; from storage import *\n"
        "store = Store.open(EmbeddedLocation(Path(sys.argv[1]))); store.announce('http://127.0.0.1:8900')\n"
        "print('open', flush=True); sys.stdin.read(); store.close()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(LocationBusyError) as refusal:
            Store.open(EmbeddedLocation(tmp_path / "data"))
    finally:
        holder.communicate("")
    assert refusal.value.holder_pid == holder.pid != os.getpid()
    assert "use --url http://127.0.0.1:8900" in str(refusal.value)
    Store.open(EmbeddedLocation(tmp_path / "data")).close()


def test_a_server_that_does_not_answer_is_named_without_its_password():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(StoreUnavailableError) as failure:
        Store.open(ServerLocation(f"http://pennytrace:secret@127.0.0.1:{port}"))
    assert f"127.0.0.1:{port}" in str(failure.value)
    assert "secret" not in str(failure.value)
    assert failure.value.retryable


def test_times_are_bound_in_utc_whatever_zone_the_host_keeps(store, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        moment = datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)
        read = store.frame_of(
            "SELECT {at:DateTime64(3)} AS exact, {at:DateTime64(0)} AS whole, {at:DateTime64(3, 'UTC')} AS zoned",
            {"at": moment},
        ).row(0, named=True)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (read["exact"], read["zoned"]) == (moment, moment)
    assert read["whole"] == moment.replace(microsecond=0)
