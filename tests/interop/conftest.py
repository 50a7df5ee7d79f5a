"""The whole server on free ports, as clients that nobody here wrote find it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.server import Server
from app.settings import ServerSettings, Settings, StorageSettings

ANY_PORT = "127.0.0.1:0"


def settings_for(folder, clickhouse_url: str = "") -> Settings:
    return Settings(
        storage=StorageSettings(data=folder / "data", clickhouse=clickhouse_url),
        server=ServerSettings(http=ANY_PORT, grpc=ANY_PORT, ui=ANY_PORT, sql=ANY_PORT),
    )


@pytest.fixture
def now() -> datetime:
    """The server's time when a test starts; overridden where the data is old."""
    return datetime.now(UTC)


@pytest.fixture
def server(tmp_path, now):
    """An embedded server. Its clock stands still."""
    server = Server(settings_for(tmp_path), lambda _line: None, lambda: now)
    yield server
    server.stop()
