"""What was spent, counted where all who share a budget can see it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

from pennytrace.levers._fork import renew_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from pennytrace.levers._rest import Rest

KEYS_MAX: Final = 100_000
"""About 20 MB; a key is a limit, on a day, of a tenant."""
REDIS_TIMEOUT_S: Final = 0.2
_ADD: Final = """
local sum = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[1])
if ARGV[2] ~= '' and sum > tonumber(ARGV[2]) then
  return 0
end
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class Counters(Protocol):
    """Whole numbers by key, added to from any thread or process."""

    def add(self, key: str, amount: int, limit: int | None, ttl_s: int) -> bool:
        """Add at once, unless the sum would pass the limit; whether it was added. None is no limit."""
        ...

    def value(self, key: str) -> int:
        """The sum; 0 for a key that was never added to."""
        ...


class MemoryCounters:
    """Counters of this process: at most `keys_max`, least recently added to out first. `seconds` is monotonic."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic, *, keys_max: int = KEYS_MAX) -> None:
        self._seconds = seconds
        self._keys_max = keys_max
        self._sums: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()
        renew_in_children(self)

    def add(self, key: str, amount: int, limit: int | None, ttl_s: int) -> bool:
        """Add at once, unless the sum would pass the limit; whether it was added."""
        with self._lock:
            now = self._seconds()
            self._sweep(now)
            total = self._sums.get(key, (0, 0.0))[0] + amount
            if limit is not None and total > limit:
                return False
            self._sums[key] = (total, now + ttl_s)
            self._sums.move_to_end(key)
            if len(self._sums) > self._keys_max:
                self._sums.popitem(last=False)
            return True

    def value(self, key: str) -> int:
        """The sum."""
        with self._lock:
            return self._sums.get(key, (0, 0.0))[0]

    def after_fork(self) -> None:
        """Let the child count, whatever other threads were doing."""
        self._lock = threading.Lock()

    def _sweep(self, now: float) -> None:
        """Forget what expired; the first expires first, since all are kept equally long."""
        while self._sums and next(iter(self._sums.values()))[1] <= now:
            self._sums.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Rested:
    """Counters whose failures are noted, so that they are left alone a while."""

    counters: Counters
    rest: Rest

    def add(self, key: str, amount: int, limit: int | None, ttl_s: int) -> bool:
        """Add, unless the sum would pass the limit."""
        return self.rest.ask(lambda: self.counters.add(key, amount, limit, ttl_s))

    def value(self, key: str) -> int:
        """The sum."""
        return self.rest.ask(lambda: self.counters.value(key))


class RedisCounters:
    """Counters shared by processes. `client` is a `redis.Redis`; each addition is one script, hence atomic."""

    def __init__(self, client: Any, *, prefix: str = "pennytrace:budget:") -> None:  # noqa: ANN401 # redis is not imported
        self._client = client
        self._prefix = prefix

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "pennytrace:budget:", timeout_s: float = REDIS_TIMEOUT_S
    ) -> RedisCounters:
        """Connect with the `redis` package, which must be installed."""
        redis = import_module("redis")
        return cls(redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s), prefix=prefix)

    def add(self, key: str, amount: int, limit: int | None, ttl_s: int) -> bool:
        """Add at once, unless the sum would pass the limit; whether it was added."""
        most = "" if limit is None else limit
        return bool(self._client.eval(_ADD, 1, self._prefix + key, amount, most, ttl_s))

    def value(self, key: str) -> int:
        """The sum."""
        return int(self._client.get(self._prefix + key) or 0)
