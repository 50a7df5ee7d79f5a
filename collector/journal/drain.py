"""The thread that takes segments out of a journal, oldest first, and has them stored."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.journal.journal import Journal
    from collector.journal.segment import Segment

logger = logging.getLogger(__name__)

BACKOFF_S_MIN, BACKOFF_S_MAX = 0.5, 10.0


class Drain:
    """Hands the segments of `journal` to `store`, which stores one and takes it out of the journal.

    `store` raises when the segment is to be tried again. It may have been stored before, in this process or
    another: a second time must do nothing.
    """

    def __init__(self, journal: Journal, store: Callable[[Segment], None], wake: threading.Event) -> None:
        self._journal = journal
        self._store = store
        self._wake = wake
        self._progress = threading.Condition()
        self._failures = 0
        self._flush_up_to = self._flushes = 0
        self._stopping = False
        self.last_error: str | None = None
        """Why the last attempt failed; None when it did not."""
        self._thread = threading.Thread(target=self._run, name=f"store-{journal.folder.name}", daemon=True)
        self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Have everything stored that is in the journal now; False when an attempt fails or time is up."""
        return self.wait(self.ask(), timeout_s)

    def ask(self) -> tuple[int, int]:
        """Have everything stored that is in the journal now, without waiting; what `wait` is to be given."""
        up_to = self._journal.newest_number
        with self._progress:
            self._flush_up_to = max(self._flush_up_to, up_to)
            self._flushes += 1
            self._wake.set()
            return up_to, self._failures

    def wait(self, asked: tuple[int, int], timeout_s: float) -> bool:
        """Whether what was asked for is stored; False when an attempt fails or time is up."""
        up_to, failures = asked
        with self._progress:
            self._progress.wait_for(
                lambda: self._is_stored(up_to) or self._failures > failures or self._stopping, timeout_s
            )
            return self._is_stored(up_to)

    def end(self, timeout_s: float) -> bool:
        """Start no more attempts; whether the one under way ended in time. Without an end it dies with the process."""
        with self._progress:
            self._stopping = True
            self._wake.set()
            self._progress.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _is_stored(self, up_to: int) -> bool:
        oldest = self._journal.oldest_number
        return oldest is None or oldest > up_to

    def _run(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while not self._stopping:
            self._wake.clear()
            flushes = self._flushes  # whoever asks from here on is not made to wait out a failure
            segment: Segment | None = None
            try:
                segment = self._journal.oldest(self._flush_up_to)
                if segment:
                    self._store(segment)
            except Exception as error:  # noqa: BLE001 (whatever it is, the segment stays and is tried again)
                self._note(error, segment)
                self._back_off(backoff_s, flushes)
                backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
                continue
            backoff_s = BACKOFF_S_MIN
            if segment:
                self._note_success()
            else:
                self._wake.wait(self._journal.due_in_s())

    def _note_success(self) -> None:
        with self._progress:
            self.last_error = None
            self._progress.notify_all()

    def _note(self, error: Exception, segment: Segment | None) -> None:
        about: dict[str, object] = {"journal": self._journal.folder.name, "error": str(error)}
        if segment:
            about |= {"segment": segment.path.name, "items": segment.items}
        if getattr(error, "retryable", False):
            logger.warning("a segment could not be stored, it is tried again", extra=about)
        else:
            logger.error("a segment could not be stored, it is tried again", extra=about, exc_info=error)
        with self._progress:
            self.last_error = str(error) or type(error).__name__
            self._failures += 1
            self._progress.notify_all()

    def _back_off(self, seconds: float, flushes: int) -> None:
        """Wait, but not once there were more `flushes` or it is the end: whoever asks for them wants to know now."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping and self._flushes == flushes:
            self._wake.wait(left)
            self._wake.clear()
