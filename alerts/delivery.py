"""Send what is owed: one message an incident, no repeats while it stays open, a resolve when it ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from alerts.destinations import destination
from alerts.errors import SlackError, SlackRateLimitedError, SlackRefusedError, SlackUnavailableError
from alerts.findings import read_findings
from alerts.incidents import read_incidents
from alerts.message import describe
from alerts.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from alerts.destinations import Destination
    from alerts.grouping import Incident
    from alerts.message import Message
    from alerts.settings import AlertSettings, SlackSettings
    from storage import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeliveryRun:
    """What one run did.

    `pending` and `failed` count messages still owed after it; `error` is why the run stopped or a message
    failed; `retry_at` is when Slack allows the next attempt, if it said so.
    """

    destination: str
    sent: int
    pending: int
    failed: int
    error: SlackError | None = None
    retry_at: datetime | None = None


def deliver(
    store: Store,
    settings: AlertSettings,
    slack_settings: SlackSettings,
    clock: Callable[[], datetime],
    console: Callable[[str], None],
) -> DeliveryRun:
    """Send every message that is owed; without a token or a webhook, print it.

    Nothing is lost: what Slack does not take stays in the outbox for the next run. Raises StoreError only.
    """
    target = destination(slack_settings, console)
    outbox = Outbox(store, target.name, clock)
    incidents = [one for one in read_incidents(store) if _is_owed(one, outbox, target, settings, clock())]
    outbox.enqueue(one for one in incidents if outbox.current(one) is None)
    waits_until = outbox.not_before
    if not incidents or (waits_until and clock() < waits_until):
        return _summary(outbox, sent=0, error=None, target=target)
    sent, error = _send_all(store, settings, incidents[: settings.messages_per_run_max], outbox, target, clock)
    return _summary(outbox, sent=sent, error=error, target=target)


def _is_owed(incident: Incident, outbox: Outbox, target: Destination, settings: AlertSettings, now: datetime) -> bool:
    row = outbox.current(incident)
    if row is not None:
        return row.status != "sent"
    rows = outbox.of(incident)
    if any(row.status == "sent" for row in rows):
        return incident.state != "acknowledged" or target.tells_acknowledged
    if rows:
        return True
    if incident.state != "resolved":
        return True
    # It ended before anybody was told: news if it is recent, history if a backfill brought it.
    end = incident.resolved_at or incident.updated_at
    return not outbox.was_told_anywhere(incident) and end >= now - timedelta(days=settings.max_age_days)


def _send_all(
    store: Store,
    settings: AlertSettings,
    incidents: list[Incident],
    outbox: Outbox,
    target: Destination,
    clock: Callable[[], datetime],
) -> tuple[int, SlackError | None]:
    """Send in order of onset; stops at an error that the next message would meet too."""
    findings = {finding.finding_id: finding for finding in read_findings(store)}
    sent = 0
    last_error: SlackError | None = None
    for incident in incidents:
        valid = [findings[name] for name in incident.finding_ids if name in findings]
        message = describe(incident, [one for one in valid if not one.is_withdrawn], settings.page_url)
        error = _send(incident, message, outbox, target, clock)
        sent += error is None
        last_error = error or last_error
        if error and not (isinstance(error, SlackRefusedError) and error.is_about_message):
            break
    return sent, last_error


def _send(
    incident: Incident, message: Message, outbox: Outbox, target: Destination, clock: Callable[[], datetime]
) -> SlackError | None:
    """One attempt, with the outbox told before and after."""
    maybe_sent = any(row.may_have_arrived for row in outbox.of(incident))
    row = outbox.current(incident)
    if row is None:
        raise LookupError(f"expected incident {incident.incident_key} in the outbox, got none: enqueue it first")
    row = outbox.begin(row)
    try:
        receipt = target.send(message, outbox.earlier(incident), maybe_sent=maybe_sent)
    except SlackUnavailableError as error:
        outbox.postponed(row, error, _not_before(error, clock()))
        logger.warning("slack is not taking messages, they stay in the outbox", extra={"code": error.code})
        return error
    except SlackError as error:
        outbox.failed(row, error)
        logger.error("slack refused a message", extra={"code": error.code, "remedy": error.remedy})
        return error
    outbox.sent(row, receipt)
    return None


def _not_before(error: SlackUnavailableError, now: datetime) -> datetime | None:
    return now + timedelta(seconds=error.retry_after_s) if isinstance(error, SlackRateLimitedError) else None


def _summary(outbox: Outbox, *, sent: int, error: SlackError | None, target: Destination) -> DeliveryRun:
    statuses = [row.status for row in outbox.rows]
    run = DeliveryRun(
        destination=target.name,
        sent=sent,
        pending=statuses.count("pending"),
        failed=statuses.count("failed"),
        error=error,
        retry_at=outbox.not_before,
    )
    if sent:
        logger.info("messages sent", extra={"sent": sent, "pending": run.pending, "failed": run.failed})
    return run
