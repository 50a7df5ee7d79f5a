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


class SettledStore(Store):
    """A store that reads only when everything that was acknowledged is in it, as a reader a second later does."""

    def frame_of(self, sql, parameters=None, settings=None):
        for ingest in self.feeders:
            assert ingest.flush(30), ingest.journal_state()
        return super().frame_of(sql, parameters, settings)

    feeders: tuple[Ingest, ...] = ()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SettledStore]:
    store = SettledStore.open(EmbeddedLocation(tmp_path / "data"))
    yield store
    store.close()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "data" / "journal"


@pytest.fixture
def settings() -> CollectorSettings:
    """Small limits, so that a test can reach them."""
    return CollectorSettings(body_bytes_max=MIB, decompressed_bytes_max=2 * MIB, commit_delay_ms=5)


@pytest.fixture
def ingest(store: SettledStore, settings: CollectorSettings, journal: Path) -> Iterator[Ingest]:
    ingest = Ingest(store, settings, lambda: NOW, journal)
    store.feeders = (ingest,)
    yield ingest
    store.feeders = ()
    ingest.close()


@pytest.fixture
def serving(ingest: Ingest, settings: CollectorSettings) -> Iterator[Serving]:
    with serve(ingest, settings) as serving:
        yield serving
