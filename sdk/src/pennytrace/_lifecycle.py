"""The end of the process where `atexit` does not see it: SIGTERM, and children that multiprocessing forked."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import util as multiprocessing_util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def flush_in_forked_children(owner: object, stop: Callable[[], None]) -> None:
    """Run `stop` when a child that multiprocessing forked ends: such a child runs no `atexit` functions.

    `owner` must live as long as this is wanted.
    """
    multiprocessing_util.register_after_fork(owner, lambda _: multiprocessing_util.Finalize(None, stop, exitpriority=0))


class OnSigterm:
    """Our handler, which goes before the one that was there."""

    def __init__(
        self, stop: Callable[[], None], hurry: Callable[[], None], before: Callable[..., object] | None
    ) -> None:
        self._stop = stop
        self._hurry = hurry
        self._before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Where the application has a handler: hurry, and leave the rest to it. Else send all and die by the signal."""
        if self._before is not None:
            self._hurry()
            self._before(number, frame)
            return
        self._stop()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def flush_on_sigterm(stop: Callable[[], None], hurry: Callable[[], None]) -> bool:
    """Where SIGTERM has its default action, run `stop` first and then die by the signal all the same.

    A handler that the application has is called after `hurry`: some servers (uvicorn) finish their requests and then
    raise the signal again with its default action, so that no `atexit` function runs. One that the application
    sets later replaces ours. Only the main thread can set one; elsewhere, and off POSIX, this does nothing.
    Returns whether ours is set.
    """
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        return False
    before = signal.getsignal(signal.SIGTERM)
    if isinstance(before, OnSigterm):
        return True
    if before is not signal.SIG_DFL and not callable(before):
        return False
    signal.signal(signal.SIGTERM, OnSigterm(stop, hurry, before if callable(before) else None))
    return True
