"""The command line: help that teaches, errors in one line, exit statuses that scripts can rely on."""

import json
import socket
import subprocess

import pytest

from app.cli import main
from storage import EmbeddedLocation, Store
from tests.alerts.fake_slack import FakeSlack
from tests.analytics.spans import Span, insert_spans
from tests.app.serving import ANY_PORT, pennytrace, serving

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 1,
}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in this process, as a user in an empty directory would."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["pennytrace", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code or 0, said.out, said.err)

    return run


def assert_one_clear_line(done, *parts):
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def test_help_lists_every_command_with_what_it_does(run):
    done = run("--help")
    assert done.returncode == 0
    for command in ("serve", "demo", "replay", "analyze", "report", "calls", "alerts", "dashboards", "settings"):
        assert command in done.stdout


def test_settings_are_listed_for_machines(run):
    listed = json.loads(run("settings", "--json").stdout)
    assert {"section": "schedule", "name": "interval_s"}.items() <= next(
        setting for setting in listed if setting["section"] == "schedule"
    ).items()


def test_an_unknown_trace_format_is_one_clear_line(run, tmp_path):
    (tmp_path / "trace.csv").write_text("a,b\n")
    assert_one_clear_line(run("replay", "trace.csv", "--format", "parquet"), "one of azure, mooncake, servegen, otlp")


def test_broken_toml_is_one_clear_line(run, tmp_path):
    (tmp_path / "pennytrace.toml").write_text("[server\n")
    assert_one_clear_line(run("serve"), "pennytrace.toml is not valid TOML", "line 1")


def test_a_port_in_use_is_one_clear_line(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--http", "--grpc", "--ui", "--sql"):
            others = [
                part for name in ("--http", "--grpc", "--ui", "--sql") if name != option for part in (name, ANY_PORT)
            ]
            done = run("serve", option, f"127.0.0.1:{port}", *others)
            assert_one_clear_line(done, f"port {port} on 127.0.0.1 is in use", f"{option} HOST:PORT")


def test_a_clickhouse_server_that_does_not_answer_is_one_clear_line(run):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    ports = ["--http", ANY_PORT, "--grpc", ANY_PORT, "--ui", ANY_PORT]
    done = run("serve", "--clickhouse", f"http://127.0.0.1:{port}", *ports, PENNYTRACE_STORAGE_WAIT_S="0")
    assert_one_clear_line(done, f"ClickHouse at http://127.0.0.1:{port} did not answer")


def test_a_wrong_slack_token_is_one_clear_line(run):
    with FakeSlack() as slack:
        wrong = {
            "PENNYTRACE_SLACK_TOKEN": "xoxb-wrong",
            "PENNYTRACE_SLACK_CHANNEL": "#costs",
            "PENNYTRACE_SLACK_BASE_URL": slack.base_url,
        }
        for command in (["alerts", "test"], ["serve"]):
            assert_one_clear_line(run(*command, **wrong), "invalid_auth", "correct PENNYTRACE_SLACK_TOKEN")


def test_a_slack_token_without_a_channel_is_one_clear_line(run):
    assert_one_clear_line(run("serve", PENNYTRACE_SLACK_TOKEN="xoxb-1"), "set channel")


def test_a_non_loopback_address_is_refused_unless_the_network_is_trusted(run):
    assert_one_clear_line(run("serve", "--ui", "0.0.0.0:0"), "--ui 0.0.0.0:0", "pennytrace keys new", "trust_network")


def test_a_collector_that_does_not_answer_is_one_clear_line(run, tmp_path):
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n")
    done = run("replay", "t.csv", "--format", "azure", "--endpoint", "http://127.0.0.1:9")
    assert_one_clear_line(done, "no collector answered at http://127.0.0.1:9", "pennytrace serve")


def test_a_report_without_any_data_directory_is_one_clear_line(run):
    assert_one_clear_line(run("report"), "no ledger in pennytrace-data", "pennytrace serve")


def test_a_server_that_does_not_answer_is_one_clear_line(run):
    assert_one_clear_line(run("report", "--url", "http://127.0.0.1:9"), "no Pennytrace server answered", "--url")
    assert_one_clear_line(run("report", PENNYTRACE_URL="http://127.0.0.1:9"), "no Pennytrace server answered")


def test_a_data_directory_in_use_is_refused_to_a_second_server_and_read_through_the_first(tmp_path):
    def run(*arguments):
        return pennytrace(*arguments, cwd=tmp_path)

    with serving(tmp_path, "--data", tmp_path / "data") as server:
        ports = [part for name in ("--http", "--grpc", "--ui", "--sql") for part in (name, ANY_PORT)]
        second = run("serve", "--data", tmp_path / "data", *ports)
        assert_one_clear_line(second, f"is in use by process {server.process.pid}", f"--url {server.ui}")
        asked = run("report", "--data", tmp_path / "data", "--json")
        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout)["totals"]["requests"] == 0


def test_a_reading_command_makes_nothing_in_a_directory_that_is_no_ledger(run, tmp_path):
    (tmp_path / "typo").mkdir()
    assert_one_clear_line(run("report", "--data", "typo"), "no ledger in typo")
    assert list((tmp_path / "typo").iterdir()) == []


def test_an_argument_beats_the_environment_for_where_the_ledger_is(run, tmp_path):
    Store.open(EmbeddedLocation(tmp_path / "data")).close()
    for name in ("PENNYTRACE_URL", "PENNYTRACE_STORAGE_CLICKHOUSE"):
        done = run("report", "--data", "data", "--json", **{name: "http://127.0.0.1:9"})
        assert json.loads(done.stdout)["totals"]["requests"] == 0
    both = run("report", "--data", "data", "--clickhouse", "http://127.0.0.1:9")
    assert_one_clear_line(both, "--data or --clickhouse, got both")


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/nowhere"])
def test_a_data_directory_that_cannot_be_is_one_clear_line(run, path):
    ports = [part for name in ("--http", "--grpc", "--ui", "--sql") for part in (name, ANY_PORT)]
    assert_one_clear_line(run("serve", "--data", path, *ports), f"cannot use {path} as a data directory")


def test_toml_that_is_not_utf_8_is_one_clear_line(run, tmp_path):
    (tmp_path / "pennytrace.toml").write_bytes(b"[server]\nhttp = '\xff'\n")
    assert_one_clear_line(run("serve"), "pennytrace.toml is not valid TOML")


def test_names_with_brackets_are_printed_as_they_are(run, tmp_path):
    store = Store.open(EmbeddedLocation(tmp_path / "data"))
    insert_spans(
        store, [Span(name, CALL | {"pennytrace.endpoint": name}, trace=name) for name in ("/users/[id]", "/x[/y]")]
    )
    store.close()
    assert run("analyze", "--data", "data").returncode == 0
    for command in (["report"], ["calls"]):
        shown = run(*command, "--data", "data")
        assert shown.returncode == 0, shown.stderr
        assert "/users/[id]" in shown.stdout
        assert "/x[/y]" in shown.stdout


def test_an_unknown_dimension_is_refused_with_the_known_ones(tmp_path, run):
    Store.open(EmbeddedLocation(tmp_path / "data")).close()
    done = run("report", "--data", tmp_path / "data", "--by", "colour")
    assert_one_clear_line(done, "'colour'", "endpoint", "tenant")


def test_a_wrong_time_is_refused_with_examples(run):
    assert_one_clear_line(run("report", "--since", "yesterday"), "'yesterday'", "7d")


def test_the_demo_does_not_delete_a_directory_that_is_not_its_own(tmp_path, run):
    Store.open(EmbeddedLocation(tmp_path / "ledger")).close()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for directory in ("ledger", "mine"):
        kept = sorted((tmp_path / directory).iterdir())
        assert_one_clear_line(run("demo", "--data", directory, "--exit"), "was not made by the demo")
        assert sorted((tmp_path / directory).iterdir()) == kept
