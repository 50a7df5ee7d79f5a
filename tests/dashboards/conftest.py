"""A store without a row and a store with a week of facts; a test module reads one of them.

The embedded engine takes one directory per process, so no module uses both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage import EmbeddedLocation, Store
from tests.dashboards import facts

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("empty")))
    yield store
    store.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("week")))
    facts.insert_costs(store, facts.cost_rows(facts.HOURS))
    facts.insert_gpus(store, facts.HOURS)
    facts.insert_incidents(store)
    yield store
    store.close()
