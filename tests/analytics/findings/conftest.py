from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage import EmbeddedLocation, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path / "data"))
    yield store
    store.close()
