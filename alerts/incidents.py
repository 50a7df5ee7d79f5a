"""Incidents in the store: brought up to date from the findings, and moved by people."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl

from alerts.errors import IncidentNotFoundError, IncidentStateError
from alerts.findings import read_findings
from alerts.grouping import Incident, State, group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from alerts.settings import AlertSettings
    from storage import Store

logger = logging.getLogger(__name__)

_MONEY = pl.Decimal(38, 12)
_TIME = pl.Datetime("ms", "UTC")
_SCHEMA: dict[str, Any] = {
    "incident_key": pl.String,
    "sequence": pl.UInt32,
    "state": pl.String,
    "service": pl.String,
    "environment": pl.String,
    "endpoint": pl.String,
    "title": pl.String,
    "cause": pl.String,
    "deploy": pl.String,
    "rules": pl.List(pl.String),
    "finding_ids": pl.List(pl.String),
    "opened_at": _TIME,
    "resolved_at": _TIME,
    "impact_usd": _MONEY,
    "drivers": pl.List(pl.String),
    "driver_usd": pl.List(_MONEY),
    "updated_at": _TIME,
}
_LISTS = ("rules", "finding_ids", "drivers", "driver_usd")


def update_incidents(store: Store, settings: AlertSettings, clock: Callable[[], datetime]) -> list[Incident]:
    """Bring the incidents up to date with the findings; returns those that changed, by onset.

    Running it again, or after a restart, changes nothing.
    """
    known = read_incidents(store)
    before = {incident.incident_key: incident for incident in known}
    wanted = group(read_findings(store), known, settings, clock())
    changed = [incident for incident in wanted if before.get(incident.incident_key) != incident]
    _write(store, changed)
    if changed:
        logger.info("incidents changed", extra={"changed": len(changed), "incidents": len(wanted)})
    return changed


def acknowledge(store: Store, key: str, clock: Callable[[], datetime]) -> Incident:
    """Say that somebody is on it. Acknowledging twice changes nothing.

    Raises IncidentNotFoundError, or IncidentStateError when it is resolved.
    """
    incident = read_incident(store, key)
    if incident.state == "resolved":
        raise IncidentStateError(key, "an open", incident.state)
    return _move(store, incident, "acknowledged", clock)


def resolve(store: Store, key: str, clock: Callable[[], datetime]) -> Incident:
    """Close an incident by hand; a finding that it has keeps it closed, a new one reopens it.

    Resolving twice changes nothing. Raises IncidentNotFoundError.
    """
    return _move(store, read_incident(store, key), "resolved", clock)


def incidents(store: Store, state: State | None = None) -> pl.DataFrame:
    """Incidents by onset, the columns of the table; one state only when given."""
    return store.frame("alert_incidents", states=[state] if state else [])


def read_incidents(store: Store) -> list[Incident]:
    """Every incident, by onset."""
    return [_incident(row) for row in incidents(store).to_dicts()]


def read_incident(store: Store, key: str) -> Incident:
    """One incident. Raises IncidentNotFoundError."""
    found = next((incident for incident in read_incidents(store) if incident.incident_key == key), None)
    if found is None:
        raise IncidentNotFoundError(key)
    return found


def _incident(row: dict[str, Any]) -> Incident:
    lists: dict[str, Any] = {name: tuple(row[name]) for name in _LISTS}
    return Incident(**{**row, **lists})


def _move(store: Store, incident: Incident, state: State, clock: Callable[[], datetime]) -> Incident:
    if incident.state == state:
        return incident
    moved = incident.moved_to(state, clock())
    _write(store, [moved])
    logger.info("incident moved by a person", extra={"incident_key": moved.incident_key, "state": state})
    return moved


def _write(store: Store, changed: Sequence[Incident]) -> None:
    rows = [asdict(incident) | {name: list(getattr(incident, name)) for name in _LISTS} for incident in changed]
    store.insert("incidents", pl.DataFrame(rows, schema=_SCHEMA))
