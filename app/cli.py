"""The command line. Each command parses, asks and prints; what it asks lives in the modules beside this one."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from alerts import AlertError, SlackUnavailableError, check_slack
from app import tables
from app.answers import Answers, SettableState, State, open_answers
from app.backtest_cli import backtest_usage
from app.demo.run import run_demo
from app.errors import CommandError
from app.keys_cli import keys_cli
from app.logs import log_to_stderr

# typer resolves the annotations.
from app.options import ApiKey, AsJson, ClickHouse, Config, Data, Incident, Since, Until, Url  # noqa: TC001
from app.progress import progress_bar
from app.replay.command import ReplayOptions, prepare, replay
from app.server import Server, utc_now, wait_for_stop
from app.settings import Settings, load_settings
from app.settings_page import describe_settings, settings_page
from app.timespan import parse_time
from app.traces import trace_table
from dashboards import build
from storage import StoreError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

cli = typer.Typer(
    help="The cost ledger for model inference: OTLP in, dollars per request out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
alerts_cli = typer.Typer(help="Incidents and the channel that hears about them.", no_args_is_help=True)
dashboards_cli = typer.Typer(help="Grafana dashboards.", no_args_is_help=True)
cli.command("backtest")(backtest_usage)
cli.add_typer(alerts_cli, name="alerts")
cli.add_typer(dashboards_cli, name="dashboards")
cli.add_typer(keys_cli, name="keys")

# In a pipe there is no width to fit, so lines are long enough for every column.
PIPE_COLUMNS = 160
CALLS_SHOWN = 50
CALLS_EXPORTED = 100_000
NOTHING_YET = (
    "no calls in this period: send some over OTLP, then run 'pennytrace analyze' ('serve' does so every minute)"
)

# Names come from whoever sends spans, so nothing in what is printed is markup.
out = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, markup=False, highlight=False)
err = Console(stderr=True, markup=False, highlight=False)


def main() -> None:
    """Entry point: an expected failure is one line on stderr and exit status 1."""
    log_to_stderr()
    try:
        cli()
    except (CommandError, StoreError, AlertError) as error:
        err.print(Text("error:", "bold red"), str(error), soft_wrap=True)
        sys.exit(1)


def _settings(config: Path | None, data: Path | None, clickhouse: str | None, **server: str | None) -> Settings:
    if data is not None and clickhouse is not None:
        raise CommandError("expected --data or --clickhouse, got both: the ledger is in one place")
    storage: dict[str, Any] = {}
    if data is not None:
        storage = {"data": data, "clickhouse": ""}
    elif clickhouse is not None:
        storage = {"clickhouse": clickhouse}
    addresses = {name: value for name, value in server.items() if value is not None}
    return load_settings(config, {"storage": storage, "server": addresses})


@cli.command()
def serve(
    config: Config = None,
    data: Data = None,
    clickhouse: ClickHouse = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT for OTLP over HTTP [127.0.0.1:4318].")] = None,
    grpc: Annotated[str | None, typer.Option(help="HOST:PORT for OTLP over gRPC [127.0.0.1:4317].")] = None,
    ui: Annotated[str | None, typer.Option(help="HOST:PORT of page, API and health [127.0.0.1:8900].")] = None,
    sql: Annotated[str | None, typer.Option(help="HOST:PORT of the read-only SQL endpoint [127.0.0.1:8123].")] = None,
) -> None:
    """Run collector, job, page and SQL endpoint in one process, until SIGTERM or Ctrl-C."""
    logging.getLogger().setLevel(logging.INFO)
    settings = _settings(config, data, clickhouse, http=http, grpc=grpc, ui=ui, sql=sql)
    _require_slack(settings)
    server = Server(settings, _print_message)
    server.schedule()
    for name, address in server.addresses().items():
        err.print(f"{name:5} {address}")
    err.print("ready; Ctrl-C or SIGTERM ends it")
    wait_for_stop()
    err.print("stopping: storing what was received")
    server.stop()


@cli.command()
def demo(
    data: Annotated[Path, typer.Option(help="Directory for the demo's data; emptied first.")] = Path("pennytrace-demo"),
    *,
    leave: Annotated[bool, typer.Option("--exit", help="End after the report instead of serving the page.")] = False,
    ports: Annotated[
        str, typer.Option(help="'default' uses 4317, 4318, 8900 and 8123; 'free' lets the system choose.")
    ] = "default",
) -> None:
    """Send five weeks of generated traffic with two planted incidents, find them and show what everything cost."""
    run_demo(data, out, err, leave=leave, free_ports=ports == "free")


@cli.command("replay")
def replay_file(
    file: Annotated[Path, typer.Argument(help="The trace; for otlp also a recorded directory.")],
    file_format: Annotated[str, typer.Option("--format", help="azure, servegen, mooncake or otlp.")],
    endpoint: Annotated[
        str, typer.Option(help="Base URL of the collector's OTLP/HTTP port.")
    ] = "http://127.0.0.1:4318",
    *,
    shift_to_now: Annotated[bool, typer.Option(help="Move the trace in time so that it ends now.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most this many spans a second.")] = None,
    provider: Annotated[str, typer.Option(help="Provider to price by, where the trace does not say.")] = "openai",
    model: Annotated[str, typer.Option(help="Model to price by, where the trace does not say.")] = "gpt-4o",
    service: Annotated[str, typer.Option(help="Service name for the traffic.")] = "replay",
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Feed a recorded trace to a running collector through its real port."""
    options = ReplayOptions(provider, model, service, shift_to_now, rate, key or "")
    prepared = prepare(file, file_format, options)
    if prepared.note:
        err.print(prepared.note)
    with progress_bar(err, "spans stored", prepared.spans) as progress:
        sent = replay(prepared, endpoint, options, progress)
    if as_json:
        _print_json({"requests": sent.requests, "spans": sent.spans, "rejected_spans": sent.rejected_spans})
    else:
        # Nobody counted the spans of a recorded protobuf body.
        spans = f"{sent.spans:,} spans in " if sent.spans or sent.rejected_spans else ""
        out.print(f"{spans}{sent.requests:,} requests stored")
    if sent.rejected_spans:
        raise CommandError(f"{sent.rejected_spans:,} spans were rejected: {sent.rejected_reason}")


@cli.command()
def analyze(
    config: Config = None,
    data: Data = None,
    clickhouse: ClickHouse = None,
    url: Url = None,
    key: ApiKey = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every hour again, not only those with new rows.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the job once: price new calls, find what moved the cost, open or close incidents, tell Slack."""
    console = err if as_json else out
    with (
        open_answers(
            url, _settings(config, data, clickhouse), utc_now, lambda text: _print_message(text, console), key
        ) as answers,
        progress_bar(err, "hours priced") as progress,
    ):
        done = answers.analyze(progress, everything=everything)
    if as_json:
        _print_json(done)
    else:
        out.print(
            f"{done['hours']:,} hours, {done['calls']:,} calls in {done['seconds']:.1f} s; "
            f"{done['findings_open']} findings and {done['incidents_open']} incidents open; "
            f"{done['messages_sent']} messages sent",
        )
    if done["delivery_error"]:
        raise CommandError(f"{done['messages_owed']} messages could not be delivered: {done['delivery_error']}")


@cli.command()
def report(
    by: Annotated[str, typer.Option(help="Dimensions, separated by commas, such as endpoint,model.")] = "endpoint",
    since: Since = None,
    until: Until = None,
    config: Config = None,
    data: Data = None,
    clickhouse: ClickHouse = None,
    url: Url = None,
    key: ApiKey = None,
    *,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print what requests cost, grouped by any dimensions, over any period (everything by default)."""
    dimensions = [part.strip() for part in by.split(",") if part.strip()]
    period = _period(since, until)
    with _answers(config, data, clickhouse, url, key) as answers:
        answer = answers.report(dimensions, *period)
    if as_json:
        _print_json(answer)
    elif as_csv:
        _print_csv(answer["rows"])
    elif answer["rows"]:
        out.print(tables.report_table(answer, dimensions))
        tables.print_unpriced(answer["totals"], out)
    else:
        out.print(NOTHING_YET)


@cli.command()
def calls(
    since: Since = None,
    until: Until = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="At most this many, oldest first [50 in a table, else 100,000]."),
    ] = None,
    config: Config = None,
    data: Data = None,
    clickhouse: ClickHouse = None,
    url: Url = None,
    key: ApiKey = None,
    *,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """List billed calls one by one, with their usage and cost."""
    limit = limit or (CALLS_EXPORTED if as_json or as_csv else CALLS_SHOWN)
    period = _period(since, until)
    with _answers(config, data, clickhouse, url, key) as answers:
        billed = answers.calls(*period, limit)
    if as_json:
        _print_json(billed)
    elif as_csv:
        _print_csv([{**call, **{f"cost_{k}_usd": v for k, v in call.pop("cost_parts").items()}} for call in billed])
    else:
        out.print(tables.calls_table(billed) if billed else NOTHING_YET)
    if len(billed) == limit:
        err.print(f"these are the first {limit:,} calls; --limit gives more, --since later ones")


@cli.command()
def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="The trace's id, 32 hex digits.")],
    config: Config = None,
    data: Data = None,
    clickhouse: ClickHouse = None,
    url: Url = None,
    key: ApiKey = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show one trace as it was received, with what its calls cost."""
    with _answers(config, data, clickhouse, url, key) as answers:
        found = answers.trace(trace_id)
    if as_json:
        _print_json(found)
    else:
        out.print(trace_table(found))


@alerts_cli.command("list")
def alerts_list(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    config: Config = None,
    data: Data = None,
    clickhouse: ClickHouse = None,
    url: Url = None,
    key: ApiKey = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first."""
    with _answers(config, data, clickhouse, url, key) as answers:
        found = answers.incidents(state)
    if as_json:
        _print_json(found)
    else:
        out.print(tables.incidents_table(found) if found else "no incidents")


@alerts_cli.command("ack")
def alerts_ack(
    incident: Incident,
    config: Config = None,
    data: Data = None,
    clickhouse: ClickHouse = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Acknowledge an incident by its key."""
    _set_state(incident, "acknowledged", _answers(config, data, clickhouse, url, key))


@alerts_cli.command("resolve")
def alerts_resolve(
    incident: Incident,
    config: Config = None,
    data: Data = None,
    clickhouse: ClickHouse = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Resolve an incident by its key."""
    _set_state(incident, "resolved", _answers(config, data, clickhouse, url, key))


@alerts_cli.command("test")
def alerts_test(config: Config = None) -> None:
    """Check that Slack takes the configured token or webhook."""
    out.print(check_slack(load_settings(config).slack))


@dashboards_cli.command("build")
def dashboards_build(
    directory: Annotated[Path, typer.Argument(help="Where to write; made if it is missing.")] = Path(
        "dashboards/grafana"
    ),
) -> None:
    """Write Grafana dashboards and provisioning files for the ClickHouse datasource."""
    for path in build(directory):
        out.print(str(path))


@cli.command("settings")
def settings_list(
    *,
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """List every setting with its environment variable, default and meaning."""
    known = describe_settings()
    if as_markdown:
        sys.stdout.write(settings_page(known))
    elif as_json:
        _print_json([vars(setting) for setting in known])
    else:
        out.print(tables.settings_table(known))


def _require_slack(settings: Settings) -> None:
    """A wrong token is an error now rather than a message lost to nobody's notice; Slack being away is not."""
    try:
        check_slack(settings.slack)
    except SlackUnavailableError as error:
        err.print(f"Slack cannot be reached yet, messages will wait: {error}")


def _answers(
    config: Path | None, data: Path | None, clickhouse: str | None, url: str | None, key: str | None
) -> AbstractContextManager[Answers]:
    """Answers from the server or store that the arguments name; any of them beats PENNYTRACE_URL."""
    if url is None and data is None and clickhouse is None:
        url = os.environ.get("PENNYTRACE_URL") or None
    settings = _settings(config, data, clickhouse)
    return open_answers(url, settings, utc_now, _print_message, key)


def _set_state(incident_key: str, state: SettableState, opened: AbstractContextManager[Answers]) -> None:
    with opened as answers:
        incident = answers.set_incident_state(incident_key, state)
    out.print(f"{incident['incident_key']} is {incident['state']}")


def _period(since: str | None, until: str | None) -> tuple[Any, Any]:
    now = utc_now()
    return (parse_time(since, now) if since else None, parse_time(until, now) if until else None)


def _print_message(text: str, console: Console = out) -> None:
    console.print(text, soft_wrap=True)


def _print_json(value: Any) -> None:  # noqa: ANN401 - JSON
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _print_csv(rows: list[dict[str, Any]]) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
