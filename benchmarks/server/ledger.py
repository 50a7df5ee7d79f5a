"""What was acknowledged against what is stored."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from server.bodies import keyed, template
from server.load import HEADERS, PATH

from storage import Store

if TYPE_CHECKING:
    from storage import Location

SPANS_A_BODY = 20
PAUSE_S = 0.2
# A body in so many spans; all or none of them must be stored.
STORED = """
SELECT lower(hex(substring(trace_id, 1, 8))) AS key, count() AS copies, uniqExact(trace_id, span_id) AS spans
FROM spans GROUP BY key
"""


@dataclass
class Ledger:
    """Keys of bodies by what became of them."""

    acknowledged: set[str] = field(default_factory=set[str])
    unanswered: int = 0
    deferred: int = 0
    refused: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def check(self, location: Location) -> dict[str, float | bool]:
        """Read the store and compare. No server may hold it."""
        store = Store.open(location)
        found = {row["key"]: (row["copies"], row["spans"]) for row in store.frame_of(STORED).to_dicts()}
        store.close()
        missing = [key for key in self.acknowledged if found.get(key, (0, 0))[1] != SPANS_A_BODY]
        torn = [key for key, (_, spans) in found.items() if spans != SPANS_A_BODY]
        twice = sum(copies - spans for copies, spans in found.values())
        return {
            "acknowledged_bodies": len(self.acknowledged),
            "unanswered_bodies": self.unanswered,
            "answered_try_again": self.deferred,
            "refused_bodies": self.refused,
            "stored_bodies": len(found),
            "acknowledged_but_not_stored": len(missing),
            "stored_in_part": len(torn),
            "spans_stored_twice": twice,
            "is_sound": bool(self.acknowledged) and not missing and not torn and not twice and not self.refused,
        }


class Senders:
    """Threads that send one body after the other; each body is sent until it is answered, an unanswered one once.

    What the server did with a body that it never answered is unknown: it is not sent again, so that every
    copy beyond the first would be the server's.
    """

    def __init__(self, port: int, ledger: Ledger, threads: int = 4) -> None:
        self._port = port
        self._ledger = ledger
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each end with its body."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        body = template(SPANS_A_BODY)
        while not self._stopping.is_set():
            key, made = keyed(body)
            while send_once(connection, key, made, self._ledger) == "try again":
                if self._stopping.wait(PAUSE_S):
                    break
        connection.close()


def send_once(connection: http.client.HTTPConnection, key: bytes, body: bytes, ledger: Ledger) -> str:
    """Send, note and return what came of it: acknowledged, try again, refused or unanswered."""
    try:
        connection.request("POST", PATH, body, HEADERS)
        answer = connection.getresponse()
        content = answer.read()
    except ConnectionRefusedError:  # nothing was sent
        connection.close()
        return "try again"
    except (OSError, http.client.HTTPException):
        connection.close()
        with ledger.guard:
            ledger.unanswered += 1
        return "unanswered"
    with ledger.guard:
        if answer.status == 200 and not content:
            ledger.acknowledged.add(key.hex())
            return "acknowledged"
        if answer.status in {429, 503}:
            ledger.deferred += 1
            return "try again"
        ledger.refused += 1
    return "refused"
