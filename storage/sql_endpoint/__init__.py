"""A read-only endpoint that speaks ClickHouse's HTTP protocol, in front of the embedded engine.

The embedded engine has no users and no grants, so this folder is all that stands between a reader and the
machine: service.py authenticates, guard.py lets one SELECT over Pennytrace's own tables through, reader.py
runs it on a read-only handle with limits.
"""

from storage.sql_endpoint.reader import Limits
from storage.sql_endpoint.refusal import UnknownKeyError, WrongKeyError
from storage.sql_endpoint.service import create_sql_app

__all__ = ["Limits", "UnknownKeyError", "WrongKeyError", "create_sql_app"]
