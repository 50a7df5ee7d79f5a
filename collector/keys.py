"""API keys: who may write, read or administer, and whose tenant the written rows belong to.

A key is 32 random bytes, so one round of SHA-256 keeps it: slow hashes protect guessable passwords, and nobody
guesses 256 bits. Looking a digest up in a dict leaks at most the timing of digests, from which no key follows.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from collector.errors import CollectorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PREFIX = "pt_"
RANDOM_BYTES = 32
# One challenge a header: clients that read several from one line are rare.
CHALLENGES = ('Basic realm="Pennytrace", charset="UTF-8"', 'Bearer realm="Pennytrace"')


class Scope(StrEnum):
    """What a key is for. None includes another."""

    WRITE = "write"
    """Send OTLP."""
    READ = "read"
    """The page, GETs of the API, SQL and metrics."""
    ADMIN = "admin"
    """Whatever changes something: POSTs of the API."""


class Key(BaseModel):
    """A key as the settings hold it: never the key itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100, description="what people call it; unique")
    sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="SHA-256 of the key in hex, as 'pennytrace keys new' prints"
    )
    tenant: str = Field(default="", max_length=200, description="tenant of the rows that it writes; empty: none")
    scopes: tuple[Scope, ...] = Field(
        min_length=1, description="what it may do, any of write (OTLP), read (page, API, SQL, metrics), admin (POSTs)"
    )

    @field_validator("sha256")
    @classmethod
    def _is_of_something(cls, sha256: str) -> str:
        if sha256 == digest(""):
            raise ValueError("expected the hash of a key, got that of nothing: make one with 'pennytrace keys new'")
        return sha256

    @model_validator(mode="after")
    def _reads_for_everyone(self) -> Self:
        if self.tenant and set(self.scopes) != {Scope.WRITE}:
            raise ValueError(
                f"expected only the scope write for the key {self.name!r} of tenant {self.tenant!r}: reading is not "
                "divided by tenant, so this key would show everyone's costs; leave its tenant out, or its other scopes"
            )
        return self


class UnauthenticatedError(CollectorError):
    """No key came, or none that is known; which of the two is not told."""

    http_status = 401
    code = 16
    reason = "unauthenticated"


class ForbiddenError(CollectorError):
    """A known key that is not for this."""

    http_status = 403
    code = 7
    reason = "forbidden"


class Keys:
    """The configured keys; without any, everyone may do everything."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_digest = {key.sha256: key for key in keys}

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def require(self, scope: Scope, presented: Sequence[str]) -> str:
        """The tenant of a presented key that has `scope`. Raises UnauthenticatedError or ForbiddenError."""
        if not self._by_digest:
            return ""
        known = [key for secret in presented if (key := self._by_digest.get(digest(secret)))]
        for key in known:
            if scope in key.scopes:
                return key.tenant
        if known:
            raise ForbiddenError(f"this API key is not for this: expected one with the scope {scope}")
        raise UnauthenticatedError(
            "expected an API key, as 'Authorization: Bearer KEY', as the password of Basic, or as x-api-key"
        )


def digest(secret: str) -> str:
    """What the settings hold of a key."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def new_secret() -> str:
    """A new key: the prefix, by which scanners of published code know it, and 256 random bits."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def presented(authorization: str, api_key: str) -> list[str]:
    """The keys in the values of the headers `authorization` (Bearer, Basic) and `x-api-key`."""
    found = [api_key.strip()]
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        found.append(rest.strip())
    elif scheme.lower() == "basic":
        found += _basic_password(rest)
    return [secret for secret in found if secret]


def _basic_password(encoded: str) -> list[str]:
    try:
        user_and_password = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return []
    return [user_and_password.partition(":")[2]]
