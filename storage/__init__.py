"""ClickHouse behind one small API: schema, migrations, named queries and the store."""

from storage.errors import (
    IncompatibleServerError,
    LocationBusyError,
    LocationUnusableError,
    QueryError,
    StoreError,
    StoreUnavailableError,
)
from storage.location import EmbeddedLocation, Location, ServerLocation, is_store
from storage.store import Store

__all__ = [
    "EmbeddedLocation",
    "IncompatibleServerError",
    "Location",
    "LocationBusyError",
    "LocationUnusableError",
    "QueryError",
    "ServerLocation",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "is_store",
]
