"""The SQL endpoint as clients see it: protocol, parameters, formats, errors, logins."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import clickhouse_connect
import polars as pl
import pytest
import uvicorn
from fastapi.testclient import TestClient

from storage import EmbeddedLocation, ServerLocation, Store
from storage.sql_endpoint import Limits, create_sql_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

THIS_MACHINE = ("127.0.0.1", 50_000)
LIMITS = Limits(max_execution_time=2, max_result_rows=5000, max_query_size=10_000, max_memory_usage=200_000_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("sql")))
    store.insert("incidents", pl.DataFrame({"incident_key": ["a", "b"], "title": ["it's", "日本"]}))
    yield store
    store.close()


@pytest.fixture(scope="module")
def app(store: Store) -> Iterator[FastAPI]:
    app = create_sql_app(store, "secret", LIMITS)
    with TestClient(app):  # runs the application's start and shutdown, which closes its handles
        yield app


@pytest.fixture(scope="module")
def client(app: FastAPI) -> TestClient:
    return TestClient(app, headers={"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "secret"})


def test_every_table_is_read_but_the_one_that_decodes_and_those_that_views_stand_before(
    client: TestClient, store: Store
) -> None:
    made = store.frame_of(
        "SELECT name FROM system.tables WHERE database = 'pennytrace' AND engine NOT IN ('MaterializedView', 'Null') "
        "AND name NOT LIKE '%_by_generation'"
    )["name"].to_list()
    assert {"log_records", "dropped_partitions", "calls"} <= set(made)
    for table in made:
        answer = client.post("/", content=f"SELECT count() FROM {table}")
        assert answer.status_code == 200, answer.text
    listed = (Path(__file__).parents[3] / "docs" / "dashboards.md").read_text().partition("tables of Pennytrace: `")[2]
    assert set(listed.partition("`")[0].split()) == set(made)


def test_a_select_answers_in_the_format_it_names(client: TestClient) -> None:
    answer = client.post("/", content="SELECT incident_key AS k FROM incidents ORDER BY k FORMAT JSONEachRow")
    assert [json.loads(line) for line in answer.text.splitlines()] == [{"k": "a"}, {"k": "b"}]
    assert answer.headers["x-clickhouse-format"] == "JSONEachRow"


def test_the_format_may_come_from_the_address_or_a_header(client: TestClient) -> None:
    sql = "SELECT title FROM pennytrace.incidents ORDER BY incident_key"
    assert client.get("/", params={"query": sql}).text == "it\\'s\n日本\n"
    assert client.get("/", params={"query": sql, "default_format": "CSV"}).text == '"it\'s"\n"日本"\n'
    by_header = client.post("/", content=sql, headers={"X-ClickHouse-Format": "JSONCompact"})
    assert by_header.json()["data"] == [["it's"], ["日本"]]
    assert by_header.headers["content-type"] == "application/json; charset=UTF-8"


def test_the_statement_may_be_split_between_address_and_body(client: TestClient) -> None:
    assert client.post("/", params={"query": "SELECT 1 +"}, content="1").text == "2\n"


def test_a_form_content_type_does_not_make_the_body_a_form(client: TestClient) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/", content="SELECT 'a=b&c'", headers=headers).text == "a=b&c\n"


@pytest.mark.parametrize(
    ("kind", "value", "answer"),
    [
        ("String", "it's %(x)s {x:String}", "it\\'s %(x)s {x:String}"),
        ("String", "a\\tb", "a\\tb"),
        ("UInt8", "3", "3"),
        ("Array(String)", "['a','b\\'c']", "['a','b\\'c']"),
        ("DateTime64(3, 'UTC')", "2026-03-01 12:00:00", "2026-03-01 12:00:00.000"),
        ("Nullable(String)", "\\N", "\\N"),
    ],
)
def test_parameters_are_values(client: TestClient, kind: str, value: str, answer: str) -> None:
    given = client.post("/", params={"param_x": value}, content=f"SELECT {{x:{kind}}}")
    assert given.text == f"{answer}\n"


def test_comments_and_a_closing_semicolon_do_no_harm(client: TestClient) -> None:
    assert client.post("/", content="/* a; b */ SELECT 1 -- ; DROP TABLE calls\n;").text == "1\n"


def test_an_empty_answer_still_names_its_columns(client: TestClient) -> None:
    answer = client.post("/", content="SELECT incident_key FROM incidents WHERE 0 FORMAT JSON").json()
    assert answer["meta"] == [{"name": "incident_key", "type": "String"}]
    assert answer["rows"] == 0


def test_ping_and_an_empty_statement_say_ok(client: TestClient) -> None:
    assert client.get("/ping").text == "Ok.\n"
    assert client.get("/").text == "Ok.\n"


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELEC 1", 62, 400),
        ("SELECT a FROM nothing", 60, 404),
        ("SELECT nothing FROM calls", 47, 404),
        ("SELECT {x:UInt8}", 456, 400),
        ("SELECT 1 FORMAT Nonsense", 73, 500),
        ("SELECT 1" + " " * 10_000, 552, 413),
    ],
)
def test_an_error_has_clickhouses_code_and_shape(client: TestClient, sql: str, code: int, status: int) -> None:
    answer = client.post("/", content=sql)
    assert answer.status_code == status
    assert answer.headers["x-clickhouse-exception-code"] == str(code)
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")


def test_an_unknown_database_is_an_error(client: TestClient) -> None:
    assert client.get("/", params={"query": "SELECT 1", "database": "system"}).status_code == 404
    assert client.get("/", params={"query": "SELECT 1", "database": "default"}).text == "1\n"


@pytest.mark.parametrize("name", ["max_threads", "additional_table_filters", "user", "format_schema", "log_comment"])
def test_settings_in_the_address_are_refused(client: TestClient, name: str) -> None:
    answer = client.get("/", params={"query": "SELECT 1", name: "1"})
    assert answer.headers["x-clickhouse-exception-code"] == "164"


def test_settings_of_the_transport_are_taken(client: TestClient) -> None:
    query = {"query": "SELECT 1", "max_execution_time": "5", "wait_end_of_query": "1", "readonly": "0", "compress": "0"}
    assert client.get("/", params=query).text == "1\n"


def test_compressed_bodies_and_forms_are_refused_in_words(client: TestClient) -> None:
    assert "plain" in client.post("/", content=b"x", headers={"content-encoding": "gzip"}).text
    assert "form" in client.post("/", files={"query": b"SELECT 1"}).text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-ClickHouse-User": "reader"},
        {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "wrong"},
        {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "secret"},
        {"X-ClickHouse-Key": "secret"},
        {"Authorization": "Basic " + base64.b64encode(b"reader:wrong").decode()},
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()},
        {"Authorization": "Bearer secret"},
        {"X-ClickHouse-User": "reader", "Authorization": "Basic " + base64.b64encode(b"reader:secret").decode()},
    ],
)
def test_a_wrong_login_is_refused(app: FastAPI, headers: dict[str, str]) -> None:
    answer = TestClient(app, client=THIS_MACHINE).get("/", params={"query": "SELECT 1"}, headers=headers)
    assert answer.status_code == 403
    assert answer.headers["x-clickhouse-exception-code"] == "516"
    assert "secret" not in answer.text


def test_basic_logins_work_too(app: FastAPI) -> None:
    assert TestClient(app).get("/", params={"query": "SELECT 1"}, auth=("reader", "secret")).text == "1\n"


def test_without_a_password_only_this_machine_is_answered(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        app = create_sql_app(store, None)
    assert "no password" in caplog.text
    with TestClient(app, base_url="http://localhost:8123", client=THIS_MACHINE) as here:
        assert here.get("/", params={"query": "SELECT 1"}).text == "1\n"
    elsewhere = TestClient(app, base_url="http://localhost:8123", client=("192.0.2.7", 1))
    assert elsewhere.get("/", params={"query": "SELECT 1"}).status_code == 403
    rebound = TestClient(app, base_url="http://attacker.example:8123", client=THIS_MACHINE)
    assert rebound.get("/", params={"query": "SELECT 1"}).status_code == 403


def test_a_store_on_a_server_has_no_endpoint_of_ours() -> None:
    remote = Store(ServerLocation("http://127.0.0.1:1"))
    with pytest.raises(ValueError, match="ask that server itself"):
        create_sql_app(remote, None)


def test_clickhouse_connect_reads_through_the_endpoint(app: FastAPI, client: TestClient) -> None:
    assert client.get("/ping").status_code == 200
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        driver = clickhouse_connect.get_client(
            host="127.0.0.1",
            port=listener.getsockname()[1],
            username="reader",
            password="secret",
            database="pennytrace",
        )
        answer = driver.query("SELECT incident_key, title FROM incidents WHERE title = {t:String}", {"t": "it's"})
        assert answer.result_rows == [("a", "it's")]
        with pytest.raises(clickhouse_connect.driver.exceptions.DatabaseError, match="497"):
            driver.query("SELECT * FROM system.users")
        driver.close()
        server.should_exit = True
        thread.join()
