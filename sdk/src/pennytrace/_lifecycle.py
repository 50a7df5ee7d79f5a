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


def flush_on_sigterm(stop: Callable[[], None]) -> bool:
    """Where SIGTERM has its default action, run `stop` first and then die by the signal all the same.

    A handler that the application has, or sets later, stays as it is. Only the main thread can set one;
    elsewhere, and off POSIX, this does nothing. Returns whether the handler was set.
    """
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        return False
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False

    def on_sigterm(number: int, _frame: FrameType | None) -> None:
        stop()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, on_sigterm)
    return True
