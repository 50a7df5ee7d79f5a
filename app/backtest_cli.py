"""`pennytrace backtest`: the detector over a usage export, before alerts are switched on."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path  # noqa: TC003 - typer resolves it
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from analytics.detection import DetectionSettings, UsageError, backtest
from analytics.detection.tune import tune
from app.errors import CommandError
from app.options import AsJson, Config  # noqa: TC001 - typer resolves them
from app.progress import progress_bar
from app.settings import load_settings

if TYPE_CHECKING:
    from analytics.detection import Backtest

out = Console(markup=False, highlight=False)
err = Console(stderr=True, markup=False, highlight=False)


def backtest_usage(
    usage: Annotated[
        Path, typer.Argument(help="Parquet: usage per endpoint, hour and model; docs/backtest.md has the columns.")
    ],
    to: Annotated[Path | None, typer.Option("--out", help="Parquet file for the hours in which alarms ring.")] = None,
    min_usd_per_day: Annotated[
        str, typer.Option(help="Dollars a day below which a rise does not ring; an export may be a sample.")
    ] = "0",
    config: Config = None,
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Add scores, and dollars split into drivers.")] = False,
    show_trade_off: Annotated[
        bool, typer.Option("--tune", help="Show misses of planted rises against alarms, at other thresholds.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the detector over a usage export: which alarms would have rung, when, and why."""
    if to is None and not show_trade_off:
        raise CommandError("expected --out ALARMS.parquet, --tune or both, got neither")
    if explain and to is None:
        raise CommandError("expected --out ALARMS.parquet with --explain, which adds columns to it, got none")
    if to is not None:
        _refuse_unwritable(to, usage)
    settings = _settings(config, min_usd_per_day)
    answer: dict[str, object] = {}
    try:
        source = _scan(usage)
        if to is not None:
            with progress_bar(err, "endpoints judged") as progress:
                done = backtest(source, settings, progress, explain=explain)
            done.alarms.write_parquet(to)
            answer |= _summary(done, to)
        if show_trade_off:
            with progress_bar(err, "endpoints tried") as progress:
                answer["tune"] = tune(source, settings, progress).to_dicts()
    except UsageError as error:
        raise CommandError(f"{usage}: {error}") from error
    _print(answer, as_json=as_json)


def _settings(config: Path | None, min_usd_per_day: str) -> DetectionSettings:
    known = load_settings(config).findings.model_dump(include=set(DetectionSettings.model_fields))
    try:
        return DetectionSettings.model_validate(known | {"min_impact_usd_per_day": Decimal(min_usd_per_day)})
    except (ArithmeticError, ValueError) as error:
        raise CommandError(
            f"expected dollars of zero or more for --min-usd-per-day, got {min_usd_per_day!r}"
        ) from error


def _refuse_unwritable(to: Path, usage: Path) -> None:
    """Before the run, which may take minutes."""
    if to.resolve() == usage.resolve():
        raise CommandError(f"expected another file than the usage for --out, got {to}, which would be overwritten")
    if to.is_dir():
        raise CommandError(f"expected a file for --out, got {to}, which is a folder")
    if not to.parent.is_dir():
        raise CommandError(f"expected a file in an existing folder for --out, got {to}; create {to.parent} first")


def _scan(usage: Path) -> pl.LazyFrame:
    if not usage.is_file():
        raise CommandError(f"expected a Parquet file, got {usage}, which is none")
    try:
        source = pl.scan_parquet(usage)
        source.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CommandError(f"{usage} cannot be read as Parquet: {error}") from error
    return source


def _summary(done: Backtest, to: Path) -> dict[str, object]:
    begun = done.alarms.filter("notifies")
    return {
        "endpoints": done.endpoints,
        "endpoint_weeks_judged": round(done.endpoint_weeks, 1),
        "alarms": begun.height,
        "alarms_by_kind": dict(begun.group_by("kind").len().sort("kind").iter_rows()),
        "alarm_hours": done.alarms.height,
        "out": str(to),
    }


def _print(answer: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        return
    if "alarms" in answer:
        out.print(
            f"{answer['alarms']} alarms on {answer['endpoints']} endpoints in {answer['endpoint_weeks_judged']} judged "
            f"endpoint-weeks; {answer['alarm_hours']} hours written to {answer['out']}",
            soft_wrap=True,
        )
    if "tune" in answer:
        out.print(_trade_off(answer["tune"]))


def _trade_off(rows: object) -> Table:
    table = Table("score", "margin", "alarms", "per endpoint-week", "+25 % found", "+50 % found", "+100 % found")
    for row in rows if isinstance(rows, list) else []:
        *thresholds, alarms, rate = list(row.values())[:4]
        found = list(row.values())[4:]
        cells = [f"{value:.2f}" for value in thresholds] + [str(alarms), "-" if rate is None else f"{rate:.3f}"]
        table.add_row(*cells, *("-" if share is None else f"{share:.0%}" for share in found))
    return table
