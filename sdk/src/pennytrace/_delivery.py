"""Encodes a batch and sends it until somebody decides: the backend, the clock, or the end of the process."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from pennytrace._encode import Encoder
from pennytrace._sending import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from pennytrace._sending import Sender

_log = logging.getLogger("pennytrace")

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 15.0
"""Pauses double from the first to this, each give or take a fifth, so that workers do not come back together."""
GIVE_UP_S: Final = 300.0
"""A batch that a backend keeps turning away is given up after this, in case the batch itself is the reason.

A backend that cannot be reached says nothing about the batch."""
RETRY_AFTER_MAX_S: Final = 60.0
"""A server that asks for longer is asked again after this: a batch that waits for hours holds up all behind it."""
REQUEST_BYTES_MAX: Final = 4_000_000
"""Larger batches are sent in halves: servers refuse bodies above a limit, often 4 MiB."""
LAST_PAUSE_S: Final = 0.2
"""Between attempts while the process waits for its end; a longer `Retry-After` is not outlived."""
ATTEMPT_S_MIN: Final = 0.05
"""Even the last attempt gets this long."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a batch's spans."""

    delivered: int = 0
    failed: int = 0
    dropped: int = 0

    def __add__(self, other: Settled) -> Settled:
        return Settled(self.delivered + other.delivered, self.failed + other.failed, self.dropped + other.dropped)


class Delivery:
    """The export thread's work. `seconds_left`: until the process's end, None while that is not in sight.

    `pause` waits so many seconds, or until the end comes in sight. `breathe` is called while encoding.
    """

    def __init__(
        self,
        sender: Sender,
        request_timeout_s: float,
        seconds_left: Callable[[], float | None],
        pause: Callable[[float], None],
        breathe: Callable[[], None],
    ) -> None:
        self._sender = sender
        self._request_timeout_s = request_timeout_s
        self._seconds_left = seconds_left
        self._pause = pause
        self._encoder = Encoder(breathe)
        self._random = Random()  # noqa: S311 # for the pauses between attempts
        self._in_outage = False

    def deliver(self, spans: Sequence[ReadableSpan]) -> Settled:
        """Send a batch, in as many requests as its size wants."""
        body, broken = self._encoder.request(spans)
        if len(body) > REQUEST_BYTES_MAX and len(spans) > 1:
            half = len(spans) // 2
            return self.deliver(spans[:half]) + self.deliver(spans[half:])
        return Settled(failed=broken) + self._send(body, len(spans) - broken)

    def _send(self, body: bytes, spans: int) -> Settled:
        if not spans:
            return Settled()
        turned_away_s: float | None = None
        for pause_s in self._pauses_s():
            left_s = self._seconds_left()
            if left_s is not None and left_s <= 0:
                return Settled(dropped=spans)
            outcome = self._attempt(body, left_s)
            if outcome.verdict is Verdict.DELIVERED:
                return self._taken(spans, outcome)
            turned_away_s = (turned_away_s or time.monotonic()) if outcome.reached else None
            too_long = turned_away_s is not None and time.monotonic() > turned_away_s + GIVE_UP_S
            if outcome.verdict is Verdict.REFUSED or too_long:
                _log.warning(
                    "The backend refused a batch, which is counted as failed",
                    extra={"reason": outcome.reason, "spans": spans},
                )
                return Settled(failed=spans)
            self._wait(outcome, pause_s)
        raise AssertionError("the pauses do not end")

    def _attempt(self, body: bytes, left_s: float | None) -> Outcome:
        within_s = self._request_timeout_s if left_s is None else min(self._request_timeout_s, left_s)
        return self._sender.send(body, max(within_s, ATTEMPT_S_MIN))

    def _taken(self, spans: int, outcome: Outcome) -> Settled:
        if self._in_outage:
            self._in_outage = False
            _log.info("The backend takes spans again")
        rejected = min(outcome.rejected, spans)
        return Settled(delivered=spans - rejected, failed=rejected)

    def _wait(self, outcome: Outcome, pause_s: float) -> None:
        if not self._in_outage:
            self._in_outage = True
            _log.warning(
                "The backend does not take spans now; they are queued and sent again", extra={"reason": outcome.reason}
            )
        if self._seconds_left() is not None:
            pause_s = LAST_PAUSE_S
        self._pause(max(pause_s, min(outcome.retry_after_s or 0.0, RETRY_AFTER_MAX_S)))

    def _pauses_s(self) -> Iterator[float]:
        pause_s = RETRY_FIRST_S
        while True:
            yield pause_s * self._random.uniform(0.8, 1.2)
            pause_s = min(2 * pause_s, RETRY_MAX_S)
