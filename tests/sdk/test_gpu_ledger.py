"""GPU spans and hw.gpu.* metrics of one run, as sent, and what the ledger makes of both."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

import pennytrace
from analytics.ledger import recompute
from analytics.settings import LedgerSettings
from pennytrace import observe
from storage import EmbeddedLocation, Store
from tests.analytics.spans import POINT_COLUMNS, Span, insert_rows, insert_spans
from tests.sdk.test_gpu import FakeDriver


@pytest.fixture
def store(tmp_path):
    store = Store.open(EmbeddedLocation(tmp_path))
    yield store
    store.close()


def attributes_of(items):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in items}


def stored(span, resource):
    return Span(
        id=span.span_id.hex(),
        attributes=attributes_of(span.attributes),
        trace=span.trace_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        started_at=datetime.fromtimestamp(span.start_time_unix_nano / 1e9, UTC),
        duration=timedelta(microseconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1000),
        resource=resource,
    )


def points(requests, resource):
    """Rows of metric_points, of gauges and sums."""
    metrics = [m for request in requests for m in request.resource_metrics[0].scope_metrics[0].metrics]
    return [
        {
            "time": datetime.fromtimestamp(point.time_unix_nano / 1e9, UTC),
            "service": resource["service.name"],
            "resource": json.dumps(resource),
            "metric": metric.name,
            "kind": metric.WhichOneof("data"),
            "attributes": list(attributes_of(point.attributes).items()),
            "value": float(getattr(point, point.WhichOneof("value"))),
            "received_at": datetime.now(UTC),
        }
        for metric in metrics
        if metric.WhichOneof("data") in {"gauge", "sum"}
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    ]


def test_a_gpu_is_counted_once_though_spans_and_metrics_tell_of_it(sink, store, provider, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = FakeDriver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    settings = {"endpoint_url": sink.url, "tracer_provider": provider, "metrics_interval_s": 0.2}

    @observe(endpoint="/generate", model="llama", provider="vllm")
    def generate():
        for _ in range(5):
            time.sleep(0.1)
            driver.joules += 30
        pennytrace.record_usage(input_tokens=5, output_tokens=5)

    with pennytrace.configure(**settings) as handle:
        generate()
        handle.flush()
        driver.busy = 10
        time.sleep(2.5)
    now = datetime.now(UTC)
    resource = {"service.name": "unknown", "service.instance.id": "r1"}
    insert_spans(store, [stored(span, resource) for span in sink.spans()])
    insert_rows(store, "metric_points", points(sink.metric_requests, resource), POINT_COLUMNS)
    recompute(store, LedgerSettings(), lambda: now, everything=True)
    found = store.frame_of(
        "SELECT gpu_id, sum(energy_joules) AS joules, min(utilization_mean) AS least, max(utilization_mean) AS most"
        " FROM gpu_hourly GROUP BY gpu_id ORDER BY gpu_id"
    )
    joules = sum(
        attributes_of(span.attributes).get("pennytrace.gpu.energy_joules", 0)
        for span in sink.spans()
        if attributes_of(span.attributes).get("hw.id") == "GPU-0aaa"
    )
    assert found["gpu_id"].to_list() == ["GPU-0aaa", "GPU-1aaa"]
    assert found["joules"][0] == pytest.approx(joules, abs=0.01)
    assert joules > 0
    metered = store.frame_of("SELECT max(value) AS joules FROM metric_points WHERE metric = 'hw.energy'")
    assert metered["joules"][0] == pytest.approx(150)
    assert 0.1 <= found["least"].min() < 0.5
    assert store.frame_of("SELECT sum(calls) AS calls FROM cost_hourly")["calls"].to_list() == [1]
