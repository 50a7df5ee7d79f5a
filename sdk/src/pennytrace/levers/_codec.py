"""How answers become bytes, and an answer with what is known of it."""

from __future__ import annotations

import hmac
import json
import pickle
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol, cast

from pennytrace._usage import Answer, Usage

_SIGNATURE_BYTES: Final = 32


class Codec(Protocol):
    """Answers to bytes and back. `dumps` raises for what it could not give back as it was."""

    def dumps(self, value: object) -> bytes:
        """The value as bytes."""
        ...

    def loads(self, data: bytes) -> object:
        """The value again; raises for bytes that are none of ours."""
        ...


class JsonCodec:
    """JSON, for text and what else JSON keeps as it is: tuples, subclasses, keys that are no text are refused."""

    def dumps(self, value: object) -> bytes:
        """The value as JSON; raises TypeError or ValueError for what JSON would change."""
        data = json.dumps(value).encode()
        if not _is_same(json.loads(data), value):
            raise ValueError(f"expected what JSON gives back as it was, got {type(value).__name__}; give codec=")
        return data

    def loads(self, data: bytes) -> object:
        """The value again."""
        return cast("object", json.loads(data))


class PickleCodec:
    """Any Python value. A store outside the process needs a secret: bytes that it did not sign are refused."""

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret

    @property
    def is_signing(self) -> bool:
        """Whether there is a secret."""
        return bool(self._secret)

    def dumps(self, value: object) -> bytes:
        """The value pickled, after its signature where there is a secret."""
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        return self.sealed("", data)

    def loads(self, data: bytes) -> object:
        """The value again; raises ValueError when the signature is not ours."""
        return cast("object", pickle.loads(self.opened("", data)))  # noqa: S301 # from our own memory, or signed

    def sealed(self, key: str, data: bytes) -> bytes:
        """The bytes after their signature, which holds under this key only; as they are where there is no secret."""
        return self._signature(key, data) + data

    def opened(self, key: str, data: bytes) -> bytes:
        """What was sealed under this key; raises ValueError for what was not."""
        length = _SIGNATURE_BYTES if self._secret else 0
        signature, signed = data[:length], data[length:]
        if not hmac.compare_digest(signature, self._signature(key, signed)):
            raise ValueError("expected an answer signed with this codec's secret, got another; clear the store")
        return signed

    def _signature(self, key: str, data: bytes) -> bytes:
        return hmac.digest(self._secret, key.encode() + b"\n" + data, "sha256") if self._secret else b""


def _is_same(one: object, other: object) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        pairs, others = cast("dict[object, object]", one), cast("dict[object, object]", other)
        return _is_same(list(pairs), list(others)) and _is_same(list(pairs.values()), list(others.values()))
    if isinstance(one, list) and isinstance(other, list):
        items, rest = cast("list[object]", one), cast("list[object]", other)
        return len(items) == len(rest) and all(map(_is_same, items, rest))
    return one == other


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer in the store: when it was made (seconds since 1970, UTC), what it had cost, its bytes."""

    made_at_s: float
    answers: tuple[Answer, ...]
    payload: bytes

    def to_bytes(self) -> bytes:
        """A line of JSON, then the payload."""
        told = {"made_at_s": self.made_at_s, "answers": [_told(answer) for answer in self.answers]}
        return json.dumps(told).encode() + b"\n" + self.payload


def entry_from(data: bytes) -> Entry:
    """The entry again; raises for bytes that are none."""
    head, _, payload = data.partition(b"\n")
    told: dict[str, Any] = json.loads(head)
    return Entry(float(told["made_at_s"]), tuple(_answer(answer) for answer in told["answers"]), payload)


_TEXTS = ("model", "response_id", "provider", "operation", "tier")


def _told(answer: Answer) -> dict[str, object]:
    return {**{name: getattr(answer, name) for name in _TEXTS}, "usage": asdict(answer.usage)}


def _answer(told: dict[str, Any]) -> Answer:
    texts = {name: told.get(name) for name in _TEXTS}
    return Answer(usage=Usage(**told["usage"]), key=texts["response_id"], reused=True, **texts)
