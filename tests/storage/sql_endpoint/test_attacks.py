"""Statements that must not get through, case by case, and honest ones that must."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import polars as pl
import pytest
from fastapi.testclient import TestClient

from storage import EmbeddedLocation, Store
from storage.sql_endpoint import Limits, create_sql_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = Limits(max_execution_time=2, max_result_rows=1000, max_result_bytes=10_000_000, max_memory_usage=200_000_000)

ATTACKS = {
    "insert": "INSERT INTO incidents (incident_key) VALUES ('x')",
    "insert select": "INSERT INTO incidents (incident_key) SELECT 'x'",
    "with insert": "WITH x AS (SELECT 'x') INSERT INTO incidents (incident_key) SELECT * FROM x",
    "update": "ALTER TABLE incidents UPDATE title = '' WHERE 1",
    "delete": "DELETE FROM incidents WHERE 1",
    "create": "CREATE TABLE t (a Int8) ENGINE = Memory",
    "create file table": "CREATE TABLE t (a Int8) ENGINE = File(CSV)",
    "create function": "CREATE FUNCTION f AS x -> x",
    "create user": "CREATE USER u",
    "drop": "DROP TABLE incidents",
    "truncate": "TRUNCATE TABLE incidents",
    "rename": "RENAME TABLE incidents TO gone",
    "optimize": "OPTIMIZE TABLE incidents FINAL",
    "attach": "ATTACH DATABASE other",
    "system": "SYSTEM SHUTDOWN",
    "kill": "KILL QUERY WHERE 1",
    "set": "SET readonly = 0",
    "use": "USE system",
    "backup": "BACKUP DATABASE pennytrace TO File('/tmp/backup')",
    "grant": "GRANT ALL ON *.* TO reader",
    "explain": "EXPLAIN SELECT 1",
    "show": "SHOW TABLES FROM system",
    "show create": "SHOW CREATE TABLE spans",
    "describe function": "DESCRIBE TABLE file('/etc/passwd', 'LineAsString')",
    "two statements": "SELECT 1; SELECT 2",
    "drop behind a comment": "SELECT 1 /* ; */ ; DROP TABLE incidents",
    "drop behind a line comment": "SELECT 1 --\n; DROP TABLE incidents",
    "parallel": "SELECT 1 PARALLEL WITH DROP TABLE incidents",
    "into outfile": "SELECT 1 INTO OUTFILE '{folder}/written'",
    "into outfile with format": "SELECT 1 INTO OUTFILE '{folder}/written' FORMAT CSV",
    "into outfile in a union": "SELECT 1 UNION ALL SELECT 2 INTO OUTFILE '{folder}/written' FORMAT CSV",
    "into outfile upside down": "sElEcT 1 /**/ iNtO /**/ oUtFiLe '{folder}/written'",
    "scalar file": "SELECT file('/etc/hostname')",
    "scalar file in quotes": "SELECT `file`('/etc/hostname')",
    "scalar file in a default": "SELECT file('/nothing', 'default')",
    "file table": "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "file table in a subquery": "SELECT (SELECT count() FROM file('/etc/passwd', 'LineAsString'))",
    "file table in IN": "SELECT 1 IN (SELECT 1 FROM file('/etc/passwd', 'LineAsString'))",
    "file table in WITH": "WITH x AS (SELECT * FROM file('/etc/passwd', 'LineAsString')) SELECT * FROM x",
    "file table in a join": "SELECT 1 FROM calls, file('/etc/passwd', 'LineAsString')",
    "file as a transformer": "SELECT * APPLY(file) FROM (SELECT '/etc/hostname')",
    "file in a transformer's lambda": "SELECT * APPLY(x -> file(x)) FROM (SELECT '/etc/hostname')",
    "file in a replacement": "SELECT * REPLACE (file('/etc/hostname') AS title) FROM incidents",
    "file in a lambda": "SELECT arrayMap(x -> file(x), ['/etc/hostname'])",
    "file in an interpolation": "SELECT 1 AS a, '' AS b ORDER BY a WITH FILL TO 3 "
    "INTERPOLATE (b AS file('/etc/hostname'))",
    "file in a window": "SELECT sum(1) OVER (PARTITION BY file('/etc/hostname')) FROM calls",
    "file in LIMIT BY": "SELECT 1 FROM calls LIMIT 1 BY file('/etc/hostname')",
    "file from the pipe": "FROM file('/etc/passwd', 'LineAsString') SELECT *",
    "url": "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "s3": "SELECT * FROM s3('http://127.0.0.1:1/b/k', 'LineAsString')",
    "remote": "SELECT * FROM remote('127.0.0.1:1', 'system.one')",
    "remote secure": "SELECT * FROM remoteSecure('127.0.0.1:1', 'system.one')",
    "cluster": "SELECT * FROM cluster('default', 'system.one')",
    "mysql": "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "postgresql": "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "sqlite": "SELECT * FROM sqlite('/tmp/x.db', 't')",
    "executable": "SELECT * FROM executable('id', 'LineAsString', 'a String')",
    "python": "SELECT * FROM Python(os)",
    "merge": "SELECT * FROM merge('system', '.*')",
    "loop": "SELECT * FROM loop(system.one)",
    "view": "SELECT * FROM view(SELECT * FROM system.one)",
    "explain as a table": "SELECT * FROM (EXPLAIN SELECT 1)",
    "show as a table": "SELECT * FROM (SHOW TABLES FROM system)",
    "dictionary": "SELECT dictGet('d', 'a', 1)",
    "join table": "SELECT joinGet('pennytrace.calls', 'model', 1)",
    "column of a far table": "SELECT hasColumnInTable('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "sleep": "SELECT sleep(1)",
    "sleep each row": "SELECT sleepEachRow(1) FROM calls",
    "setting": "SELECT getSetting('max_threads')",
    "macro": "SELECT getMacro('x')",
    "host name": "SELECT hostName()",
    "free space": "SELECT filesystemAvailable()",
    "model": "SELECT catboostEvaluate('/etc/passwd', 1)",
    "machine learning": "SELECT evalMLMethod(1, 2)",
    "artificial intelligence": "SELECT aiGenerate('x', 'y')",
    "callback": "SELECT chdb('SELECT 1')",
    "symbols": "SELECT addressToLine(1)",
    "system users": "SELECT * FROM system.users",
    "system processes": "SELECT * FROM system.processes",
    "system tables": "SELECT create_table_query FROM system.tables",
    "system in quotes": 'SELECT * FROM "system"."tables"',
    "system settings with more": "SELECT name, value, readonly FROM system.settings LIMIT 10001",
    "system in a subquery": "SELECT (SELECT count() FROM system.tables)",
    "system in a dead branch": "SELECT if(1, 1, (SELECT count() FROM system.tables))",
    "system in EXISTS": "SELECT EXISTS (SELECT 1 FROM system.tables)",
    "system in IN": "SELECT 'a' IN (SELECT name FROM system.tables)",
    "system as the right side of IN": "SELECT ('a', 'b') IN system.contributors",
    "system one column IN": "SELECT 'a' IN system.contributors",
    "system in a union": "SELECT 'a' UNION ALL SELECT name FROM system.tables",
    "system in INTERSECT": "SELECT 'a' INTERSECT SELECT name FROM system.tables",
    "system as an array join": "SELECT * FROM calls ARRAY JOIN (SELECT groupArray(name) FROM system.tables) AS x",
    "information schema": "SELECT * FROM information_schema.tables",
    "ingest table": "SELECT * FROM otlp_spans",
    "generations": "SELECT * FROM pennytrace.calls_by_generation",
    "generations in IN": "SELECT 1 IN calls_by_generation",
    "hidden by a common table expression": "SELECT (SELECT count() FROM calls_by_generation), "
    "(WITH calls_by_generation AS (SELECT 1) SELECT count() FROM calls_by_generation)",
    "recursion": "WITH RECURSIVE x AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM x) SELECT * FROM x",
    "settings": "SELECT 1 SETTINGS max_execution_time = 0",
    "settings behind the format": "SELECT 1 FORMAT CSV SETTINGS max_execution_time = 0",
    "settings in a subquery": "SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = 0)",
    "filters in settings": "SELECT * FROM calls "
    "SETTINGS additional_table_filters = {{'calls': 'file(\\'/etc/hostname\\') = 1'}}",
    "template format": "SELECT 1 FORMAT Template",
    "format of the embedding": "SELECT 1 FORMAT DataFrame",
    "closing parenthesis": "SELECT 1) UNION ALL (SELECT * FROM system.one",
    "unfinished string": "SELECT 'a",
    "unfinished comment": "SELECT 1 /* ",
    "null byte": "SELECT 1\0; DROP TABLE incidents",
    "heredoc": "SELECT $a$ $a$; DROP TABLE incidents; SELECT $b$ $b$",
    "nothing but a comment": "/* SELECT 1 */",
    "parameter as table": "SELECT * FROM {{t:Identifier}}",
    "deep nesting": "SELECT " + "(" * 3000 + "1" + ")" * 3000,
}  # fmt: skip

HONEST = {
    "no table": "SELECT 1",
    "sum": "SELECT sum(cost_usd) FROM cost_hourly WHERE hour >= now() - INTERVAL 7 DAY",
    "combinators": "SELECT sumIf(calls, calls > 1), uniqExactIf(model, 1), anyLastOrNull(model) FROM cost_hourly",
    "quantiles": "SELECT quantiles(0.5, 0.9)(duration_ns), countIf(error_type != '') FROM calls",
    "final": "SELECT title, arrayZip(drivers, driver_usd) FROM incidents FINAL ORDER BY opened_at DESC LIMIT 5",
    "database named": "SELECT count() FROM pennytrace.spans",
    "quoted": 'SELECT count() FROM "pennytrace"."spans"',
    "map": "SELECT attributes['gen_ai.request.model'] FROM spans",
    "with": "WITH x AS (SELECT endpoint, sum(cost_usd) AS c FROM cost_hourly GROUP BY endpoint) SELECT * FROM x",
    "with scalar": "WITH (SELECT max(hour) FROM cost_hourly) AS newest SELECT count() FROM calls WHERE hour = newest",
    "subquery": "SELECT * FROM (SELECT model FROM calls) WHERE model IN (SELECT model FROM cost_hourly)",
    "join": "SELECT count() FROM cost_hourly AS a LEFT JOIN deploys AS b USING (service, endpoint)",
    "window": "SELECT hour, sum(cost_usd) OVER (PARTITION BY endpoint ORDER BY hour) FROM cost_hourly",
    "window named": "SELECT row_number() OVER w FROM calls WINDOW w AS (ORDER BY started_at)",
    "union": "SELECT model FROM calls UNION DISTINCT SELECT model FROM cost_hourly",
    "except": "SELECT * EXCEPT (trace_id, span_id) FROM calls",
    "case": "SELECT CASE WHEN calls > 1 THEN 'many' ELSE 'one' END FROM cost_hourly",
    "lambda": "SELECT arrayMap(x -> x * 2, [1, 2]), arraySum(driver_usd) FROM findings",
    "fill": "SELECT toDate(hour) AS d, sum(calls) FROM cost_hourly GROUP BY d ORDER BY d WITH FILL STEP INTERVAL 1 DAY",
    "rollup": "SELECT endpoint, grouping(endpoint), sum(calls) FROM cost_hourly GROUP BY ROLLUP (endpoint)",
    "array join": "SELECT name, dollars FROM incidents ARRAY JOIN drivers AS name, driver_usd AS dollars",
    "aliases of functions": "SELECT SUBSTR('abc', 1, 2), LCASE('A'), DATE_TRUNC('day', now()), CEIL(1.5), any_value(1)",
    "casts": "SELECT '1'::UInt8, CAST('2' AS Decimal(18, 4)), toDecimal128(1, 12), now64(3)",
    "awkward strings": "SELECT 'INTO OUTFILE', ' FORMAT CSV', '; DROP', '--', '/*', 'it''s', '\\\\', 'a\nb'",
    "version": "SELECT version(), currentDatabase()",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("attacks")))
    store.insert("incidents", pl.DataFrame({"incident_key": ["a", "b"], "title": ["one", "two"]}))
    yield store
    store.close()


@pytest.fixture(scope="module")
def client(store: Store) -> Iterator[TestClient]:
    app = create_sql_app(store, "secret", LIMITS)
    with TestClient(app, headers={"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "secret"}) as client:
        yield client


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_changes_nothing(client: TestClient, store: Store, name: str, tmp_path: Path) -> None:
    sql = ATTACKS[name].replace("{folder}", str(tmp_path)).replace("{{", "{").replace("}}", "}")
    answer = client.post("/", content=sql, params={"param_t": "calls"})
    assert answer.status_code >= 400, answer.text
    # Refused for what it is, and not because it met a limit.
    assert answer.headers["x-clickhouse-exception-code"] not in {"159", "241", "396"}
    assert answer.text.startswith("Code: ")
    assert "root:" not in answer.text
    assert list(tmp_path.iterdir()) == []
    assert store.frame_of("SELECT count() AS n FROM incidents")["n"].to_list() == [2]


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_question_is_answered(client: TestClient, name: str) -> None:
    answer = client.post("/", content=HONEST[name])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("code", "sql"),
    [
        ("396", "SELECT a FROM (SELECT arrayJoin(range(2000)) AS a)"),
        ("396", "SELECT repeat('x', 1000000) FROM (SELECT arrayJoin(range(20)))"),
        ("241", "SELECT length(groupArray(randomPrintableASCII(1000))) FROM (SELECT arrayJoin(range(1000000)))"),
    ],
)
def test_a_statement_that_takes_too_much_is_stopped(client: TestClient, code: str, sql: str) -> None:
    assert client.post("/", content=sql).headers["x-clickhouse-exception-code"] == code


def test_a_statement_that_takes_too_long_is_stopped(client: TestClient) -> None:
    slow = (
        "SELECT count() FROM (SELECT arrayJoin(range(10000000)) AS a) AS x, (SELECT arrayJoin(range(100000)) AS b) AS y"
    )
    started = time.monotonic()
    answer = client.post("/", content=f"{slow} WHERE cityHash64(a, b) = 1")
    assert answer.headers["x-clickhouse-exception-code"] == "159"
    assert time.monotonic() - started < 10


def test_a_parameter_cannot_become_sql(client: TestClient) -> None:
    sql = "SELECT count() FROM incidents WHERE title = {x:String}"
    hostile = "one' OR 1=1 --"
    assert client.post("/", content=sql, params={"param_x": hostile}).text == "0\n"
    kept = client.post("/", content="SELECT '%(x)s', '{x:String}'", params={"param_x": "', file('/etc/hostname'), '"})
    assert kept.text == "%(x)s\t{x:String}\n"
