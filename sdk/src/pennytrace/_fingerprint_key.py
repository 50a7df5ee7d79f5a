"""The secret that fingerprints are hashed with: one per process, by `configure`, a call or the environment."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Final

from pennytrace._errors import ConfigurationError

KEY_VARIABLE: Final = "PENNYTRACE_FINGERPRINT_KEY"
KEY_CHARS_MIN: Final = 16

_key: bytes | None = None


def set_fingerprint_key(key: str | None) -> None:
    """The secret that fingerprints are hashed with, instead of PENNYTRACE_FINGERPRINT_KEY; None goes back to it.

    Raises ConfigurationError for a key of fewer than 16 characters.
    """
    global _key  # noqa: PLW0603 # one key per process: decorators that ran before must find it
    _key = None if key is None else _checked(key)


def fingerprint_key() -> bytes | None:
    """The process's key; None when there is none. A key in the environment that is too short raises."""
    told = os.environ.get(KEY_VARIABLE)
    return _key or (_checked(told) if told else None)


def _checked(key: str) -> bytes:
    if len(key) < KEY_CHARS_MIN:
        raise ConfigurationError(
            f"expected a fingerprint key of {KEY_CHARS_MIN} characters or more, got {len(key)}; give a random secret"
        )
    return blake2b(key.encode()).digest()
