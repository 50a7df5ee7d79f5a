from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analytics.ledger import recompute
from analytics.settings import LedgerSettings
from storage import EmbeddedLocation, Store
from tests.analytics.spans import START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    Ledger = Callable[..., pl.DataFrame]

TABLES = (
    "spans",
    "metric_points",
    "dirty_hours",
    "hour_runs",
    "calls_by_generation",
    "cost_hourly_by_generation",
    "replica_hourly_by_generation",
    "gpu_hourly_by_generation",
    "dropped_partitions",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("store")))
    yield store
    store.close()


def empty(store: Store) -> None:
    for table in TABLES:
        store.execute(f"TRUNCATE TABLE {table}")


@pytest.fixture
def store(engine: Store) -> Store:
    empty(engine)
    return engine


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """Run the job and give the table `calls` as it then is."""

    def run(settings: LedgerSettings | None = None, *, everything: bool = False) -> pl.DataFrame:
        recompute(store, settings or LedgerSettings(), lambda: START, everything=everything)
        return store.frame_of("SELECT * FROM calls ORDER BY started_at, span_id")

    return run
