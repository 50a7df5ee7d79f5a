"""Finding content keys in serialized spans without parsing them: all of them at once, by Hyperscan.

In a serialized KeyValue stand the tag 0x0a, the key's length and the key; in an event 0x12, its name's length and the
name. The wire format lets a tag or length have more bytes than it needs; such a one ends in a zero byte, so what
stands behind a zero is looked at as well.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import hyperscan

from collector.content.rules import MESSAGE_EVENT, content_keys, content_prefixes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# Below this, looking at every key of the parsed messages is cheaper.
SCANNED_BYTES_MIN = 8192
_KEY_TAG, _NAME_TAG, _LONG = b"\x0a", b"\x12", b"\x00"
_ONE_BYTE_MAX = 127
# Keys below this are LiteLLM's llm.<provider>.<field> and others; each is read where it stands.
_READ = "llm."


class ContentScan:
    """What to look for, compiled. Any thread may use it."""

    def __init__(self, keys_by_literal: Mapping[bytes, str | None]) -> None:
        """For each literal the key that it tells of, or None if that has to be read where the literal stands."""
        self._keys = tuple(keys_by_literal.values())
        self._database = hyperscan.Database()
        self._database.compile(
            expressions=[_escaped(literal) for literal in keys_by_literal],
            ids=range(len(self._keys)),
            elements=len(self._keys),
        )
        self._local = threading.local()

    @classmethod
    def of(cls, *, keep_content: bool, keep_errors: bool, extra: Iterable[str]) -> Self:
        """For the keys of content/rules.py and for further ones, prefixes where they end in *."""
        keys, prefixes = content_keys(keep_errors=keep_errors), content_prefixes()
        for one in extra:
            (prefixes if one.endswith("*") else keys).add(one.removesuffix("*"))
        literals: dict[bytes, str | None] = {literal: key for key in sorted(keys) for literal in _whole(key.encode())}
        literals |= {prefix.encode(): prefix + "x" for prefix in sorted(prefixes)}
        literals[_READ.encode()] = None
        if not keep_content:
            literals |= dict.fromkeys(_names(MESSAGE_EVENT.encode()), MESSAGE_EVENT)
        return cls(literals)

    def finds(self, raw: bytes, is_content: Callable[[str], bool]) -> bool:
        """Whether serialized spans may have a key of which `is_content` says that it is one, or a message event."""

        def is_harmless(key: str | None) -> bool:
            return key is not None and key != MESSAGE_EVENT and not is_content(key)

        def on_match(position: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            return not is_harmless(self._keys[position] or _key_at(raw, end - len(_READ)))  # True ends the scan

        try:
            self._database.scan(raw, match_event_handler=on_match, scratch=self._scratch())
        except hyperscan.ScanTerminated:
            return True
        return False

    def _scratch(self) -> hyperscan.Scratch:
        """Hyperscan's working memory, which no two threads may share."""
        if not hasattr(self._local, "scratch"):
            self._local.scratch = hyperscan.Scratch(self._database)
        scratch: hyperscan.Scratch = self._local.scratch
        return scratch


def _whole(key: bytes) -> Iterator[bytes]:
    """The key behind its tag and length, in the usual way and in longer ones."""
    size = bytes([len(key)]) if len(key) <= _ONE_BYTE_MAX else bytes([len(key) & 127 | 128, len(key) >> 7])
    return (before + key for before in (_KEY_TAG + size, _LONG + size, _LONG))


def _names(beginning: bytes) -> Iterator[bytes]:
    """The beginning of an event's name behind its tag and any length; a second byte of one is small."""
    for size in range(len(beginning) + 1):
        yield bytes([size]) + beginning
    for size in range(len(beginning) + 1, _ONE_BYTE_MAX + 1):
        yield _NAME_TAG + bytes([size]) + beginning
        yield _LONG + bytes([size]) + beginning


def _key_at(raw: bytes, start: int) -> str | None:
    """The key that begins there by the byte before it; None when its length has several bytes."""
    size = raw[start - 1] if start else 0
    if size == 0 or raw[start - 2] > _ONE_BYTE_MAX:
        return None
    return raw[start : start + size].decode(errors="replace")


def _escaped(literal: bytes) -> bytes:
    return b"".join(rb"\x%02x" % octet for octet in literal)
