"""Numbered, forward-only schema files: storage/schema/NNNN_what.sql.

Each applied file is recorded by name, sha256 and time. A landed file is never edited: a change is a new
file. Statements in a file end with a semicolon at the end of a line.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from storage.errors import IncompatibleServerError

if TYPE_CHECKING:
    from storage.store import Store

RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  name String, sha256 FixedString(64), applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY name
"""


@dataclass(frozen=True)
class Migration:
    """One schema file."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hex digest of the file's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The file's statements without their closing semicolons."""
        without_comments = re.sub(r"^--.*\n", "", self.text, flags=re.MULTILINE)
        return [part.strip() for part in re.split(r";\s*(?:\n|$)", without_comments) if part.strip()]


def all_migrations() -> list[Migration]:
    """Every schema file in the order of its number."""
    folder = files("storage").joinpath("schema")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [Migration(name, folder.joinpath(name).read_text()) for name in names]


def migrate(store: Store) -> list[str]:
    """Apply what is missing, in order; returns the names of the files applied.

    Raises IncompatibleServerError when the database has a file that this program does not know, or knows
    with another text.
    """
    store.execute(RECORD)
    applied = {
        row["name"]: row["sha256"].decode() if isinstance(row["sha256"], bytes) else row["sha256"]
        for row in store.frame_of("SELECT name, sha256 FROM schema_migrations FINAL").to_dicts()
    }
    known = all_migrations()
    _require_known(applied, {migration.name: migration.sha256 for migration in known})
    missing = [migration for migration in known if migration.name not in applied]
    for migration in missing:
        for statement in migration.statements:
            store.execute(statement)
        store.execute(
            "INSERT INTO schema_migrations (name, sha256) VALUES ({name:String}, {sha256:String})",
            {"name": migration.name, "sha256": migration.sha256},
        )
    return [migration.name for migration in missing]


def _require_known(applied: dict[str, str], known: dict[str, str]) -> None:
    for name, sha256 in applied.items():
        if name not in known:
            raise IncompatibleServerError(
                f"the database has schema {name}, which this version of Pennytrace does not know: upgrade Pennytrace"
            )
        if known[name] != sha256:
            raise IncompatibleServerError(
                f"schema {name} was applied with another text than this version of Pennytrace has: "
                "use the version that created the database, or start an empty one"
            )
