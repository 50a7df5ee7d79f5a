"""Keys and certificates on every port of the real server, and what it says when they are wrong."""

import base64
import json
import logging
import socket
import threading
import time
import tomllib

import clickhouse_connect
import grpc
import httpx2
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

from app.errors import CommandError
from app.keys_cli import stanza
from app.server import Server
from app.settings import ServerSettings, load_settings
from app.tls import load_tls
from app.waiting import open_store
from collector.keys import Key, digest, presented
from storage import EmbeddedLocation, ServerLocation, StoreError, StoreUnavailableError
from tests.app.certificate import make_certificate
from tests.app.serving import ANY_PORT, pennytrace, serving
from tests.app.test_server import send

WRITER, READER, ADMIN = "pt_writer", "pt_reader", "pt_admin"
KEYS = "".join(
    f'[[keys]]\nname = "{name}"\nsha256 = "{digest(secret)}"\ntenant = "{tenant}"\nscopes = {scopes}\n'
    for name, secret, tenant, scopes in (
        ("writer", WRITER, "acme", '["write"]'),
        ("reader", READER, "", '["read"]'),
        ("admin", ADMIN, "", '["read", "admin"]'),
    )
)
UI_PATHS = ("/", "/static/page.js", "/api/report", "/api/calls", "/api/incidents", "/api/panels", "/api/filters")


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def basic(user, password):
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with keys, all of its ports on every address of this machine."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "pennytrace.toml").write_text(KEYS)
    with serving(directory, "--data", "data", "--http", "0.0.0.0:0", "--ui", "0.0.0.0:0") as server:
        server.directory = directory
        server.ui = server.ui.replace("0.0.0.0", "127.0.0.1")
        server.http = server.http.replace("0.0.0.0", "127.0.0.1")
        yield server


@pytest.mark.parametrize("path", [*UI_PATHS, "/metrics", "/openapi.json", "/nowhere"])
def test_reading_needs_a_key_with_the_scope_read(guarded, path):
    refused = httpx2.get(guarded.ui + path)
    assert (refused.status_code, len(refused.headers.get_list("www-authenticate"))) == (401, 2)
    assert httpx2.get(guarded.ui + path, headers=bearer(WRITER)).status_code == 403
    allowed = [bearer(READER), basic("", READER), basic("anyone", READER), {"x-api-key": READER}]
    assert {httpx2.get(guarded.ui + path, headers=each).status_code for each in allowed} <= {200, 404}


def test_changing_anything_needs_a_key_with_the_scope_admin(guarded):
    url = guarded.ui + "/api/analyze"
    statuses = [httpx2.post(url, headers=each).status_code for each in ({}, bearer(WRITER), bearer(READER))]
    assert statuses == [401, 403, 403]
    assert httpx2.post(url, headers=bearer(ADMIN), timeout=60).status_code == 200


def test_health_needs_no_key_and_tells_nothing_that_is_anybodys(guarded):
    assert httpx2.get(guarded.ui + "/healthz").json() == {"status": "ok"}
    ready = httpx2.get(guarded.ui + "/readyz").json()
    assert (ready["status"], ready["store"]) == ("ok", "up")
    assert set(ready["journal"]) == {"bytes", "segments", "age_s"}


def test_exporters_write_for_the_tenant_of_their_key(guarded):
    send(HttpExporter(guarded.http + "/v1/traces", headers=bearer(WRITER)), "keyed-http")
    send(GrpcExporter(guarded.grpc, insecure=True, headers=(("x-api-key", WRITER),)), "keyed-grpc")
    done = pennytrace("analyze", "--url", guarded.ui, cwd=guarded.directory, PENNYTRACE_KEY=ADMIN)
    assert done.returncode == 0, done.stderr
    asked = ["report", "--url", guarded.ui, "--by", "service,tenant", "--json"]
    rows = json.loads(pennytrace(*asked, "--key", READER, cwd=guarded.directory).stdout)["rows"]
    # Another test may have replayed a trace.
    assert {("keyed-http", "acme"), ("keyed-grpc", "acme")} <= {(row["service"], row["tenant"]) for row in rows}


def test_the_command_line_says_how_to_give_a_key(guarded):
    for environment in ({}, {"PENNYTRACE_KEY": "pt_wrong"}, {"PENNYTRACE_KEY": WRITER}):
        done = pennytrace("report", "--url", guarded.ui, cwd=guarded.directory, **environment)
        assert done.returncode == 1
        assert "PENNYTRACE_KEY" in done.stderr
        assert "pt_wrong" not in done.stderr


def test_a_replay_sends_its_key(guarded, tmp_path):
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2026-01-02 03:04:05.0,7,7\n")
    command = ["replay", "t.csv", "--format", "azure", "--endpoint", guarded.http]
    assert "401" in pennytrace(*command, cwd=tmp_path).stderr
    assert pennytrace(*command, cwd=tmp_path, PENNYTRACE_KEY=WRITER).returncode == 0


def test_sql_takes_a_key_as_password_or_as_a_header(guarded):
    ask = guarded.sql + "/?query=SELECT+count()+FROM+calls"
    given = [basic("any", READER), bearer(READER), {"x-clickhouse-user": "x", "x-clickhouse-key": READER}]
    assert [httpx2.get(ask, headers=each).status_code for each in [*given, {"x-api-key": READER}]] == [200] * 4
    refused = httpx2.get(ask)
    assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (401, "194")
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert httpx2.get(ask, headers=bearer("pt_wrong")).status_code == 401
    assert httpx2.get(ask, headers=bearer(WRITER)).status_code == 403


def test_no_key_is_logged(tmp_path):
    (tmp_path / "pennytrace.toml").write_text(KEYS)
    with serving(tmp_path, "--data", "data") as server:
        for key in (WRITER, READER, ADMIN, "pt_wrong"):
            for given in (bearer(key), basic("any", key), {"x-api-key": key}):
                httpx2.get(server.ui + "/api/report", headers=given)
                httpx2.get(server.sql + "/?query=SELECT+garbage", headers=given)
                httpx2.post(server.http + "/v1/traces", content=b"garbage", headers=given)
            httpx2.post(server.ui + "/api/analyze", headers=bearer(key), timeout=60)
            with grpc.insecure_channel(server.grpc) as channel:
                export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
                asked = export.future(b"garbage", metadata=(("x-api-key", key),), timeout=10)
                assert asked.exception() is not None
    assert "job finished" in server.stderr
    assert "pt_" not in server.stderr


def test_refusals_and_connections_are_counted_by_port(guarded):
    httpx2.get(guarded.ui + "/api/report", headers=bearer("pt_wrong"))
    metrics = httpx2.get(guarded.ui + "/metrics", headers=bearer(READER)).text
    assert 'pennytrace_refused_requests_total{listener="ui",reason="unauthenticated"}' in metrics
    assert 'pennytrace_open_connections{listener="http"}' in metrics
    assert 'pennytrace_answered_requests_total{listener="ui"}' in metrics
    assert 'pennytrace_reading_bytes{listener="grpc"} 0.0' in metrics
    assert "pennytrace_journal_age_seconds" in metrics


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def test_every_port_speaks_tls_with_the_certificate(tmp_path, certificate, monkeypatch):
    chain, key = certificate
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they would beat the exporter's own certificate_file
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pennytrace.toml").write_text(f'[server]\ntls_certificate = "{chain}"\ntls_key = "{key}"\n')
    with serving(tmp_path, "--data", "data") as server:
        assert {url.partition("://")[0] for url in (server.http, server.grpc, server.ui, server.sql)} == {"https"}
        send(HttpExporter(server.http + "/v1/traces", certificate_file=str(chain)), "tls-http")
        roots = grpc.ssl_channel_credentials(chain.read_bytes())
        send(GrpcExporter(server.grpc, credentials=roots), "tls-grpc")
        trusting = {"SSL_CERT_FILE": str(chain)}
        assert pennytrace("analyze", "--url", server.ui, cwd=tmp_path, **trusting).returncode == 0
        rows = json.loads(
            pennytrace("report", "--by", "service", "--json", "--data", "data", cwd=tmp_path, **trusting).stdout
        )
        assert {row["service"] for row in rows["rows"]} == {"tls-http", "tls-grpc"}
        port = int(server.sql.rpartition(":")[2])
        with clickhouse_connect.get_client(host="localhost", port=port, secure=True, ca_cert=str(chain)) as client:
            assert client.raw_query("SELECT 1") == b"1\n"
        untrusting = pennytrace("report", "--url", server.ui, cwd=tmp_path)
        assert f"the certificate of {server.ui} is not trusted" in untrusting.stderr


def test_certificate_files_that_cannot_be_used_are_one_clear_error_before_any_port_opens(tmp_path, certificate):
    chain, key = certificate
    _, other = make_certificate(tmp_path, "other")
    (tmp_path / "garbage.pem").write_text("not a certificate")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    for files, complaint in (
        ((tmp_path / "missing.pem", key), "missing.pem.*no such file"),
        ((chain, tmp_path), "tls_key.*is a directory"),
        ((chain, other), "key values mismatch"),
        ((tmp_path / "garbage.pem", key), "certificate chain in PEM"),
        ((chain, encrypted), "unencrypted private key"),
    ):
        with pytest.raises(CommandError, match=complaint):
            load_tls(ServerSettings(tls_certificate=files[0], tls_key=files[1]))
    assert load_tls(ServerSettings()) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[server]\ntls_key = 'server.key'\n", "both tls_certificate and tls_key"),
        ("[server]\ncors_origins = ['example.com']\n", "origins such as https"),
        ("[server]\ncors_origins = ['https://example.com/']\n", "without a path"),
        (KEYS + KEYS, "a name of its own for every key.*'writer'"),
        (KEYS.replace('"read", ', '"wrong", '), "'write', 'read' or 'admin'"),
        ("[[keys]]\nname = 'a'\nscopes = ['write']\nsha256 = 'pt_not-a-hash-but-a-key'\n", r"PENNYTRACE_KEYS\)"),
        (KEYS.replace(digest(WRITER), digest("")), "got that of nothing"),
    ],
)
def test_wrong_settings_are_refused_without_repeating_a_key(tmp_path, monkeypatch, text, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pennytrace.toml").write_text(text)
    with pytest.raises(CommandError, match=complaint) as refused:
        load_settings()
    assert "pt_not-a-hash" not in str(refused.value)


@pytest.mark.parametrize("given", [("", ""), ("Bearer ", ""), ("Bearer", " "), ("Basic Og==", ""), ("Basic YTo=", "")])
def test_an_empty_key_is_none(given):
    assert presented(*given) == []


@pytest.mark.parametrize("name", ["api 😀", 'a"b', "del\x7f", "tab\t\\", "é"])
def test_a_key_of_any_name_is_read_back(name):
    key = Key(name=name, sha256=digest("x"), tenant=name, scopes=("write",))
    (table,) = tomllib.loads(stanza(key))["keys"]
    assert Key(**table) == key


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ({"sql": {"password": "p"}, "server": {"sql": "0.0.0.0:1"}}, ""),
        ({"server": {"sql": "0.0.0.0:1"}}, "--sql"),
        ({"server": {"sql": "0.0.0.0:1"}, "storage": {"clickhouse": "http://127.0.0.1:9", "wait_s": 0}}, ""),
        ({"sql": {"password": "p"}, "server": {"ui": "0.0.0.0:1"}}, "--ui"),
    ],
)
def test_only_ports_that_are_open_to_others_without_a_secret_are_refused(tmp_path, monkeypatch, arguments, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("")  # not a folder: nothing starts
    storage = {"data": tmp_path / "data" / "none", **arguments.get("storage", {})}
    settings = load_settings(None, {**arguments, "storage": storage})
    with pytest.raises((CommandError, StoreError)) as error:
        Server(settings, print)
    assert (f"{refused} 0.0.0.0:1 can be reached" in str(error.value)) == bool(refused)


def test_keys_are_made_listed_and_read_back(tmp_path):
    made = pennytrace("keys", "new", "--name", 'we"b', "--tenant", "acme", cwd=tmp_path)
    secret, _, rest = made.stdout.partition("\n")
    (tmp_path / "pennytrace.toml").write_text(rest[rest.index("[[keys]]") :])
    assert digest(secret) in (tmp_path / "pennytrace.toml").read_text()
    assert secret not in rest
    listed = json.loads(pennytrace("keys", "list", "--json", cwd=tmp_path).stdout)
    assert listed == [{"name": 'we"b', "tenant": "acme", "scopes": ["write"]}]
    as_json = json.loads(pennytrace("keys", "new", "--name", "b", "--scope", "read", "--json", cwd=tmp_path).stdout)
    assert (as_json["sha256"], as_json["scopes"]) == (digest(as_json["key"]), ["read"])


def test_a_store_that_is_late_is_waited_for_and_one_that_stays_away_is_not(tmp_path, caplog):
    for name in ("urllib3", "clickhouse_connect"):
        caplog.set_level(logging.CRITICAL, name)
    caplog.set_level(logging.WARNING, "app.waiting")
    with pytest.raises(StoreUnavailableError):
        open_store(ServerLocation("http://127.0.0.1:9"), 0)
    assert caplog.records == []
    waits = []
    with pytest.raises(StoreUnavailableError):
        open_store(ServerLocation("http://127.0.0.1:9"), 0.3, lambda seconds: (waits.append(seconds), time.sleep(0.1)))
    assert waits
    assert {record.message for record in caplog.records} == {"the store does not answer yet"}
    open_store(EmbeddedLocation(tmp_path / "data"), 60).close()


def test_no_port_is_open_while_the_store_is_waited_for(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ports = ["--http", f"127.0.0.1:{port}", "--grpc", ANY_PORT, "--ui", ANY_PORT]
    command = ["serve", "--clickhouse", "http://127.0.0.1:9", *ports]
    ended = []
    waiting = threading.Thread(
        target=lambda: ended.append(pennytrace(*command, cwd=tmp_path, PENNYTRACE_STORAGE_WAIT_S="4"))
    )
    waiting.start()
    while waiting.is_alive():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        time.sleep(0.05)
    (done,) = ended
    assert done.returncode == 1
    assert done.stderr.count("the store does not answer yet") >= 1
    assert done.stderr.splitlines()[-1].startswith("error: ClickHouse at http://127.0.0.1:9 did not answer")
