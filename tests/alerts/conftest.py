from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest

from alerts import AlertSettings, SlackSettings
from alerts.findings import Finding
from storage import EmbeddedLocation, Store
from tests.alerts.fake_slack import CHANNEL, TOKEN, FakeSlack

if TYPE_CHECKING:
    from collections.abc import Iterator

ONSET = datetime(2026, 7, 1, 10, tzinfo=UTC)


class MemoryClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = ONSET + timedelta(hours=2)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


class Findings:
    """The table `findings` as analytics would write it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = ONSET

    def write(self, *findings: Finding) -> None:
        self._version += timedelta(seconds=1)
        rows = [
            {name: getattr(one, name) for name in Finding.__dataclass_fields__}
            | {"drivers": list(one.drivers), "driver_usd": list(one.driver_usd)}
            | {"tenant": "", "updated_at": self._version}
            for one in findings
        ]
        time = pl.Datetime("ms", "UTC")
        money = pl.Decimal(38, 12)
        types = {
            "started_at": time,
            "last_hour": time,
            "ended_at": time,
            "updated_at": time,
            "impact_usd": money,
            "drivers": pl.List(pl.String),
            "driver_usd": pl.List(money),
        }
        self._store.insert("findings", pl.DataFrame(rows, schema_overrides=types))


def make_finding(name: str = "f1", **changed: object) -> Finding:
    """A prompt that grew: 42 % more dollars per 1,000 requests, lasting."""
    finding = Finding(
        finding_id=name,
        rule="cost_per_1k_requests_wow",
        metric="cost_per_1k_requests",
        unit="USD",
        service="shop",
        environment="production",
        endpoint="chat",
        started_at=ONSET,
        last_hour=ONSET + timedelta(hours=1),
        ended_at=None,
        expected=1.2,
        actual=1.704,
        impact_usd=Decimal("12.34"),
        drivers=("input_tokens", "prompt_cache", "output_tokens"),
        driver_usd=(Decimal("11.005"), Decimal("1.345"), Decimal("-0.01")),
        cause="prompts 83 % longer since version 2.4.1",
        deploy="version 2.4.1 at 2026-07-01 09:00 UTC",
        is_withdrawn=False,
    )
    return replace(finding, **changed)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("store")))
    yield store
    store.close()


@pytest.fixture
def store(engine: Store) -> Store:
    for table in ("findings", "incidents", "deliveries"):
        engine.execute(f"TRUNCATE TABLE {table}")
    return engine


@pytest.fixture
def findings(store: Store) -> Findings:
    return Findings(store)


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
def settings() -> AlertSettings:
    return AlertSettings(page_url="https://pennytrace.example.com")


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as fake:
        yield fake


@pytest.fixture
def bot(slack: FakeSlack) -> SlackSettings:
    return SlackSettings(token=TOKEN, channel=CHANNEL, base_url=slack.base_url, timeout_seconds=2, wait_seconds_max=0)


@pytest.fixture
def webhook(slack: FakeSlack) -> SlackSettings:
    return SlackSettings(webhook_url=slack.webhook_url, timeout_seconds=2, wait_seconds_max=0)
