"""Keys in front of the page and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers

from collector.keys import CHALLENGES, ForbiddenError, Keys, Scope, UnauthenticatedError, presented

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as Connection

# Load balancers and orchestrators ask these, and they tell nothing that is anybody's.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
READING = frozenset({"GET", "HEAD"})


class KeyGate:
    """ASGI middleware: reading needs a key with the scope read, everything else one with admin.

    `tally` gets the reason of each refusal.
    """

    def __init__(self, app: ASGIApp, keys: Keys, tally: Callable[[str], None]) -> None:
        self._app = app
        self._keys = keys
        self._tally = tally

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            needed = Scope.READ if scope["method"] in READING else Scope.ADMIN
            try:
                self._keys.require(needed, presented_in(Headers(scope=scope)))
            except (UnauthenticatedError, ForbiddenError) as error:
                self._tally(error.reason)
                await _refusal(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def presented_in(headers: Mapping[str, str]) -> list[str]:
    """The keys in a request's headers."""
    return presented(headers.get("authorization", ""), headers.get("x-api-key", ""))


def _refusal(error: UnauthenticatedError | ForbiddenError) -> JSONResponse:
    response = JSONResponse({"detail": str(error)}, error.http_status)
    if isinstance(error, UnauthenticatedError):
        for challenge in CHALLENGES:
            response.headers.append("www-authenticate", challenge)
    return response
