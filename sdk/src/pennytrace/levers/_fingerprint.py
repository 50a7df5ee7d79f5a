"""Fingerprints: keyed hashes that tell equal prompts without telling the prompt."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Set
from datetime import date, time
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Final, cast
from uuid import UUID

from pennytrace import _names as names
from pennytrace._errors import PennytraceError
from pennytrace._fingerprint_key import KEY_VARIABLE, fingerprint_key, set_fingerprint_key
from pennytrace._guard import Guard
from pennytrace.levers._spans import tell_call

FINGERPRINT_BYTES: Final = 16
"""128 bits: two prompts of a lifetime do not meet."""

__all__ = ["fingerprint", "fingerprint_key", "record_fingerprint", "set_fingerprint_key"]

_recording = Guard("record_fingerprint")


def fingerprint(value: object, key: bytes) -> str:
    """32 hexadecimal digits, equal for equal values: blake2b with `key` over canonical JSON.

    Raises TypeError for a value whose equality cannot be written down, such as a client or an open file.
    """
    text = json.dumps(_canonical(value), separators=(",", ":"))
    return blake2b(text.encode(), key=key, digest_size=FINGERPRINT_BYTES).hexdigest()


def record_fingerprint(prompt: object) -> None:
    """Put the prompt's fingerprint on the observed call that runs here, so that repeated prompts can be counted.

    Needs a key, by `set_fingerprint_key` or PENNYTRACE_FINGERPRINT_KEY. Never raises.
    """
    with _recording:
        key = fingerprint_key()
        if key is None:
            raise PennytraceError(f"expected a fingerprint key, got none; set {KEY_VARIABLE} to a secret")
        tell_call(names.PROMPT_FINGERPRINT, fingerprint(prompt, key))


def _canonical(value: object) -> object:
    """Nested lists that are equal exactly when the values are: every container says what it is."""
    if value is None or type(value) in {bool, int, float, str}:
        return value
    kind = type(value)
    return [f"{kind.__module__}.{kind.__qualname__}", _contents(value)]


def _contents(value: object) -> object:
    if isinstance(value, Mapping):
        pairs = [[_canonical(name), _canonical(item)] for name, item in value.items()]
        return sorted(pairs, key=json.dumps)
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, Set):
        return sorted((_canonical(item) for item in value), key=json.dumps)
    return value.hex() if isinstance(value, bytes) else _of_object(value)


def _of_object(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, date | time | Decimal | UUID):
        return repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [[f.name, _canonical(getattr(value, f.name))] for f in dataclasses.fields(value)]
    fields = getattr(type(value), "model_fields", None)
    if isinstance(fields, dict):
        return _of_model(value, cast("dict[str, object]", fields))
    dump = getattr(type(value), "model_dump", None)
    if dump is not None:
        return _canonical(dump(value))
    raise TypeError(f"expected data such as text, numbers, lists and mappings, got {type(value).__name__}; give key=")


def _of_model(value: object, fields: dict[str, object]) -> object:
    """A pydantic model, as most providers' messages are: all that makes two equal, also what is left out of dumps."""
    private = [getattr(value, name, None) for name in ("__pydantic_extra__", "__pydantic_private__")]
    return [[[name, _canonical(getattr(value, name))] for name in fields], *map(_canonical, private)]
