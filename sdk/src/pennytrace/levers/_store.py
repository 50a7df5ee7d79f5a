"""Where cached answers are kept: the protocol, the process's memory, Redis."""

from __future__ import annotations

import threading
from collections import OrderedDict
from importlib import import_module
from typing import Any, Final, Protocol

from pennytrace.levers._fork import renew_in_children

ENTRIES_MAX: Final = 10_000
BYTES_MAX: Final = 64 * 1024 * 1024
REDIS_TIMEOUT_S: Final = 0.2
"""A cache that answers later than this is not worth the wait beside a model call."""


class Store(Protocol):
    """Bytes by key, from any thread. It may forget and it may fail: then the function is called."""

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        ...

    def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep the value; it may be forgotten once `ttl_s` have passed."""
        ...


class MemoryStore:
    """The least recently used entries go first when there are too many or they are too large together."""

    def __init__(self, *, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self.entries_max = entries_max
        self.bytes_max = bytes_max
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        renew_in_children(self)

    def get(self, key: str) -> bytes | None:
        """The value, which is now the most recently used one."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def set(self, key: str, value: bytes, ttl_s: float) -> None:  # noqa: ARG002 # age is judged by who reads
        """Keep the value, unless it alone is larger than all may be."""
        with self._lock:
            self._bytes -= len(self._entries.pop(key, b""))
            if len(value) > self.bytes_max:
                return
            self._entries[key] = value
            self._bytes += len(value)
            while len(self._entries) > self.entries_max or self._bytes > self.bytes_max:
                _, oldest = self._entries.popitem(last=False)
                self._bytes -= len(oldest)

    def after_fork(self) -> None:
        """Let the child use the answers, whatever other threads were doing."""
        self._lock = threading.Lock()
        self._bytes = sum(map(len, self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """What the entries take, without keys."""
        return self._bytes


class RedisStore:
    """Answers shared by processes. `client` is a `redis.Redis`, which is safe to share between threads."""

    def __init__(self, client: Any, *, prefix: str = "pennytrace:cache:") -> None:  # noqa: ANN401 # redis is not imported
        self._client = client
        self._prefix = prefix

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "pennytrace:cache:", timeout_s: float = REDIS_TIMEOUT_S) -> RedisStore:
        """Connect with the `redis` package, which must be installed."""
        redis = import_module("redis")
        return cls(redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s), prefix=prefix)

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        found: bytes | None = self._client.get(self._prefix + key)
        return found

    def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep the value for `ttl_s`; Redis counts in milliseconds."""
        self._client.set(self._prefix + key, value, px=max(int(ttl_s * 1000), 1))
