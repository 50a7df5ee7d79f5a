"""Times as people type them."""

from datetime import UTC, datetime

import pytest

from app.errors import CommandError
from app.timespan import parse_time

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", datetime(2026, 3, 3, 12, 0, tzinfo=UTC)),
        ("90m", datetime(2026, 3, 10, 10, 30, tzinfo=UTC)),
        ("2w", datetime(2026, 2, 24, 12, 0, tzinfo=UTC)),
        ("now", NOW),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T10:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T10:00:00+02:00", datetime(2026, 3, 1, 8, tzinfo=UTC)),
    ],
)
def test_dates_times_and_spans_are_understood_as_utc(text, expected):
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "7 d", "-3d", "2026-13-01", "99999999w", "0001-01-01T00:00+02:00"]
)
def test_anything_else_is_refused_with_examples(text):
    with pytest.raises(CommandError, match=r"expected a date .*, a time .* or a span"):
        parse_time(text, NOW)
