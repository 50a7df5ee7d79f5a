"""Points in time as people type them: a date, a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from app.errors import CommandError

_SPAN = re.compile(r"(\d+)([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(text: str, now: datetime) -> datetime:
    """A UTC time from '7d' (that long before now), '2026-11-01', '2026-11-01T10:00' or '…+01:00'.

    Times without a zone are UTC. Raises CommandError.
    """
    if text == "now":
        return now
    try:
        if span := _SPAN.fullmatch(text):
            return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
        parsed = datetime.fromisoformat(text)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise CommandError(
            f"expected a date (2026-11-01), a time (2026-11-01T10:00) or a span (30m, 12h, 7d, 4w), got {text!r}"
        ) from None
