"""The examples of OTLP JSON that the protocol's own repository has."""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.interop.stored import stored

EXAMPLES = Path(__file__).parent / "otlp_examples"


@pytest.fixture
def now() -> datetime:
    """When the examples were made: they are older than what is accepted today."""
    return datetime(2018, 12, 13, 15, 0, tzinfo=UTC)


def post(server, signal: str, example: str) -> dict[str, object]:
    body = (EXAMPLES / f"{example}.json").read_bytes()
    request = urllib.request.Request(
        f"{server.url('http')}/v1/{signal}", body, {"content-type": "application/json; charset=utf-8"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
        return json.loads(answer.read() or b"{}")


def test_the_example_trace_is_stored(server):
    assert post(server, "traces", "trace") == {}
    [span] = stored(
        server.store,
        "SELECT lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id, "
        "lower(hex(parent_span_id)) AS parent, name, kind, duration_ns, service, attributes, resource FROM spans FINAL",
        rows=1,
    )
    assert (span["trace_id"], span["span_id"], span["parent"]) == (
        "5b8efff798038103d269b633813fc60c",
        "eee19b7ec3c1b174",
        "eee19b7ec3c1b173",
    )
    assert (span["name"], span["kind"], span["service"]) == ("I'm a server span", 2, "my.service")
    assert dict(span["attributes"]) == {"my.span.attr": "some value"}


def test_the_example_metrics_are_stored_whatever_their_kind(server):
    assert post(server, "metrics", "metrics") == {}
    points = stored(
        server.store, "SELECT kind::String AS kind, value, count, unit FROM metric_points FINAL ORDER BY kind", rows=4
    )
    assert sorted(point["kind"] for point in points) == ["exponential_histogram", "gauge", "histogram", "sum"]


@pytest.mark.parametrize("example", ["logs", "events"])
def test_the_example_logs_are_accepted(server, example):
    assert post(server, "logs", example) == {}
    counted = {count.name: count.value for count in server.ingest.counts() if count.labels.get("signal") == "logs"}
    assert counted["pennytrace_received_items_total"] == 1
