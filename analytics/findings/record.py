"""Rows of the table `findings`: made from episodes, and written only where they say something new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from analytics.findings import rules
from analytics.findings.cause import coinciding, sentence
from analytics.findings.explanation import explain_cost_per_request
from analytics.findings.facts import HOUR, HOURS_A_WEEK, MONEY
from analytics.findings.windows import PROMPT_CACHE_HIT_RATIO, RESPONSE_CACHE_HIT_RATIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from analytics.findings.episodes import Episode
    from analytics.findings.settings import FindingsSettings
    from storage import Store

# Below what an alert shows and above what the order of float additions could change.
SIGNIFICANT_DIGITS = 6
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "finding_id": pl.String,
    "rule": pl.String,
    "metric": pl.String,
    "unit": pl.String,
    "service": pl.String,
    "environment": pl.String,
    "endpoint": pl.String,
    "tenant": pl.String,
    "started_at": HOUR,
    "last_hour": HOUR,
    "ended_at": HOUR,
    "expected": pl.Float64,
    "actual": pl.Float64,
    "impact_usd": MONEY,
    "drivers": pl.List(pl.String),
    "driver_usd": pl.List(MONEY),
    "cause": pl.String,
    "deploy": pl.String,
    "is_withdrawn": pl.Boolean,
    "updated_at": pl.Datetime("ms", "UTC"),
}


@dataclass(frozen=True)
class Changes:
    """Ids of the findings that were written, by what happened to them."""

    opened: tuple[str, ...]
    updated: tuple[str, ...]
    closed: tuple[str, ...]
    withdrawn: tuple[str, ...]


def read_findings(store: Store, since: datetime, *, open_only: bool, withdrawn_too: bool) -> pl.DataFrame:
    """Stored findings that lasted beyond `since`, newest first."""
    return store.frame("findings", since=since, open_only=open_only, withdrawn_too=withdrawn_too).cast(
        pl.Schema(SCHEMA)
    )


def write_changes(
    store: Store, derived: Iterable[dict[str, object]], stored: pl.DataFrame, since: datetime, now: datetime
) -> Changes:
    """Write the derived findings that differ from the stored ones; withdraw those of `since` or later not derived."""
    known = {str(row["finding_id"]): row for row in stored.iter_rows(named=True)}
    wanted = {str(row["finding_id"]): row for row in derived}
    gone = {
        name: {**row, "is_withdrawn": True}
        for name, row in known.items()
        if name not in wanted and row["started_at"] >= since and row["rule"] in rules.RULES and not row["is_withdrawn"]
    }
    fresh = {name: row for name, row in wanted.items() if _differs(row, known.get(name))}
    rows = [{**row, "updated_at": now} for row in (*fresh.values(), *gone.values())]
    store.insert("findings", pl.DataFrame(rows, schema=pl.Schema(SCHEMA)))
    return _sorted_out(fresh, known, tuple(gone))


def finding_row(
    episode: Episode, facts: pl.DataFrame, deploys: pl.DataFrame, settings: FindingsSettings
) -> dict[str, object]:
    """A row of `findings` but for updated_at; `facts` are the series' hours by model."""
    after = facts.filter(pl.col("hour").is_between(episode.started_at, episode.last_hour))
    before = baseline(facts, episode.started_at, episode.last_hour)
    explanation = explain_cost_per_request(before, after)
    deploy = coinciding(deploys, episode.series, episode.started_at, settings.deploy_window_hours)
    hours = int((episode.last_hour - episode.started_at) / timedelta(hours=1)) + 1
    parts = {name: part for name, part in explanation.parts_usd.items() if part}
    drivers = sorted(parts, key=lambda name: (-abs(parts[name]), name))
    return {
        "finding_id": episode.finding_id,
        "rule": episode.rule,
        "metric": episode.measure.name,
        "unit": episode.measure.unit,
        **episode.series._asdict(),
        "tenant": "",
        "started_at": episode.started_at,
        "last_hour": episode.last_hour,
        "ended_at": episode.ended_at,
        "expected": _rounded(_expected(episode, before, settings)),
        "actual": _rounded(_ratio(episode, after)),
        "impact_usd": explanation.change_usd,
        "drivers": drivers,
        "driver_usd": [parts[name] for name in drivers],
        "cause": sentence(explanation, hours, deploy),
        "deploy": deploy.name if deploy else "",
        "is_withdrawn": False,
    }


def baseline(facts: pl.DataFrame, started_at: datetime, last_hour: datetime) -> pl.DataFrame:
    """What to hold an episode against: for each of its hours, that hour of the last week before its onset.

    Where those hours had no requests, the whole week before the onset; where that had none, all there is.
    """
    weeks = (pl.col("hour") - started_at).dt.total_hours() // HOURS_A_WEEK + 1
    same_hours = (
        pl.DataFrame({"hour": pl.datetime_range(started_at, last_hour, "1h", time_unit="us", eager=True)})
        .select((pl.col("hour") - pl.duration(weeks=1) * weeks).alias("hour"))
        .join(facts, on="hour", how="inner")
    )
    past = facts.filter(pl.col("hour") < started_at)
    last_week = past.filter(pl.col("hour") >= started_at - timedelta(weeks=1))
    return next((rows for rows in (same_hours, last_week) if rows["requests"].sum()), past)


def _expected(episode: Episode, before: pl.DataFrame, settings: FindingsSettings) -> float:
    targets = {
        PROMPT_CACHE_HIT_RATIO.name: settings.prompt_cache_targets,
        RESPONSE_CACHE_HIT_RATIO.name: settings.response_cache_targets,
    }.get(episode.measure.name, {})
    target = rules.target_of(episode.series.endpoint, targets)
    return _ratio(episode, before) if target is None else target


def _ratio(episode: Episode, rows: pl.DataFrame) -> float:
    """The measure over the rows in its own unit; 0 without any denominator, which no rule lets happen."""
    measure = episode.measure
    bottom = float(rows[measure.denominator].sum())
    return float(rows[measure.numerator].sum()) / bottom * measure.scale if bottom else 0.0


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _differs(row: Mapping[str, Any], known: Mapping[str, Any] | None) -> bool:
    return known is None or any(row[name] != known[name] for name in SCHEMA if name != "updated_at")


def _sorted_out(
    fresh: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]], withdrawn: tuple[str, ...]
) -> Changes:
    opened = {name for name in fresh if name not in known or known[name]["is_withdrawn"]}
    closed = {
        name
        for name, row in fresh.items()
        if row["ended_at"] is not None and (name in opened or known[name]["ended_at"] is None)
    }
    return Changes(
        opened=tuple(sorted(opened)),
        updated=tuple(sorted(set(fresh) - opened - closed)),
        closed=tuple(sorted(closed)),
        withdrawn=tuple(sorted(withdrawn)),
    )
