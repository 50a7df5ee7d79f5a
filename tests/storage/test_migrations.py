"""Schema files are numbered, applied once, and never changed afterwards."""

import re

import pytest

from storage import EmbeddedLocation, IncompatibleServerError, Store
from storage.migrations import all_migrations, migrate


@pytest.fixture
def store(tmp_path):
    opened = Store.open(EmbeddedLocation(tmp_path / "data"))
    yield opened
    opened.close()


def test_files_are_numbered_without_gaps():
    numbers = [int(re.fullmatch(r"(\d{4})_\w+\.sql", migration.name)[1]) for migration in all_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_file_is_recorded_and_a_second_run_applies_nothing(store):
    recorded = store.frame_of("SELECT name, sha256 FROM schema_migrations FINAL ORDER BY name")
    assert recorded["name"].to_list() == [migration.name for migration in all_migrations()]
    assert migrate(store) == []


def test_a_database_of_a_newer_version_is_refused(store):
    store.execute("INSERT INTO schema_migrations (name, sha256) VALUES ('9999_future.sql', '0')")
    with pytest.raises(IncompatibleServerError, match="upgrade Pennytrace"):
        migrate(store)


def test_an_edited_file_is_refused(store):
    name = all_migrations()[0].name
    store.execute("INSERT INTO schema_migrations (name, sha256) VALUES ({name:String}, 'other')", {"name": name})
    with pytest.raises(IncompatibleServerError, match="another text"):
        migrate(store)


def schema_of(store):
    tables = store.frame_of(
        "SELECT name, create_table_query FROM system.tables "
        "WHERE database = 'pennytrace' AND name != 'schema_migrations' ORDER BY name"
    )
    return tables.rows()


def test_a_migration_that_was_cut_short_anywhere_can_be_run_again(store):
    schema = schema_of(store)
    store.execute("DROP DATABASE pennytrace SYNC")
    store.execute("CREATE DATABASE pennytrace")
    for migration in all_migrations():
        for done in range(1, len(migration.statements) + 1):
            for statement in migration.statements[:done]:
                store.execute(statement)
    assert schema_of(store) == schema


def start_before(store, name):
    """Leave the store as the files before this one made it; returns the statements that are missing."""
    store.execute("DROP DATABASE pennytrace SYNC")
    store.execute("CREATE DATABASE pennytrace")
    for migration in all_migrations():
        if migration.name < name:
            for statement in migration.statements:
                store.execute(statement)
    return [part for migration in all_migrations() if migration.name >= name for part in migration.statements]


def test_spans_stored_before_an_upgrade_keep_their_types_and_take_new_neighbours(store):
    missing = start_before(store, "0005")
    store.execute(
        "INSERT INTO spans (started_at, trace_id, span_id, attributes, attribute_types) "
        "SELECT toDateTime64('2026-01-01', 9, 'UTC'), '1', '1', map('a', '1', 'b', '', 'c', 'x'), ['i', 'no', 's']"
    )
    for statement in missing:
        store.execute(statement)
    store.execute(
        "INSERT INTO spans (started_at, trace_id, span_id, attributes, attribute_type_codes) "
        "SELECT toDateTime64('2026-01-01', 9, 'UTC'), '1', '2', map('a', 'true'), '2'"
    )
    store.execute("OPTIMIZE TABLE spans FINAL")
    kept = store.frame_of(
        "SELECT mapKeys(attributes) AS keys, CAST(attribute_types, 'Array(String)') AS types "
        "FROM spans ORDER BY span_id"
    )
    assert kept.rows() == [(["a", "b", "c"], ["i", "no", "s"]), (["a"], ["b"])]


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("spans", "toDateTime64('2026-01-01', 9, 'UTC') AS started_at, '1' AS trace_id, '1' AS span_id"),
        ("metric_points", "toDateTime64('2026-01-01', 9, 'UTC') AS time, 'm' AS metric, 'sum' AS kind"),
    ],
)
def test_a_row_stored_before_an_upgrade_is_replaced_by_its_own_tenant_and_by_no_other(store, table, key):
    def insert(tenant, received):
        row = f"'{tenant}' AS tenant, fromUnixTimestamp({received}) AS received_at, {key}"
        names = re.findall(r"AS (\w+)", row)
        store.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {row}")

    def kept(final):
        found = store.frame_of(f"SELECT tenant, toInt64(toUnixTimestamp(received_at)) AS received FROM {table} {final}")
        return sorted(found.rows())

    missing = start_before(store, "0005")
    insert("acme", 1)
    for statement in missing:
        store.execute(statement)
    insert("acme", 2)
    insert("rival", 3)
    assert kept("FINAL") == [("acme", 2), ("rival", 3)]
    store.execute(f"OPTIMIZE TABLE {table} FINAL")
    assert kept("") == [("acme", 2), ("rival", 3)]


def test_whatever_is_the_only_copy_of_something_is_synced_to_disk(store):
    synced = store.frame_of(
        "SELECT name FROM system.tables WHERE database = 'pennytrace' "
        "AND create_table_query LIKE '%fsync_after_insert = 1, fsync_part_directory = 1%' ORDER BY name"
    )
    assert synced["name"].to_list() == [
        "calls_by_generation",
        "cost_hourly_by_generation",
        "dirty_hours",
        "dropped_partitions",
        "gpu_hourly_by_generation",
        "hour_runs",
        "log_records",
        "metric_points",
        "replica_hourly_by_generation",
        "spans",
    ]
