"""`pennytrace demo`: set up, send, analyse, show."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from analytics.settings import InstanceRate, LedgerSettings
from app import tables
from app.answers import LocalAnswers
from app.demo.traffic import bodies
from app.demo.workload import INSTANCE_COST_PER_HOUR_USD, INSTANCE_TYPE, SELF_HOSTED, WEEKS
from app.errors import CommandError
from app.listening import PURPOSES
from app.progress import progress_bar
from app.replay.sender import Sent, send
from app.server import Server, utc_now, wait_for_stop
from app.settings import ServerSettings, Settings, StorageSettings
from storage.location import DirectoryLock

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

MARKER = "pennytrace-demo"
ANY_PORT = "127.0.0.1:0"
REPORT_BY = ("endpoint", "model")


def run_demo(data: Path, out: Console, err: Console, *, leave: bool, free_ports: bool) -> None:
    """Run the demo; returns when it is told to stop, or after the report with `leave`."""
    _empty(data)
    messages: list[str] = []
    server = Server(_settings(data, free_ports=free_ports), messages.append)
    try:
        began = time.monotonic()
        sent = _send(server, err)
        err.print(f"{sent.spans:,} spans sent and stored in {time.monotonic() - began:.0f} s")
        _analyse(server, err)
        _show(server, messages, out)
        if not leave:
            server.schedule()
            out.print(f"\nThe page: {server.url('ui')}   (Ctrl-C ends it)")
            wait_for_stop()
    finally:
        server.stop()


def _empty(data: Path) -> None:
    """Remove what an earlier demo left. Raises rather than delete what no demo made or another process uses."""
    if data.exists():
        if not (data / MARKER).is_file():
            raise CommandError(f"{data} exists and was not made by the demo: give another --data")
        lock = DirectoryLock(data)
        shutil.rmtree(data)
        lock.release()
    data.mkdir(parents=True)
    (data / MARKER).write_text("made by 'pennytrace demo', which deletes this directory when it is run again\n")


def _settings(data: Path, *, free_ports: bool) -> Settings:
    rate = {
        "service": SELF_HOSTED,
        "instance_type": INSTANCE_TYPE,
        "instance_cost_per_hour_usd": INSTANCE_COST_PER_HOUR_USD,
    }
    server = ServerSettings.model_validate(dict.fromkeys(PURPOSES, ANY_PORT) if free_ports else {})
    ledger = LedgerSettings(instances=(InstanceRate.model_validate(rate),))
    # No file and no environment: invented traffic must reach nobody's ClickHouse and nobody's Slack.
    return Settings.model_construct(storage=StorageSettings(data=data), server=server, ledger=ledger)


def _send(server: Server, err: Console) -> Sent:
    err.print(f"sending {WEEKS} weeks of traffic to {server.url('http')}")
    with progress_bar(err, "spans stored") as progress:
        return send(server.url("http"), bodies(utc_now()), progress)


def _analyse(server: Server, err: Console) -> None:
    with progress_bar(err, "hours priced") as progress:
        done = server.job.run(progress)
    err.print(f"{done.hours:,} hours and {done.calls:,} calls priced in {done.seconds:.0f} s")
    if done.delivery_error:
        err.print(done.delivery_error)


def _show(server: Server, messages: list[str], out: Console) -> None:
    report = LocalAnswers(server.store, server.job, utc_now).report(REPORT_BY, None, None)
    out.print(tables.report_table(report, REPORT_BY))
    tables.print_unpriced(report["totals"], out)
    out.print("\nSlack messages (the demo prints them instead of sending them):")
    for message in messages:
        out.print()
        out.print(message, soft_wrap=True)
