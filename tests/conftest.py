"""What holds for every test."""

import os

import pytest
from hypothesis import settings

from tests.clickhouse_server import running_clickhouse

# A deadline would time the machine, not the code. CI repeats the same examples; elsewhere new ones are drawn.
settings.register_profile("pennytrace", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("pennytrace")


@pytest.fixture
def clickhouse(tmp_path):
    """A ClickHouse server on a port and a directory of its own."""
    with running_clickhouse(tmp_path / "clickhouse" / "data") as server:
        yield server
