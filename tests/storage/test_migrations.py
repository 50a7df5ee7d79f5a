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


def test_a_migration_that_was_cut_short_can_be_run_again(store):
    store.execute("ALTER TABLE schema_migrations DELETE WHERE 1 SETTINGS mutations_sync = 1")
    assert migrate(store) == [migration.name for migration in all_migrations()]
