"""Retention drops whole months whose every row is older than it is to be kept."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage import EmbeddedLocation, QueryError, Store
from storage.retention import JOURNAL_MARGIN, DroppedPartition, drop_expired, month_end
from storage.settings import RetentionSettings

DAY = timedelta(days=1)
MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))
NINETY_DAYS = RetentionSettings(spans_days=90, metric_points_days=90, logs_days=90)


@pytest.fixture
def store(tmp_path):
    opened = Store.open(EmbeddedLocation(tmp_path / "data"))
    yield opened
    opened.close()


def fill(store):
    """One span a day from 1 May on, 80 days; metric points likewise."""
    store.execute(
        "INSERT INTO spans (started_at, trace_id, span_id) "
        "SELECT toDateTime64('2026-05-01 12:00:00', 9, 'UTC') + INTERVAL number DAY, '1', toString(number) "
        "FROM numbers(80)"
    )
    store.execute(
        "INSERT INTO metric_points (time, metric) "
        "SELECT toDateTime64('2026-05-01 12:00:00', 9, 'UTC') + INTERVAL number DAY, 'm' FROM numbers(80)"
    )


def oldest(store, table="spans", column="started_at"):
    return store.frame_of(f"SELECT min({column}) AS oldest, count() AS rows FROM {table}").row(0)


def test_a_month_goes_when_its_last_row_is_older_than_it_is_kept(store):
    fill(store)
    due = JUNE + 90 * DAY + JOURNAL_MARGIN
    assert drop_expired(store, NINETY_DAYS, due - timedelta(seconds=1)) == []
    assert drop_expired(store, NINETY_DAYS, due) == [
        DroppedPartition("spans", "202605", JUNE, 31),
        DroppedPartition("metric_points", "202605", JUNE, 31),
    ]
    assert oldest(store) == (JUNE + timedelta(hours=12), 49)
    assert oldest(store, "metric_points", "time") == (JUNE + timedelta(hours=12), 49)


def test_a_second_run_finds_nothing_more_to_drop(store):
    fill(store)
    due = JULY + 90 * DAY + JOURNAL_MARGIN
    assert len(drop_expired(store, NINETY_DAYS, due)) == 4
    assert drop_expired(store, NINETY_DAYS, due) == []


def test_what_was_dropped_is_recorded_with_its_end_and_rows(store):
    fill(store)
    now = JUNE + 93 * DAY
    drop_expired(store, NINETY_DAYS, now)
    recorded = store.frame_of("SELECT * FROM dropped_partitions FINAL ORDER BY table_name").rows()
    assert recorded == [("metric_points", "202605", JUNE, 31, now), ("spans", "202605", JUNE, 31, now)]
    assert store.rows("dropped_until") == [{"until": JUNE}]


def test_it_is_written_down_before_anything_is_dropped(store):
    fill(store)
    store.execute("RENAME TABLE dropped_partitions TO away")
    with pytest.raises(QueryError):
        drop_expired(store, NINETY_DAYS, JUNE + 93 * DAY)
    assert oldest(store)[1] == 80


def test_zero_days_keep_for_ever(store):
    fill(store)
    for_ever = RetentionSettings(spans_days=0, metric_points_days=0, logs_days=0)
    assert drop_expired(store, for_ever, MAY + 36_500 * DAY) == []


def test_each_table_has_its_own_days(store):
    fill(store)
    only_points = RetentionSettings(spans_days=0, metric_points_days=30)
    dropped = drop_expired(store, only_points, JUNE + 33 * DAY)
    assert [(each.table_name, each.month) for each in dropped] == [("metric_points", "202605")]


@given(st.dates(datetime(1999, 1, 1).date(), datetime(2199, 12, 31).date()))  # noqa: DTZ001 - a date
def test_a_month_ends_where_the_next_begins(day):
    end = month_end(f"{day:%Y%m}")
    assert end.day == 1
    assert (end - DAY).strftime("%Y%m") == f"{day:%Y%m}"


@pytest.mark.parametrize(
    ("spans_days", "metric_points_days", "wanted", "accepted"),
    [(90, 30, 1826, 30), (30, 90, 1826, 30), (0, 0, 1826, 1826), (0, 400, 1826, 400), (1826, 1826, 7, 7)],
)
def test_nothing_is_accepted_that_retention_would_drop(spans_days, metric_points_days, wanted, accepted):
    settings = RetentionSettings(spans_days=spans_days, metric_points_days=metric_points_days)
    assert settings.accepted_past_days(wanted) == accepted


def test_negative_days_are_refused():
    with pytest.raises(ValidationError):
        RetentionSettings(spans_days=-1)
