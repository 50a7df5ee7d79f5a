from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from collector import CollectorSettings, Ingest
from storage import EmbeddedLocation, Store
from tests.collector.bodies import NOW
from tests.collector.serving import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.collector.serving import Serving

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path / "data"))
    yield store
    store.close()


@pytest.fixture
def settings() -> CollectorSettings:
    """Small limits, so that a test can reach them."""
    return CollectorSettings(
        body_bytes_max=MIB, decompressed_bytes_max=2 * MIB, commit_delay_ms=5, metrics_commit_delay_ms=5
    )


@pytest.fixture
def ingest(store: Store, settings: CollectorSettings) -> Iterator[Ingest]:
    ingest = Ingest(store, settings, clock=lambda: NOW)
    yield ingest
    ingest.close()


@pytest.fixture
def serving(ingest: Ingest, settings: CollectorSettings) -> Iterator[Serving]:
    with serve(ingest, settings) as serving:
        yield serving
