from __future__ import annotations

import math

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from collector import METRICS, CollectorSettings, Ingest
from tests.collector.bodies import DAY_NS, NOW, NOW_NS, gauge_request, name_service


def metrics_request() -> tuple[ExportMetricsServiceRequest, list]:
    """A request without metrics, and its list of metrics."""
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    name_service(resource_metrics.resource, "shop")
    scope_metrics = resource_metrics.scope_metrics.add()
    scope_metrics.scope.name = "tests"
    return request, scope_metrics.metrics


def stored(store, metric: str) -> dict:
    [row] = store.frame_of(
        "SELECT *, CAST(kind, 'String') AS kind_name, CAST(temporality, 'String') AS temporality_name "
        "FROM metric_points WHERE metric = {metric:String}",
        {"metric": metric},
    ).to_dicts()
    return row


def test_gauges_and_sums_keep_whole_numbers_exact_and_absent_values_absent(ingest, store):
    request, metrics = metrics_request()
    at = {"time_unix_nano": NOW_NS, "start_time_unix_nano": NOW_NS - DAY_NS}
    metrics.add(name="ratio", unit="1").gauge.data_points.add(as_double=0.25, **at)
    metrics.add(name="none").gauge.data_points.add(flags=1, **at)
    energy = metrics.add(name="hw.energy", unit="J")
    energy.sum.is_monotonic, energy.sum.aggregation_temporality = True, 2
    point = energy.sum.data_points.add(as_int=2**60 + 1, **at)
    for key, field, value in [
        ("s", "string_value", "x"),
        ("i", "int_value", 3),
        ("d", "double_value", 2.0),
        ("b", "bool_value", True),
    ]:
        setattr(point.attributes.add(key=key).value, field, value)
    point.attributes.add(key="a").value.array_value.values.add(int_value=1)
    ingest.receive(METRICS, request.SerializeToString(), tenant="acme").result(30)

    row = stored(store, "hw.energy")
    assert (row["value_int"], row["kind_name"], row["temporality_name"]) == (2**60 + 1, "sum", "cumulative")
    assert (row["is_monotonic"], row["unit"], row["scope"], row["tenant"]) == (True, "J", "tests", "acme")
    assert row["attributes"] == {"s": "x", "i": "3", "d": "2", "b": "true", "a": "[1]"}
    assert (row["service"], row["resource"]) == ("shop", '{"service.name":"shop"}')
    assert (row["time"], row["received_at"]) == (NOW, NOW)
    assert (stored(store, "ratio")["value"], stored(store, "ratio")["value_int"]) == (0.25, None)
    assert (stored(store, "none")["value"], stored(store, "none")["flags"]) == (None, 1)


def test_histograms_keep_buckets_and_tell_a_missing_minimum_from_zero(ingest, store):
    request, metrics = metrics_request()
    histogram = metrics.add(name="latency").histogram
    histogram.aggregation_temporality = 1
    histogram.data_points.add(
        time_unix_nano=NOW_NS, count=2**63, sum=1.5, max=0.0, explicit_bounds=[0.1, 1], bucket_counts=[1, 2**63, 0]
    )
    ingest.receive(METRICS, request.SerializeToString()).result(30)
    row = stored(store, "latency")
    assert (row["count"], row["sum"], row["min"], row["max"]) == (2**63, 1.5, None, 0.0)
    assert (row["bounds"], row["buckets"], row["temporality_name"]) == ([0.1, 1.0], [1, 2**63, 0], "delta")


def test_exponential_histograms_and_summaries_keep_every_field(ingest, store):
    request, metrics = metrics_request()
    point = metrics.add(name="exp").exponential_histogram.data_points.add(
        time_unix_nano=NOW_NS, count=6, scale=-3, zero_count=1, zero_threshold=0.5
    )
    point.positive.offset, point.negative.offset = -2, 4
    point.positive.bucket_counts.extend([1, 2])
    point.negative.bucket_counts.extend([2])
    summary = metrics.add(name="summary").summary.data_points.add(time_unix_nano=NOW_NS, count=3, sum=6)
    summary.quantile_values.add(quantile=0.5, value=2)
    summary.quantile_values.add(quantile=0.99, value=math.inf)
    ingest.receive(METRICS, request.SerializeToString()).result(30)
    row = stored(store, "exp")
    assert (row["scale"], row["zero_count"], row["zero_threshold"]) == (-3, 1, 0.5)
    assert (row["positive_offset"], row["buckets"], row["negative_offset"], row["negative_buckets"]) == (
        -2,
        [1, 2],
        4,
        [2],
    )
    row = stored(store, "summary")
    assert (row["kind_name"], row["count"], row["sum"], row["scale"]) == ("summary", 3, 6.0, None)
    assert (row["quantiles"], row["quantile_values"]) == ([0.5, 0.99], [2.0, math.inf])


@pytest.mark.parametrize("time_ns", [0, NOW_NS - 3000 * DAY_NS, NOW_NS + 2 * DAY_NS, 2**64 - 1])
def test_a_point_outside_the_window_is_rejected_and_its_neighbour_kept(ingest, store, time_ns):
    request = gauge_request(time_ns=time_ns)
    request.MergeFrom(gauge_request(0.75))
    receipt = ingest.receive(METRICS, request.SerializeToString()).result(30)
    assert receipt.rejected == {"time_outside_window": 1}
    assert stored(store, "hw.gpu.utilization")["value"] == 0.75


def test_a_start_in_the_far_future_is_rejected_and_an_unknown_one_kept(ingest, store):
    request = gauge_request()
    point = request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0]
    point.start_time_unix_nano = 2**64 - 1
    receipt = ingest.receive(METRICS, request.SerializeToString()).result(30)
    assert receipt.rejected == {"start_time_outside_window": 1}
    point.start_time_unix_nano = 0
    ingest.receive(METRICS, request.SerializeToString()).result(30)
    assert stored(store, "hw.gpu.utilization")["start_time"].year == 1970


def test_the_same_point_sent_twice_is_read_once(ingest, store):
    for _ in range(2):
        ingest.receive(METRICS, gauge_request().SerializeToString()).result(30)
    assert store.frame_of("SELECT count() AS points FROM metric_points FINAL")["points"][0] == 1


def test_content_and_listed_attributes_are_dropped_from_points_and_resources(store, tmp_path):
    request, metrics = metrics_request()
    numbers = metrics.add(name="none"), metrics.add(name="gauge").gauge, metrics.add(name="sum").sum
    histograms = metrics.add(name="h").histogram, metrics.add(name="e").exponential_histogram
    points = [
        data.data_points.add(time_unix_nano=NOW_NS)
        for data in (*numbers[1:], *histograms, metrics.add(name="s").summary)
    ]
    for attributes in (request.resource_metrics[0].resource.attributes, *(point.attributes for point in points)):
        for key in ("customer.email", "prompt", "hw.id"):
            attributes.add(key=key).value.string_value = "secret" if key != "hw.id" else "kept"
    settings = CollectorSettings(drop_attributes=("customer.email",), segment_seconds=0)
    ingest = Ingest(store, settings, lambda: NOW, tmp_path / "journal")
    ingest.receive(METRICS, request.SerializeToString()).result(30)
    ingest.flush(30)
    counts = {one.name: one.value for one in ingest.counts() if one.labels == {"signal": "metrics"}}
    ingest.close()
    rows = store.frame_of("SELECT resource, toString(attributes) AS attributes FROM metric_points FINAL").to_dicts()
    assert rows == [{"resource": '{"service.name":"shop","hw.id":"kept"}', "attributes": "{'hw.id':'kept'}"}] * 5
    assert counts["pennytrace_content_dropped_total"] == 12
