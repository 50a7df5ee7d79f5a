"""A store of answers that never breaks a call: what fails is counted, and a store that fails is left alone a while."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pennytrace._errors import ConfigurationError
from pennytrace._guard import Guard
from pennytrace.levers._clock import steady_now, utc_now
from pennytrace.levers._codec import Codec, Entry, JsonCodec, PickleCodec, entry_from
from pennytrace.levers._rest import Rest
from pennytrace.levers._store import MemoryStore, Store

if TYPE_CHECKING:
    from pennytrace._usage import Answer
    from pennytrace.levers._clock import Clock

ENTRY_BYTES_MAX: Final = 1024 * 1024
"""A larger answer is not kept: it would push out many others, or hold up a shared store."""

_looking = Guard("looking into the cache's store")
_packing = Guard("turning an answer into bytes for the cache")
_storing = Guard("keeping an answer in the cache's store")


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer: what its making was paid with, its age where it came from the store, its bytes where it has some."""

    value: Any
    answers: tuple[Answer, ...]
    payload: bytes | None = None
    age_s: float | None = None


class Shelf:
    """Answers by key, no older than `ttl_s`. `clock` stands in for those that tell ages and rests.

    Raises ConfigurationError for pickles in a shared store that nobody signs: whoever writes there would run code here.
    """

    def __init__(self, store: Store, codec: Codec | None, ttl_s: float, clock: Clock | None) -> None:
        self.in_memory = isinstance(store, MemoryStore)
        self._store = store
        self._codec = codec or (PickleCodec() if self.in_memory else JsonCodec())
        self._ttl_s = ttl_s
        self._clock = clock or (steady_now if self.in_memory else utc_now)
        self._rest = Rest(clock or steady_now)
        if isinstance(codec, PickleCodec) and not (self.in_memory or codec.is_signing):
            raise ConfigurationError("expected a secret for pickles in a shared store, got none; PickleCodec(secret)")

    def find(self, key: str) -> Kept | None:
        """The answer that is kept, if it is fresh enough."""
        if self._rest.is_on:
            return None
        with _looking:
            entry = self._entry(key)
            age_s = 0.0 if entry is None else self._clock().timestamp() - entry.made_at_s
            # An answer from the future is one of unknown age: a clock was set back.
            if entry is not None and 0 <= age_s < self._ttl_s:
                return Kept(self._codec.loads(entry.payload), entry.answers, entry.payload, age_s)
        return None

    def packed(self, value: object, answers: tuple[Answer, ...]) -> Kept:
        """An answer with its bytes; without them where it cannot be given twice, such as a stream."""
        if not _is_consumed(value):
            with _packing:
                return Kept(value, answers, self._codec.dumps(value))
        return Kept(value, answers)

    def keep(self, key: str, made: Kept) -> None:
        """Keep an answer, unless it is too large."""
        if made.payload is None or len(made.payload) > ENTRY_BYTES_MAX or self._rest.is_on:
            return
        entry = Entry(self._clock().timestamp(), made.answers, made.payload).to_bytes()
        with _storing:
            data = self._codec.sealed(key, entry) if isinstance(self._codec, PickleCodec) else entry
            self._rest.ask(lambda: self._store.set(key, data, self._ttl_s))

    async def find_async(self, key: str) -> Kept | None:
        """`find`, from a thread where the store may block."""
        return self.find(key) if self.in_memory else await asyncio.to_thread(self.find, key)

    async def keep_async(self, key: str, made: Kept) -> None:
        """`keep`, from a thread where the store may block."""
        if self.in_memory:
            self.keep(key, made)
        else:
            await asyncio.to_thread(self.keep, key, made)

    def shared(self, made: Kept) -> Kept | None:
        """A copy for one who waited for it; None where there are no bytes to copy."""
        if made.payload is None:
            return None
        reused = tuple(replace(answer, reused=True, key=answer.response_id) for answer in made.answers)
        with _looking:
            return Kept(self._codec.loads(made.payload), reused, made.payload, made.age_s)
        return None

    def _entry(self, key: str) -> Entry | None:
        data: bytes | None = self._rest.ask(lambda: self._store.get(key))
        if data is None:
            return None
        return entry_from(self._codec.opened(key, data) if isinstance(self._codec, PickleCodec) else data)


def _is_consumed(value: object) -> bool:
    """Whether the answer can be used once only: a stream, an iterator, something to await."""
    kind = type(value)
    return any(hasattr(kind, name) for name in ("__next__", "__anext__", "__await__"))
