"""The scheduled job, once: price what is new, find what moved, open or close incidents, tell people."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from alerts import deliver, incidents, update_incidents
from analytics.findings import detect, findings
from analytics.ledger import recompute
from storage.retention import drop_expired

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from alerts.settings import AlertSettings
    from analytics.ledger import LedgerRun
    from app.settings import Settings
    from storage import Store

log = logging.getLogger(__name__)

# Windows are a day long and episodes need hours of quiet to end.
JUDGED_AGAIN = timedelta(days=3)
# A store that is away ends the wait at once; one that is busy with a large replay needs some seconds.
FLUSH_S_MAX = 60.0
# Partitions are months.
RETENTION_INTERVAL = timedelta(days=1)


@dataclass(frozen=True)
class JobReport:
    """What one run did. `delivery_error` says why messages are still owed, if any attempt failed."""

    hours: int
    calls: int
    findings_open: int
    incidents_open: int
    messages_sent: int
    messages_owed: int
    delivery_error: str | None
    seconds: float


class Job:
    """The job over one store; runs never overlap. Messages link to `page_url` unless a setting says otherwise.

    `flush` stores what was acknowledged before, within so many seconds, or returns False.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Callable[[], datetime],
        console: Callable[[str], None],
        page_url: str = "",
        flush: Callable[[float], bool] = lambda _timeout_s: True,
    ) -> None:
        self._store = store
        self._alerts = settings.alerts if settings.alerts.page_url else _linking(settings.alerts, page_url)
        self._settings = settings
        self._clock = clock
        self._console = console
        self._flush = flush
        self._one_at_a_time = threading.Lock()
        # Hours that an earlier run recomputed and then failed to judge are in no later run's list.
        self._must_judge_all = True
        self._retention_due: datetime | None = None

    def run(self, progress: Callable[[int, int], None] | None = None, *, everything: bool = False) -> JobReport:
        """Process every hour that received rows since the last run (or every hour), then findings and incidents.

        `progress` gets hours done and hours in all.
        """
        with self._one_at_a_time:
            report = self._run(progress, everything=everything)
        log.info("job finished", extra=asdict(report))
        return report

    def wait(self) -> None:
        """Return when no run is under way."""
        with self._one_at_a_time:
            return

    def _run(self, progress: Callable[[int, int], None] | None, *, everything: bool) -> JobReport:
        began = time.monotonic()
        store, settings, clock = self._store, self._settings, self._clock
        judge_all = everything or self._must_judge_all
        self._must_judge_all = True
        all_stored = self._flush(FLUSH_S_MAX)
        if not all_stored:
            log.warning("the newest rows are not stored yet; a later run prices them")
        ledger = recompute(store, settings.ledger, clock, progress, everything=everything)
        detect(store, settings.findings, clock, None if judge_all else self._judged_since(ledger))
        self._must_judge_all = False
        update_incidents(store, self._alerts, clock)
        if all_stored:  # a month is dropped only after everything that was acknowledged of it is priced
            self._drop_expired()
        delivery = deliver(store, self._alerts, settings.slack, clock, self._console)
        if delivery.error:
            log.error(
                "messages could not be delivered", extra={"owed": delivery.pending, "reason": str(delivery.error)}
            )
        return JobReport(
            hours=ledger.hours,
            calls=ledger.calls,
            findings_open=findings(store, open_only=True).height,
            incidents_open=incidents(store, "open").height,
            messages_sent=delivery.sent,
            messages_owed=delivery.pending + delivery.failed,
            delivery_error=str(delivery.error) if delivery.error else None,
            seconds=time.monotonic() - began,
        )

    def _drop_expired(self) -> None:
        """Retention, at most daily; after the ledger, so that no hour is dropped that was never computed."""
        now = self._clock()
        if self._retention_due and now < self._retention_due:
            return
        drop_expired(self._store, self._settings.retention, now)
        self._retention_due = now + RETENTION_INTERVAL

    def _judged_since(self, ledger: LedgerRun) -> datetime:
        """From when on hours are judged again: what was recomputed, and the last days for what time itself ends."""
        recent = self._clock() - JUDGED_AGAIN
        return min(ledger.first_hour, recent) if ledger.first_hour else recent


def _linking(alerts: AlertSettings, page_url: str) -> AlertSettings:
    return alerts.model_copy(update={"page_url": page_url})
