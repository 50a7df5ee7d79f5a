"""Findings as alerts read them: one episode of a rule on one endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

    from storage import Store

Series = tuple[str, str, str]


@dataclass(frozen=True)
class Finding:
    """One row of `findings`; storage/schema says what the columns mean."""

    finding_id: str
    rule: str
    metric: str
    unit: str
    service: str
    environment: str
    endpoint: str
    started_at: datetime
    last_hour: datetime
    ended_at: datetime | None
    expected: float
    actual: float
    impact_usd: Decimal
    drivers: tuple[str, ...]
    driver_usd: tuple[Decimal, ...]
    cause: str
    deploy: str
    is_withdrawn: bool

    @property
    def series(self) -> Series:
        """Service, environment and endpoint: what an incident is about."""
        return self.service, self.environment, self.endpoint

    @property
    def is_money(self) -> bool:
        """True when `expected` and `actual` are dollars."""
        return "usd" in self.unit.lower() or "$" in self.unit


def read_findings(store: Store) -> list[Finding]:
    """Every finding, withdrawn ones too, oldest first. Findings are episodes: few, however long the history."""
    rows = store.rows("alert_findings")
    return [_finding(row) for row in rows]


def _finding(row: dict[str, Any]) -> Finding:
    lists: dict[str, Any] = {name: tuple(row[name]) for name in ("drivers", "driver_usd")}
    return Finding(**{**row, **lists})


def by_weight(findings: Sequence[Finding]) -> list[Finding]:
    """Heaviest first: by dollars, then earliest. The first one speaks for its incident."""
    return sorted(findings, key=lambda finding: (-finding.impact_usd, finding.started_at, finding.finding_id))


def headline(findings: Sequence[Finding]) -> Finding:
    """The finding that a title is made of: the heaviest that is measured in dollars, else the heaviest."""
    ranked = by_weight(findings)
    return next((finding for finding in ranked if finding.is_money), ranked[0])
