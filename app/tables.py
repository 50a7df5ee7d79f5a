"""Tables for people. JSON for machines is what the answers are already."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from app.settings_page import SettingDoc

# Dimensions that the calls of one request may differ in.
MODEL_DIMENSIONS = {"provider", "model", "model_version", "tier"}

Row = dict[str, Any]
Read = Callable[[Row], str]


def _table(*headings: str, **look: Any) -> Table:  # noqa: ANN401 - what Table takes
    return Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, **look)


def dollars(text: str | None, places: int = 2) -> str:
    """A decimal string as dollars; unknown stays unknown."""
    if text is None:
        return "unknown"
    return f"${Decimal(text):,.{places}f}"


def compact(count: int) -> str:
    """A count in three or four digits, such as 353.6M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)


def report_table(answer: Row, by: Sequence[str]) -> Table:
    """The cost report: one row per group, dearest first, and the totals.

    A request may call several models but counts once, so groups by model have their cost per 1,000 calls.
    """
    table = _table(show_footer=True, footer_style="bold")
    totals = answer["totals"]
    for number, dimension in enumerate(by):
        table.add_column(dimension, footer="total" if number == 0 else "", overflow="fold")
    columns = _MODEL_COLUMNS if MODEL_DIMENSIONS & set(by) else _REQUEST_COLUMNS
    for heading, read in columns:
        table.add_column(heading, footer=read(totals), justify="right", no_wrap=True)
    for row in answer["rows"]:
        table.add_row(*[str(row[dimension]) or "-" for dimension in by], *[read(row) for _, read in columns])
    return table


def _count(name: str) -> Read:
    def read(row: Row) -> str:
        return f"{row[name]:,}"

    return read


def _tokens(name: str) -> Read:
    def read(row: Row) -> str:
        return compact(row[name])

    return read


def _money(name: str, places: int = 2) -> Read:
    def read(row: Row) -> str:
        return "-" if row[name] is None else dollars(row[name], places)

    return read


def _share(name: str) -> Read:
    def read(row: Row) -> str:
        return "-" if row[name] is None else f"{row[name]:.0%}"

    return read


_COLUMNS = (
    ("requests", _count("requests")),
    ("calls", _count("calls")),
    ("tokens in", _tokens("input_tokens")),
    ("out", _tokens("output_tokens")),
    ("cached", _share("cache_hit_ratio")),
    ("cost", _money("cost_usd")),
)
_UNPRICED = ("unpriced", _count("unpriced_calls"))
_REQUEST_COLUMNS = (*_COLUMNS, ("per 1k req.", _money("cost_per_1k_requests_usd", 4)), _UNPRICED)
_MODEL_COLUMNS = (*_COLUMNS, ("per 1k calls", _money("cost_per_1k_calls_usd", 4)), _UNPRICED)


def print_unpriced(totals: Row, console: Console) -> None:
    """Say how many calls are missing from the dollars, if any."""
    if totals["unpriced_calls"]:
        share = totals["unpriced_calls"] / totals["calls"]
        console.print(
            f"{totals['unpriced_calls']:,} calls ({share:.1%}) have no known price and are not in the dollars; "
            "'pennytrace calls' says why, one by one",
        )


def settings_table(settings: Sequence[SettingDoc]) -> Table:
    """Every setting, a row each."""
    table = _table("setting", "environment", "default", "meaning")
    for setting in settings:
        table.add_row(f"{setting.section}.{setting.name}", setting.variable, setting.default, setting.description)
    return table


def keys_table(keys: Sequence[Row]) -> Table:
    """API keys, one a row."""
    table = _table("name", "tenant", "scopes")
    for key in keys:
        table.add_row(key["name"], key["tenant"] or "-", ", ".join(key["scopes"]))
    return table


def calls_table(calls: Sequence[Row]) -> Table:
    """Billed calls, one a row."""
    table = _table("started", "service", "endpoint", "model", "trace")
    for heading in ("input", "cached", "output", "ms", "cost"):
        table.add_column(heading, justify="right")
    for call in calls:
        table.add_row(
            call["started_at"][:19],
            call["service"],
            call["endpoint"] or "-",
            call["model"],
            call["trace_id"],
            *[_known(call[name]) for name in ("input_tokens", "cache_read_tokens", "output_tokens")],
            f"{call['duration_ms']:,.0f}",
            f"unpriced: {call['unpriced_reason']}" if call["unpriced_reason"] else dollars(call["cost_usd"], 6),
        )
    return table


def _known(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def incidents_table(incidents: Sequence[Row]) -> Table:
    """Incidents, newest first."""
    table = _table("state", "opened", "where", "cause", "impact", "key")
    for incident in incidents:
        table.add_row(
            incident["state"],
            incident["opened_at"][:16],
            f"{incident['service']} {incident['endpoint']}",
            incident["cause"],
            dollars(incident["impact_usd"]),
            incident["incident_key"],
        )
    return table
