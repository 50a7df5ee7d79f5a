"""ClickHouse behind one small API: schema, migrations, named queries and the store."""

from storage.errors import (
    IncompatibleServerError,
    LocationBusyError,
    QueryError,
    StoreError,
    StoreUnavailableError,
)
from storage.location import EmbeddedLocation, Location, ServerLocation
from storage.store import Store

__all__ = [
    "EmbeddedLocation",
    "IncompatibleServerError",
    "Location",
    "LocationBusyError",
    "QueryError",
    "ServerLocation",
    "Store",
    "StoreError",
    "StoreUnavailableError",
]
