"""Why a statement was not run, in ClickHouse's own words and codes."""

from __future__ import annotations

import re

_FIRST = re.compile(r"Code: (\d+)\. (.*)", re.DOTALL)

SYNTAX_ERROR = 62
READONLY = 164
TOO_MANY_QUERIES = 202
NOT_IMPLEMENTED = 48
TOO_MANY_BYTES = 396
UNKNOWN_FORMAT = 73
UNKNOWN_DATABASE = 81
QUERY_IS_TOO_LARGE = 552
ACCESS_DENIED = 497
REQUIRED_PASSWORD = 194
SOCKET_TIMEOUT = 209
AUTHENTICATION_FAILED = 516

NAMES = {
    SYNTAX_ERROR: "SYNTAX_ERROR",
    READONLY: "READONLY",
    TOO_MANY_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    TOO_MANY_BYTES: "TOO_MANY_ROWS_OR_BYTES",
    UNKNOWN_FORMAT: "UNKNOWN_FORMAT",
    UNKNOWN_DATABASE: "UNKNOWN_DATABASE",
    QUERY_IS_TOO_LARGE: "QUERY_IS_TOO_LARGE",
    ACCESS_DENIED: "ACCESS_DENIED",
    REQUIRED_PASSWORD: "REQUIRED_PASSWORD",
    SOCKET_TIMEOUT: "SOCKET_TIMEOUT",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
}
# The HTTP statuses that ClickHouse answers these codes with; every other code is 500.
STATUSES = {
    SYNTAX_ERROR: 400,
    53: 400,  # TYPE_MISMATCH
    456: 400,  # UNKNOWN_QUERY_PARAMETER
    457: 400,  # BAD_QUERY_PARAMETER
    46: 404,  # UNKNOWN_FUNCTION
    47: 404,  # UNKNOWN_IDENTIFIER
    60: 404,  # UNKNOWN_TABLE
    UNKNOWN_DATABASE: 404,
    REQUIRED_PASSWORD: 401,
    SOCKET_TIMEOUT: 408,
    AUTHENTICATION_FAILED: 403,
    ACCESS_DENIED: 403,
    QUERY_IS_TOO_LARGE: 413,
}


class RefusedError(Exception):
    """A statement or a login that was refused; `code` is ClickHouse's numeric code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(f"Code: {code}. DB::Exception: {message} ({NAMES[code]})")


class UnknownKeyError(RefusedError):
    """No API key came, or none that is known."""

    def __init__(self) -> None:
        super().__init__(REQUIRED_PASSWORD, "expected an API key as password, as X-ClickHouse-Key or as Bearer")


class WrongKeyError(RefusedError):
    """A known API key that may not read."""

    def __init__(self) -> None:
        super().__init__(ACCESS_DENIED, "this API key is not for this: expected one with the scope read")


class EngineError(Exception):
    """The engine's own refusal, passed on as it came."""

    def __init__(self, text: str) -> None:
        found = _FIRST.search(text)
        self.code = int(found[1]) if found else 1002
        super().__init__(found[0] if found else f"Code: 1002. DB::Exception: {text} (UNKNOWN_EXCEPTION)")


def http_status(code: int) -> int:
    """The HTTP status that goes with a code."""
    return STATUSES.get(code, 500)
