"""What is said about an incident, before it is laid out for Slack or for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from alerts.findings import by_weight, headline
from alerts.wording import comparison, dollars, movement, places, plain, round_to, rounded_parts, title_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerts.findings import Finding
    from alerts.grouping import Incident

EVENT_TYPE = "pennytrace_incident"
CAUSE_CHARACTERS_MAX = 1000
# More than these would push the cause off the screen; what is left out is summed up or counted.
PARTS_MAX = 10
OTHERS_MAX = 8
# Slack takes no address over 3,000 characters: a longer name is left out of the link.
LINK_PAIR_CHARACTERS_MAX = 1000


@dataclass(frozen=True)
class Part:
    """One driver and its share of the impact, signed and rounded like the total."""

    label: str
    amount: str


@dataclass(frozen=True)
class Message:
    """One incident in words. Nothing is escaped yet; every name is on one line and of bounded length."""

    incident_key: str
    sequence: int
    state: str
    title: str
    place: str
    period: str
    moved: str
    others: tuple[str, ...]
    impact: str
    parts: tuple[Part, ...]
    cause: str
    deploy: str
    link: str

    @property
    def first_line(self) -> str:
        """`[open] chat: cost per 1,000 requests $1.20 → $1.71 (+42 %)`."""
        return f"[{self.state}] {self.title}"

    @property
    def metadata(self) -> dict[str, Any]:
        """Slack message metadata by which programs recognise the message."""
        payload = {"incident_key": self.incident_key, "state": self.state, "sequence": self.sequence}
        return {"event_type": EVENT_TYPE, "event_payload": payload}


def describe(incident: Incident, findings: Sequence[Finding], page_url: str = "") -> Message:
    """The message for an incident from its own findings; without any left, from the incident alone."""
    ranked = by_weight(findings)
    main = headline(ranked) if ranked else None
    return Message(
        incident_key=incident.incident_key,
        sequence=incident.sequence,
        state=incident.state,
        title=title_of(main) if main else plain(incident.title, 200),
        place=_place(incident),
        period=_period(incident),
        moved=comparison(main) if main else "",
        others=_others([finding for finding in ranked if finding is not main]),
        impact=dollars(incident.impact_usd) + ("" if incident.resolved_at else " so far"),
        parts=_parts(incident),
        cause=plain(incident.cause, CAUSE_CHARACTERS_MAX),
        deploy=plain(incident.deploy, 200),
        link=_link(incident, page_url),
    )


def _place(incident: Incident) -> str:
    named = {
        "service": incident.service,
        "environment": incident.environment,
        "endpoint": incident.endpoint,
    }
    return " · ".join(f"{name} {plain(value)}" for name, value in named.items() if value)


def _period(incident: Incident) -> str:
    since = f"since {_moment(incident.opened_at)}"
    if incident.state != "resolved":
        return since
    if incident.resolved_at is None:
        return f"{since}, closed by hand while it lasted"
    hours = (incident.resolved_at - incident.opened_at).total_seconds() / 3600
    return f"{_moment(incident.opened_at)} to {_moment(incident.resolved_at)} ({hours:,.0f} h)"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _others(rest: Sequence[Finding]) -> tuple[str, ...]:
    lines = tuple(dict.fromkeys(f"{movement(finding)} [{plain(finding.rule)}]" for finding in rest))
    if len(lines) <= OTHERS_MAX:
        return lines
    return (*lines[:OTHERS_MAX], f"and {len(lines) - OTHERS_MAX} more")


def _parts(incident: Incident) -> tuple[Part, ...]:
    """The split by driver, largest first; it adds up to the impact as shown, and says so when it did not."""
    pairs = list(zip(incident.drivers, incident.driver_usd, strict=True))
    if not pairs:
        return ()
    pairs.sort(key=lambda pair: (-abs(pair[1]), pair[0]))
    kept = [(plain(name.replace("_", " ")), amount) for name, amount in pairs[:PARTS_MAX]]
    dropped = sum((amount for _, amount in pairs[PARTS_MAX:]), Decimal(0))
    missing = incident.impact_usd - sum(incident.driver_usd, Decimal(0))
    kept += [(name, amount) for name, amount in (("other drivers", dropped), ("not explained", missing)) if amount]
    shown = rounded_parts([amount for _, amount in kept], incident.impact_usd)
    digits = places(incident.impact_usd)
    return tuple(
        Part(name, f"{'+' if amount > 0 else ''}{dollars(amount, digits)}")
        for (name, _), amount in zip(kept, shown, strict=True)
        if round_to(amount, digits)
    )


def _link(incident: Incident, page_url: str) -> str:
    if not page_url:
        return ""
    wanted = {"service": incident.service, "endpoint": incident.endpoint}
    encoded = (urlencode({name: value}, errors="replace") for name, value in wanted.items() if value)
    query = "&".join(pair for pair in encoded if len(pair) <= LINK_PAIR_CHARACTERS_MAX)
    return f"{page_url}/?{query}" if query else f"{page_url}/"


def as_text(message: Message) -> str:
    """The message for a terminal; the first line carries the state."""
    lines = [message.first_line, f"  {message.place} · {message.period}"]
    lines += [f"  Moved    {message.moved}"] if message.moved else []
    lines.append(f"  Impact   {message.impact}")
    width = max((len(part.amount) for part in message.parts), default=0)
    lines += [f"    {part.amount:>{width}}  {part.label}" for part in message.parts]
    named = {"Cause": message.cause, "Deploy": message.deploy, "Page": message.link}
    lines += [f"  {name:<8} {value}" for name, value in named.items() if value]
    lines += [f"  Also     {other}" for other in message.others]
    return "\n".join([*lines, f"  Incident {message.incident_key}"])
