"""The outbox: one row of `deliveries` for every message owed, written before it is sent."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from alerts.destinations import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from alerts.errors import SlackError
    from alerts.grouping import Incident
    from storage import Store

_SCHEMA: dict[str, Any] = {
    "incident_key": pl.String,
    "sequence": pl.UInt32,
    "destination": pl.String,
    "status": pl.String,
    "channel": pl.String,
    "message_ts": pl.String,
    "attempts": pl.UInt32,
    "error": pl.String,
    "updated_at": pl.Datetime("ms", "UTC"),
}
_NOT_BEFORE = re.compile(r" \[not before (\S+)\]$")


@dataclass(frozen=True)
class Delivery:
    """One row of `deliveries`: an incident's message of one sequence to one destination."""

    incident_key: str
    sequence: int
    destination: str
    status: Literal["pending", "sent", "failed"]
    channel: str
    message_ts: str
    attempts: int
    error: str
    updated_at: datetime

    @property
    def not_before(self) -> datetime | None:
        """When Slack allowed the next attempt, if it said so; the table keeps it at the end of `error`."""
        found = _NOT_BEFORE.search(self.error)
        return datetime.fromisoformat(found[1]) if found else None

    @property
    def may_have_arrived(self) -> bool:
        """True when an attempt began, and neither a receipt nor a refusal says how it ended."""
        was_refused = self.attempts == 1 and (self.status == "failed" or self.not_before is not None)
        return self.attempts > 0 and not self.message_ts and not was_refused


class Outbox:
    """The deliveries to one destination. Every change is written before the method returns."""

    def __init__(self, store: Store, destination: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._destination = destination
        self._clock = clock
        everything = [Delivery(**row) for row in store.rows("alert_deliveries")]
        self._told = {row.incident_key for row in everything}
        self._rows = {(row.incident_key, row.sequence): row for row in everything if row.destination == destination}

    @property
    def rows(self) -> list[Delivery]:
        """Every delivery to this destination."""
        return list(self._rows.values())

    @property
    def not_before(self) -> datetime | None:
        """The latest time before which Slack asked not to be called, among what is still to be sent."""
        asked = [row.not_before for row in self.rows if row.status == "pending" and row.not_before]
        return max(asked, default=None)

    def of(self, incident: Incident) -> list[Delivery]:
        """The incident's deliveries to this destination, in order."""
        return sorted((row for (key, _), row in self._rows.items() if key == incident.incident_key), key=_sequence)

    def current(self, incident: Incident) -> Delivery | None:
        """The delivery of the incident's present state."""
        return self._rows.get((incident.incident_key, incident.sequence))

    def was_told_anywhere(self, incident: Incident) -> bool:
        """True when any destination was owed a message about it."""
        return incident.incident_key in self._told

    def earlier(self, incident: Incident) -> Receipt | None:
        """Where the incident's message stands."""
        receipts = [Receipt(row.channel, row.message_ts) for row in self.of(incident) if row.message_ts]
        return receipts[-1] if receipts else None

    def enqueue(self, incidents: Iterable[Incident]) -> None:
        """Owe a message for each; what was still owed for earlier states is carried by it."""
        now = self._clock()
        fresh = [
            Delivery(one.incident_key, one.sequence, self._destination, "pending", "", "", 0, "", now)
            for one in incidents
        ]
        wanted = {row.incident_key: row.sequence for row in fresh}
        stale = [row for row in self.rows if row.status != "sent" and row.sequence < wanted.get(row.incident_key, 0)]
        # The new rows go first: a crash in between leaves a message owed, never one lost.
        self._write(fresh)
        self._write([_superseded(row, wanted[row.incident_key]) for row in stale])

    def begin(self, row: Delivery) -> Delivery:
        """Write down that an attempt begins."""
        return self._write_one(replace(row, status="pending", attempts=row.attempts + 1, error=""))

    def sent(self, row: Delivery, receipt: Receipt) -> None:
        """Write down that the message arrived."""
        self._write_one(replace(row, status="sent", channel=receipt.channel, message_ts=receipt.message_ts, error=""))

    def postponed(self, row: Delivery, error: SlackError, not_before: datetime | None) -> None:
        """Write down that Slack did not take it now; `not_before` when it said until when."""
        suffix = f" [not before {not_before.isoformat()}]" if not_before else ""
        self._write_one(replace(row, error=f"{error}{suffix}"))

    def failed(self, row: Delivery, error: SlackError) -> None:
        """Write down why Slack refused it; it is tried again when somebody has changed something."""
        self._write_one(replace(row, status="failed", error=str(error)))

    def _write_one(self, row: Delivery) -> Delivery:
        return self._write([row])[0]

    def _write(self, rows: Sequence[Delivery]) -> list[Delivery]:
        now = self._clock()
        # Newer than the row that it replaces, whatever the clock does.
        stamped = [replace(row, updated_at=max(now, row.updated_at + timedelta(milliseconds=1))) for row in rows]
        self._store.insert("deliveries", pl.DataFrame([asdict(row) for row in stamped], schema=_SCHEMA))
        self._rows |= {(row.incident_key, row.sequence): row for row in stamped}
        return stamped


def _sequence(row: Delivery) -> int:
    return row.sequence


def _superseded(row: Delivery, by: int) -> Delivery:
    return replace(row, status="sent", error=f"not sent by itself: carried by sequence {by}")
