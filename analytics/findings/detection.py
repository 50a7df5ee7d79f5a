"""The detector's run: read facts, judge every closed hour, date episodes, bring findings up to date."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from analytics.findings import rules
from analytics.findings.drivers import HISTORY, cost_drivers
from analytics.findings.episodes import episodes, pace
from analytics.findings.facts import HOUR, SERIES, dense_hours, read_facts
from analytics.findings.outliers import outliers
from analytics.findings.record import Changes, finding_row, read_findings, write_changes
from analytics.findings.windows import trailing

if TYPE_CHECKING:
    from collections.abc import Callable

    from analytics.findings.episodes import Episode
    from analytics.findings.settings import FindingsSettings
    from storage import Store

log = logging.getLogger(__name__)

BEGINNING = datetime(1970, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class FindingsRun:
    """What a run changed, as finding ids, and what it looked at: closed hours from `since` to before `until`.

    `cold_series` had traffic in the last window, but no rule could judge their last hour: too little history, or
    prices for another share of the calls than before.
    """

    since: datetime
    until: datetime
    series: int
    cold_series: int
    opened: tuple[str, ...]
    updated: tuple[str, ...]
    closed: tuple[str, ...]
    withdrawn: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """Facts of a span of time, per model and per dense hour, and every rule's verdicts on them."""

    facts: pl.DataFrame
    hours: pl.DataFrame
    verdicts: pl.DataFrame


def findings(store: Store, since: datetime = BEGINNING, *, open_only: bool = False) -> pl.DataFrame:
    """Findings that lasted beyond `since`, newest first, without those withdrawn."""
    return read_findings(store, since, open_only=open_only, withdrawn_too=False)


def detect(
    store: Store, settings: FindingsSettings, clock: Callable[[], datetime], since: datetime | None = None
) -> FindingsRun:
    """Judge every closed hour from `since` (default: the look-back) on and bring `findings` up to date.

    `since` is the first hour whose facts are new. What they can move begins earlier, and is found by itself:
    episodes that they confirm but that began before, and stored ones that they prolong, shorten or end.

    What an hour is said to be depends on that hour and earlier ones only. The same facts give the same rows;
    a finding that no longer follows from the facts is withdrawn.
    """
    now = clock()
    until = _hour_of(now - timedelta(minutes=settings.settle_minutes))
    stored = read_findings(store, BEGINNING, open_only=False, withdrawn_too=True)
    wanted = _hour_of(since) if since else until - timedelta(weeks=settings.look_back_weeks)
    begin = _begin(stored, min(wanted, until) - _longest_dating(settings), settings)
    begin, judgement, found = _judge_back(store, begin, until, settings)
    changes = write_changes(store, _derive(store, judgement, found, settings), stored, begin, now)
    run = _run(judgement, begin, until, changes, settings)
    log.info("judged closed hours", extra={"series": run.series, "opened": len(run.opened), "closed": len(run.closed)})
    return run


def judge(facts: pl.DataFrame, since: datetime, until: datetime, settings: FindingsSettings) -> Judgement:
    """Every enabled rule's verdict on every hour from `since` to before `until`."""
    hours = dense_hours(facts, until)
    nothing = hours.clear().with_columns(*[pl.lit(value=False).alias(name) for name in ("known", "opens", "stays")])
    judged = [rules.verdict(nothing, "", "")]
    if not hours.is_empty() and settings.cost_rise_enabled:
        judged.append(rules.cost_rise(hours, settings))
    if not hours.is_empty() and settings.cache_enabled:
        judged += [rules.prompt_cache(hours, settings), rules.response_cache(hours, settings)]
    if not hours.is_empty() and settings.outlier_enabled:
        judged.append(outliers(hours, since, settings))
    if not hours.is_empty() and settings.drivers_enabled:
        judged.append(cost_drivers(facts, since, until, settings))
    return Judgement(facts, hours, pl.concat(judged).filter(pl.col("hour") >= since))


def _hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _history(settings: FindingsSettings) -> timedelta:
    """How much earlier than the first judged hour facts are needed: a baseline, and its own baselines."""
    own = timedelta(weeks=2 * settings.baseline_weeks + 1, hours=2 * settings.window_hours)
    return max(own, HISTORY) if settings.drivers_enabled else own


def _longest_memory(settings: FindingsSettings) -> timedelta:
    """How long after its end an episode may still be waiting to be closed."""
    return timedelta(hours=max(sum(pace(rule, settings)) for rule in rules.RULES) + settings.open_after_hours)


def _longest_dating(settings: FindingsSettings) -> timedelta:
    """How long before the hour that confirms an episode its onset may be dated."""
    return timedelta(hours=settings.window_hours + settings.open_after_hours)


def _begin(stored: pl.DataFrame, wanted: datetime, settings: FindingsSettings) -> datetime:
    """The first hour to judge: early enough that no stored finding is judged from its middle."""
    tail = _longest_memory(settings)
    begin = wanted
    for row in stored.filter(~pl.col("is_withdrawn")).sort("started_at", descending=True).iter_rows(named=True):
        if row["started_at"] <= begin and (row["ended_at"] is None or row["ended_at"] + tail >= begin):
            begin = row["started_at"] - timedelta(hours=1)
    return begin


def _judge_back(
    store: Store, begin: datetime, until: datetime, settings: FindingsSettings
) -> tuple[datetime, Judgement, list[Episode]]:
    """Judge from `begin`, or from as much earlier as an episode that is still open began; episodes since then.

    A lead tells episodes that began before `begin`; unless still open they are old news and left alone.
    """
    lead = 2 * _longest_memory(settings)
    while True:
        facts = read_facts(store, begin - lead - _history(settings), until)
        judgement = judge(facts, begin - lead, until, settings)
        found = episodes(judgement.verdicts, judgement.hours, settings)
        cut = [episode for episode in found if episode.started_at < begin and episode.ended_at is None]
        if not cut or facts.filter(pl.col("hour") < begin - lead).is_empty():
            return begin, judgement, [episode for episode in found if episode.started_at >= begin or episode in cut]
        begin -= timedelta(weeks=settings.look_back_weeks)


def _derive(
    store: Store, judgement: Judgement, found: list[Episode], settings: FindingsSettings
) -> list[dict[str, object]]:
    deploys = store.frame("findings_deploys").with_columns(pl.col("first_hour").cast(HOUR))
    by_series = judgement.facts.partition_by(SERIES, as_dict=True)
    return [finding_row(episode, by_series[tuple(episode.series)], deploys, settings) for episode in found]


def _run(
    judgement: Judgement, since: datetime, until: datetime, changes: Changes, settings: FindingsSettings
) -> FindingsRun:
    last = pl.col("hour") == until - timedelta(hours=1)
    live = judgement.hours.with_columns(trailing("requests", settings.window_hours).alias("n"))
    live = live.filter(last & (pl.col("n").is_null() | (pl.col("n") > 0)))
    judged = judgement.verdicts.filter(last & pl.col("known"))
    return FindingsRun(
        since=since,
        until=until,
        series=judgement.hours.select(SERIES).n_unique(),
        cold_series=live.join(judged, on=SERIES, how="anti").height,
        opened=changes.opened,
        updated=changes.updated,
        closed=changes.closed,
        withdrawn=changes.withdrawn,
    )
