"""From findings to incidents: a pure function of the findings, the incidents known so far and the time.

A finding stays with the incident that first took it. A new one joins the incident of its series (service,
environment, endpoint) that it overlaps or follows within the reopen window; otherwise it starts one. So
incidents neither merge nor split, and running again changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from alerts.findings import by_weight, headline
from alerts.wording import title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from alerts.findings import Finding, Series
    from alerts.settings import AlertSettings

State = Literal["open", "acknowledged", "resolved"]
_NEVER = datetime.max.replace(tzinfo=UTC)
WITHDRAWN = "withdrawn: after late or corrected data the rise is no longer there"


@dataclass(frozen=True)
class Incident:
    """One row of `incidents`.

    `resolved_at` is when the last finding ended. It is None while one lasts, also after a person resolved the
    incident: then only a finding that it did not have yet opens it again.
    """

    incident_key: str
    sequence: int
    state: State
    service: str
    environment: str
    endpoint: str
    title: str
    cause: str
    deploy: str
    rules: tuple[str, ...]
    finding_ids: tuple[str, ...]
    opened_at: datetime
    resolved_at: datetime | None
    impact_usd: Decimal
    drivers: tuple[str, ...]
    driver_usd: tuple[Decimal, ...]
    updated_at: datetime

    @property
    def series(self) -> Series:
        """Service, environment and endpoint."""
        return self.service, self.environment, self.endpoint

    def moved_to(self, state: State, now: datetime) -> Incident:
        """This incident in another state: the next sequence, and a row newer than its last one."""
        return replace(self, state=state, sequence=self.sequence + 1).stamped(now)

    def stamped(self, now: datetime) -> Incident:
        """This incident as written now; a clock that went back must not lose to the older row."""
        return replace(self, updated_at=max(now, self.updated_at + timedelta(milliseconds=1)))


@dataclass
class _Group:
    """Findings that belong together, and the incident that they were so far."""

    incident: Incident | None
    members: list[Finding] = field(default_factory=list)

    @property
    def valid(self) -> list[Finding]:
        return [finding for finding in self.members if not finding.is_withdrawn]

    def reaches(self, finding: Finding, ends: dict[str, datetime], window: timedelta) -> bool:
        """True when the finding overlaps this group or lies no further than the window from it."""
        starts = [member.started_at for member in self.members]
        stops = [ends[member.finding_id] for member in self.members]
        if self.incident:
            starts.append(self.incident.opened_at)
            stops.append(self.incident.resolved_at or self.incident.opened_at)
        return _later(finding.started_at, -window) <= max(stops) and min(starts) <= _later(
            ends[finding.finding_id], window
        )


def group(
    findings: Sequence[Finding], known: Sequence[Incident], settings: AlertSettings, now: datetime
) -> list[Incident]:
    """Every incident as it should be now, changed or not, by onset."""
    oldest = now - timedelta(days=settings.max_age_days)
    ends = {finding.finding_id: _end(finding, oldest) for finding in findings}
    window = timedelta(hours=settings.reopen_window_hours)
    groups = [made for one in _by_series(findings, known) for made in _groups(*one, ends, window)]
    incidents = [_incident(made, ends, now) for made in groups]
    return sorted(incidents, key=lambda incident: (incident.opened_at, incident.incident_key))


def _by_series(
    findings: Iterable[Finding], known: Iterable[Incident]
) -> Iterable[tuple[list[Finding], list[Incident]]]:
    series: dict[Series, tuple[list[Finding], list[Incident]]] = defaultdict(lambda: ([], []))
    for finding in findings:
        series[finding.series][0].append(finding)
    for incident in known:
        series[incident.series][1].append(incident)
    return series.values()


def _groups(
    findings: list[Finding], known: list[Incident], ends: dict[str, datetime], window: timedelta
) -> list[_Group]:
    """The groups of one series."""
    groups = [_Group(incident) for incident in sorted(known, key=lambda incident: incident.opened_at)]
    owner = {finding_id: made for made in groups if made.incident for finding_id in made.incident.finding_ids}
    for finding in sorted(findings, key=lambda finding: (finding.started_at, finding.finding_id)):
        if finding.finding_id in owner:
            owner[finding.finding_id].members.append(finding)
    for finding in sorted(findings, key=lambda finding: (finding.started_at, finding.finding_id)):
        if finding.finding_id in owner or finding.is_withdrawn:
            continue
        near = next((made for made in reversed(groups) if made.reaches(finding, ends, window)), None)
        if near is None:
            near = _Group(None)
            groups.append(near)
        near.members.append(finding)
    return groups


def _incident(made: _Group, ends: dict[str, datetime], now: datetime) -> Incident:
    valid = made.valid
    if not valid:
        return _withdrawn(made.incident, now)
    end = max(ends[finding.finding_id] for finding in valid)
    draft = _draft(valid, None if end == _NEVER else end, now)
    before = made.incident
    if before is None:
        return draft
    state = _next_state(before, valid, ends)
    after = replace(
        draft,
        incident_key=before.incident_key,
        state=state,
        sequence=before.sequence + (state != before.state),
        # Never later than it was announced: the key stands for the first onset.
        opened_at=min(draft.opened_at, before.opened_at),
        updated_at=before.updated_at,
    )
    return before if after == before else after.stamped(now)


def _next_state(before: Incident, valid: list[Finding], ends: dict[str, datetime]) -> State:
    lasting = {finding.finding_id for finding in valid if ends[finding.finding_id] == _NEVER}
    if not lasting:
        return "resolved"
    if before.state != "resolved":
        return before.state
    resolved_by_person = before.resolved_at is None
    return "resolved" if resolved_by_person and lasting <= set(before.finding_ids) else "open"


def _withdrawn(before: Incident | None, now: datetime) -> Incident:
    """Nothing is left of an incident: it is resolved and says why."""
    if before is None:
        raise ValueError("expected a group to have findings or an incident, got neither")
    if before.state == "resolved":
        return before
    return replace(before, cause=WITHDRAWN, resolved_at=now.replace(microsecond=0)).moved_to("resolved", now)


def _draft(valid: list[Finding], end: datetime | None, now: datetime) -> Incident:
    """The incident that these findings make, as if there had been none before."""
    ranked = by_weight(valid)
    onset = min(finding.started_at for finding in valid)
    service, environment, endpoint = ranked[0].series
    return Incident(
        incident_key=incident_key(ranked[0].series, onset),
        sequence=1,
        state="open" if end is None else "resolved",
        service=service,
        environment=environment,
        endpoint=endpoint,
        title=title_of(headline(valid)),
        cause=next((finding.cause for finding in ranked if finding.cause), ""),
        deploy=next((finding.deploy for finding in ranked if finding.deploy), ""),
        rules=tuple(dict.fromkeys(finding.rule for finding in ranked)),
        finding_ids=tuple(sorted(finding.finding_id for finding in valid)),
        opened_at=onset,
        resolved_at=end,
        impact_usd=ranked[0].impact_usd,
        drivers=ranked[0].drivers,
        driver_usd=ranked[0].driver_usd,
        updated_at=now,
    )


def incident_key(series: Series, onset: datetime) -> str:
    """16 hexadecimal digits that follow from the series and the first onset."""
    name = "\0".join((*series, onset.astimezone(UTC).isoformat()))
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _end(finding: Finding, oldest: datetime) -> datetime:
    """When the finding ended; never, while it lasts. One without news since `oldest` ended with its last hour."""
    if finding.ended_at is not None:
        return finding.ended_at
    return finding.last_hour if finding.last_hour < oldest else _NEVER


def _later(moment: datetime, by: timedelta) -> datetime:
    return _NEVER if moment == _NEVER else moment + by
