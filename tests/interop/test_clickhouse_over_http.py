"""The store and the whole server over ClickHouse's HTTP interface, with the real engine behind it."""

from __future__ import annotations

import http.client
import threading
import time
from datetime import UTC, datetime

import polars as pl
import pytest

from app.server import Server
from collector import CollectorSettings, framing
from collector.window import Window
from storage import QueryError, Store, StoreUnavailableError, otlp
from storage.migrations import all_migrations
from tests.collector.bodies import KEEPS_CONTENT, NOW, refused_by_engine, sent_ids, span_ids, trace_request
from tests.interop.conftest import settings_for

WAIT_S = 60


@pytest.fixture
def store(clickhouse):
    store = Store.open(clickhouse.location)
    yield store
    store.close()


@pytest.fixture
def serving(clickhouse, tmp_path):
    server = Server(settings_for(tmp_path, clickhouse.location.url), lambda _line: None)
    yield server
    server.stop()


def framed(request) -> bytes:
    window = Window.around(NOW, CollectorSettings())
    body = framing.frame(request, request.SerializeToString(), window, "acme", KEEPS_CONTENT)
    return b"".join(row.framed() for row in body.rows)


def test_a_new_server_gets_the_whole_schema_and_a_second_start_changes_nothing(clickhouse):
    for _ in range(2):
        store = Store.open(clickhouse.location)
        names = store.frame_of("SELECT name FROM schema_migrations FINAL ORDER BY name")["name"].to_list()
        store.close()
        assert names == [migration.name for migration in all_migrations()]


def test_the_schema_and_the_rows_outlive_a_killed_server(clickhouse, store):
    request = trace_request(3)
    otlp.insert_spans(store, framed(request), "token")
    clickhouse.kill()
    with pytest.raises(StoreUnavailableError, match="did not answer"):
        store.ping()
    clickhouse.start()
    assert span_ids(store) == sent_ids(request)


def test_a_token_makes_a_second_insert_of_the_same_block_do_nothing(store):
    block = framed(trace_request(3))
    for _ in range(2):
        otlp.insert_spans(store, block, "token")
    assert store.frame_of("SELECT count() AS spans FROM spans")["spans"][0] == 3
    assert store.frame_of("SELECT sum(batches) AS batches FROM dirty_hours")["batches"][0] == 1


def test_a_refusal_carries_the_servers_code(store):
    with pytest.raises(QueryError) as refused:
        store.insert_block(otlp.TABLE, b"\x05hello", "Protobuf", otlp.schema_settings(store.location))
    assert refused.value.code > 0
    with pytest.raises(QueryError) as refused:
        store.frame_of("SELECT nothing FROM spans")
    assert refused.value.code == 47


def test_frames_and_parameters_go_both_ways_unchanged(store):
    store.execute("CREATE TABLE told (name String, at DateTime64(9, 'UTC'), usd Decimal(18, 12)) ENGINE = Memory")
    frame = pl.DataFrame({"name": ["it's\ta\\path\n"], "at": [NOW], "usd": ["0.000000000001"]}).with_columns(
        pl.col("at").dt.cast_time_unit("ns"), pl.col("usd").cast(pl.Decimal(18, 12))
    )
    store.insert("told", frame)
    found = store.frame_of(
        "SELECT * FROM told WHERE name = {name:String} AND at = {at:DateTime64(9)}",
        {"name": frame["name"][0], "at": NOW},
    )
    assert found.to_dicts() == frame.to_dicts()


def test_a_server_that_hangs_is_waited_for_and_one_that_is_gone_is_not(clickhouse, store):
    clickhouse.pause()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(store.ping()))
    asking.start()
    asking.join(timeout=0.3)
    assert asking.is_alive()
    clickhouse.resume()
    asking.join(timeout=WAIT_S)
    assert len(answers) == 1
    clickhouse.stop()
    with pytest.raises(StoreUnavailableError):
        store.ping()


def post(port: int, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
    status = connection.getresponse().status
    connection.close()
    return status


def port_of(server: Server) -> int:
    return int(server.url("http").rpartition(":")[2])


def wait_for_spans(store: Store, expected: set[str]) -> set[str]:
    """The stored ids, once they are as many as expected or time is up."""
    until = time.monotonic() + WAIT_S
    while len(stored := span_ids(store)) < len(expected) and time.monotonic() < until:
        time.sleep(0.1)
    return stored


def test_spans_reach_a_server_and_one_that_the_engine_refuses_leaves_its_neighbours(serving):
    now_ns = int(datetime.now(UTC).timestamp()) * 10**9
    sound = [trace_request(5, start_ns=now_ns) for _ in range(4)]
    odd = trace_request(1, start_ns=now_ns)
    bodies = [*(request.SerializeToString() for request in sound), refused_by_engine(odd)]
    senders = [threading.Thread(target=post, args=(port_of(serving), body)) for body in bodies]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    expected = sent_ids(*sound, odd)
    assert wait_for_spans(serving.store, expected) == expected


def test_senders_lose_nothing_while_the_server_is_killed_and_started_again(clickhouse, serving):
    """A sender keeps what is answered with 503 and sends it again, as OTLP says."""
    acknowledged: list[set[str]] = []
    enough = threading.Event()

    def send() -> None:
        start_ns = int(datetime.now(UTC).timestamp()) * 10**9
        while not enough.is_set():
            request = trace_request(5, start_ns=start_ns)
            while (status := post(port_of(serving), request.SerializeToString())) == 503:
                time.sleep(0.1)
            assert status == 200
            acknowledged.append(sent_ids(request))

    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    for _ in range(2):
        time.sleep(0.7)
        clickhouse.kill()
        time.sleep(0.7)
        clickhouse.start()
    time.sleep(1)
    enough.set()
    for sender in senders:
        sender.join()
    expected = set().union(*acknowledged)
    assert len(expected) > 5
    assert wait_for_spans(serving.store, expected) == expected
    copies = serving.store.frame_of("SELECT count() AS copies FROM spans WHERE service = 'shop'")["copies"][0]
    assert copies == len(expected)
