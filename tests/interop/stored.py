"""What is in the store, once it is there: an acknowledgement says that rows are safe, not that they are stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage import Store

WAIT_S = 60


def stored(store: Store, sql: str, rows: int) -> list[dict[str, Any]]:
    """Rows of a SELECT, as soon as there are so many; what is there when time is up."""
    until = time.monotonic() + WAIT_S
    while True:
        found = store.frame_of(sql).to_dicts()
        if len(found) >= rows or time.monotonic() > until:
            return found
        time.sleep(0.05)
