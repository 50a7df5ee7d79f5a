"""Opening a store that may not be there yet."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from storage import Store, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage import Location

log = logging.getLogger(__name__)

RETRY_S = 3.0


def open_store(location: Location, wait_s: float, sleep: Callable[[float], None] = time.sleep) -> Store:
    """Open the store; while it does not answer, try again for `wait_s` seconds with a log line each time.

    A machine that starts a database and this server together starts them in any order. Raises what Store.open
    raises: at once where waiting does not help.
    """
    give_up = time.monotonic() + wait_s
    while True:
        try:
            return Store.open(location)
        except StoreUnavailableError as error:
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                raise
            log.warning("the store does not answer yet", extra={"error": str(error), "waiting_s": round(left_s)})
            sleep(min(RETRY_S, left_s))
