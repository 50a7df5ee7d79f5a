"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="Configuration file; pennytrace.toml is read if it is here.")]
Data = Annotated[Path | None, typer.Option(help="Data directory of the embedded engine.")]
ClickHouse = Annotated[str | None, typer.Option(help="URL of a ClickHouse server instead of a data directory.")]
Url = Annotated[
    str | None, typer.Option(help="Ask the server running at this address [PENNYTRACE_URL, unless --data is given].")
]
ApiKey = Annotated[
    str | None,
    typer.Option("--key", envvar="PENNYTRACE_KEY", help="API key, for a server that asks for one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Incident = Annotated[str, typer.Argument(metavar="KEY", help="The incident's key, as 'alerts list' shows it.")]
Since = Annotated[str | None, typer.Option(help="From: a date, a time, or a span such as 7d.")]
Until = Annotated[str | None, typer.Option(help="Until: likewise; the end is not included.")]
