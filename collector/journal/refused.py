"""Rows that the engine refused were acknowledged all the same: they are kept for an operator."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from collector.journal import group as groups
from collector.journal.folder import sync_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from collector.journal.group import Group
    from collector.journal.segment import Segment


def keep_refused(segment: Segment, rows: Sequence[Group], folder: Path) -> Path:
    """Write the rows into a segment file of their own in `folder`, durably; a second time writes the same file.

    Its name differs from the segment's, so that the rows go in when it is moved back into the journal after
    whatever refused them was mended. Raises OSError.
    """
    path = folder / f"{segment.path.stem}-refused.journal"
    with path.open("wb") as file:
        for row in rows:
            file.write(groups.encode(row, path.name.encode()))
        file.flush()
        os.fsync(file.fileno())
    sync_directory(folder)
    return path
