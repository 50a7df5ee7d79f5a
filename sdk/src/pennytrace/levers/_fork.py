"""A child of `os.fork` has one thread: locks that others held would be held for ever, and their work never ends."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What has locks, or waits for other threads."""

    def after_fork(self) -> None:
        """Make the locks anew, and forget what other threads had begun. Runs in the child, before anything else."""
        ...


# One hook for all, since a hook cannot be taken back and owners come and go.
_living: Final[WeakSet[Forkable]] = WeakSet()


def renew_in_children(owner: Forkable) -> None:
    """Call the owner's `after_fork` in forked children, as long as it lives."""
    _living.add(owner)


def _renew() -> None:
    for owner in list(_living):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
