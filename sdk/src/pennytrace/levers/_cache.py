"""`cache`: a question that was answered is not paid for again."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pennytrace import _names as names
from pennytrace._errors import ConfigurationError, PennytraceError
from pennytrace._guard import Guard
from pennytrace.levers import _spans
from pennytrace.levers._fingerprint import fingerprint, fingerprint_key
from pennytrace.levers._flight import TaskFlights, ThreadFlights
from pennytrace.levers._shelf import Kept, Shelf
from pennytrace.levers._store import BYTES_MAX, ENTRIES_MAX, MemoryStore, Store
from pennytrace.levers._variant import current_variants

if TYPE_CHECKING:
    from pennytrace.levers._clock import Clock
    from pennytrace.levers._codec import Codec

F = TypeVar("F", bound=Callable[..., Any])

# What decorated functions take and return is theirs.
# ruff: noqa: ANN401

WAIT_S_MAX: Final = 60.0
"""Who has waited this long for somebody else's call makes the call too."""

_keying = Guard("making a cache key; give key= for arguments that are no data")
_unkeyed = Guard("keying a shared cache without a secret; set PENNYTRACE_FINGERPRINT_KEY")
_choosing = Guard("asking keep= of a cache")


def cache(
    *,
    ttl_s: float = 3600.0,
    store: Store | None = None,
    entries_max: int = ENTRIES_MAX,
    bytes_max: int = BYTES_MAX,
    key: Callable[..., object] | None = None,
    keep: Callable[[Any], bool] | None = None,
    codec: Codec | None = None,
    model: str | None = None,
    provider: str | None = None,
    wait_s_max: float = WAIT_S_MAX,
    clock: Clock | None = None,
) -> Cache:
    """A cache for functions and coroutine functions: `@cache(ttl_s=600)`. Equal arguments share one answer.

    ttl_s: the oldest answer given. store: where answers are kept; by default the process's memory, at most
    `entries_max` answers and `bytes_max` bytes, least recently used out first. key: a callable of the function's
    arguments that returns what makes the answer (data, or None to cache nothing); by default all arguments.
    keep: whether an answer is worth keeping. codec: answers to bytes; by default pickle in memory, JSON in a
    shared store. model, provider: of the call that is saved, where the answer does not say. wait_s_max: the longest
    that a call waits for another's answer to the same question.

    The variants that are assigned around a call (`@variant`) belong to its key. A shared store needs the fingerprint
    key, which hashes the keys: without it nothing is cached, and that is counted and logged.

    The function's own exceptions pass, to all who wait for them, and are not kept; a budget's refusal is for its own
    caller only. Faults of the store or of a key only mean that the function is called. Raises ConfigurationError for
    a bound that is not above 0, and for pickles without a secret in a shared store.
    """
    if min(ttl_s, entries_max, bytes_max, wait_s_max) <= 0:
        raise ConfigurationError(
            "expected ttl_s, entries_max, bytes_max and wait_s_max above 0, "
            f"got {ttl_s!r}, {entries_max!r}, {bytes_max!r} and {wait_s_max!r}; leave @cache out to cache nothing"
        )
    kept_in = MemoryStore(entries_max=entries_max, bytes_max=bytes_max) if store is None else store
    return Cache(Shelf(kept_in, codec, ttl_s, clock), key, keep, (model, provider), wait_s_max)


class Cache:
    """A decorator; several functions may share one cache, each with keys of its own."""

    def __init__(
        self,
        shelf: Shelf,
        key: Callable[..., object] | None,
        keep: Callable[[Any], bool] | None,
        saved: tuple[str | None, str | None],
        wait_s_max: float,
    ) -> None:
        self._shelf = shelf
        self._key, self._keep, self._saved = key, keep, saved
        # Nobody outside has to find keys that are in memory only, so they need not be the same tomorrow.
        self._secret = token_bytes(32) if shelf.in_memory else None
        self._decorations = 0
        self._threads = ThreadFlights[Kept](wait_s_max)
        self._tasks = TaskFlights[Kept](wait_s_max)

    def __call__(self, function: F) -> F:
        """The function, cached."""
        _spans.expect_plain("cache", function)
        cached: F = self._async(function) if inspect.iscoroutinefunction(function) else self._sync(function)
        return _spans.spanned("cache", _spans.name_of(function), cached)

    def _sync(self, function: Any) -> Any:
        place, signature = self._place(function), inspect.signature(function)

        @wraps(function)
        def cached(*args: Any, **kwargs: Any) -> Any:
            key = self._fingerprint(place, signature, args, kwargs)
            if key is None:
                return self._bypassed(function(*args, **kwargs))
            found = self._shelf.find(key)
            if found is None:
                found, waited = self._threads.run(key, lambda: self._lead(key, lambda: function(*args, **kwargs)))
                if waited:
                    shared = self._shelf.shared(found)
                    if shared is None:
                        return self._bypassed(function(*args, **kwargs))
                    found = shared
                return self._ended(found, "coalesced" if waited else "miss")
            return self._ended(found, "hit")

        return cached

    def _async(self, function: Any) -> Any:
        place, signature = self._place(function), inspect.signature(function)

        @wraps(function)
        async def cached(*args: Any, **kwargs: Any) -> Any:
            key = self._fingerprint(place, signature, args, kwargs)
            if key is None:
                return self._bypassed(await function(*args, **kwargs))
            found = await self._shelf.find_async(key)
            if found is None:
                found, waited = await self._tasks.run(
                    key, lambda: self._lead_async(key, lambda: function(*args, **kwargs))
                )
                if waited:
                    shared = self._shelf.shared(found)
                    if shared is None:
                        return self._bypassed(await function(*args, **kwargs))
                    found = shared
                return self._ended(found, "coalesced" if waited else "miss")
            return self._ended(found, "hit")

        return cached

    def _place(self, function: Any) -> str:
        """What keeps functions' answers apart: in memory the decoration itself, across processes the name."""
        self._decorations += 1
        kind = getattr(function, "__qualname__", type(function).__qualname__)
        return f"{getattr(function, '__module__', '')}.{kind}" + (
            f"#{self._decorations}" if self._shelf.in_memory else ""
        )

    def _lead(self, key: str, call: Callable[[], Any]) -> Kept:
        """Look again, since the last leader may have landed in between; then call."""
        found = self._shelf.find(key)
        if found is not None:
            return found
        value = call()
        made = self._shelf.packed(value, tuple(_spans.answers(value)))
        if self._is_kept(made):
            self._shelf.keep(key, made)
        return made

    async def _lead_async(self, key: str, call: Callable[[], Awaitable[Any]]) -> Kept:
        found = await self._shelf.find_async(key)
        if found is not None:
            return found
        value = await call()
        made = self._shelf.packed(value, tuple(_spans.answers(value)))
        if self._is_kept(made):
            await self._shelf.keep_async(key, made)
        return made

    def _is_kept(self, made: Kept) -> bool:
        if made.payload is None:
            return False
        with _choosing:
            return self._keep is None or bool(self._keep(made.value))
        return False

    def _ended(self, found: Kept, outcome: str) -> Any:
        """Tell the span, and the ledger what was saved. A leader that found it after all has an age too."""
        if outcome == "miss" and found.age_s is not None:
            outcome = "hit"
        age_s = 0.0 if outcome == "coalesced" and found.age_s is None else found.age_s
        _spans.tell("cache", outcome=outcome, age_seconds=age_s)
        if outcome != "miss":
            _spans.record_reused(found.answers, *self._saved)
        return found.value

    def _bypassed(self, value: Any) -> Any:
        _spans.tell("cache", outcome="bypassed")
        return value

    def _fingerprint(
        self, place: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str | None:
        """The key of this call, or None when it cannot be cached; arguments that do not fit are the function's."""
        _spans.tell("cache")
        with _keying:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                return None
            bound.apply_defaults()
            asked = bound.arguments if self._key is None else self._key(*args, **kwargs)
            if asked is None:
                return None
            told = fingerprint_key()
            secret = told or self._secret
            if secret is None:
                # Keys that anybody can compute would tell whoever reads the store what was asked.
                _unkeyed.caught(PennytraceError("expected a fingerprint key for a shared store, got none"))
                return None
            found = fingerprint([place, current_variants(), asked], secret)
            if told:
                _spans.tell_call(names.PROMPT_FINGERPRINT, fingerprint(asked, told))
            return found
        return None
