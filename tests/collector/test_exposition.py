"""Prometheus text as OTLP, from pages as vLLM, SGLang and the DCGM exporter write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from collector.scraping.exposition import convert, parse
from collector.scraping.gpu_metrics import gpu_metrics
from tests.collector.bodies import NOW_NS

PAGES = Path(__file__).parent / "expositions"
TEXT, OPENMETRICS = "text/plain; version=0.0.4; charset=utf-8", "application/openmetrics-text; version=1.0.0"
H100, MIG = "GPU-1ab3c2d4-5e6f-7081-92a3-b4c5d6e7f809", "GPU-77777777-0000-1111-2222-333333333333"


def converted(name: str, content_type: str = TEXT):
    return convert(parse((PAGES / f"{name}.txt").read_text(), content_type), NOW_NS)


def metric_of(page, name: str):
    return next((metric for metric in page.metrics if metric.name == name), Metric())


def labels(point) -> dict[str, str]:
    return {each.key: each.value.string_value for each in point.attributes}


def test_a_counter_becomes_a_cumulative_sum_from_the_time_that_its_created_sample_names():
    page = converted("vllm")
    metric = metric_of(page, "vllm:prompt_tokens_total")
    [point] = metric.sum.data_points
    assert (metric.sum.is_monotonic, metric.sum.aggregation_temporality) == (True, 2)
    assert (point.as_double, point.time_unix_nano) == (1842917.0, NOW_NS)
    assert point.start_time_unix_nano == 1782900740012500000
    assert labels(point) == {"engine": "0", "model_name": "meta-llama/Llama-3.1-8B-Instruct"}
    assert not [metric.name for metric in page.metrics if metric.name.endswith("_created")]


def test_a_counter_without_a_created_sample_has_no_start_time():
    for point in metric_of(converted("vllm"), "vllm:request_success_total").sum.data_points:
        assert point.start_time_unix_nano == 0


def test_a_histogram_keeps_its_bounds_and_counts_every_value_once():
    [point] = metric_of(converted("vllm"), "vllm:time_to_first_token_seconds").histogram.data_points
    assert list(point.explicit_bounds) == [0.02, 0.04, 0.1]
    assert list(point.bucket_counts) == [0, 311, 879, 102]
    assert (point.count, point.sum) == (1292, 84.61723804473877)
    assert point.start_time_unix_nano == 1782900740012700000
    assert "le" not in labels(point)


def test_a_summary_keeps_its_quantiles():
    [point] = metric_of(converted("vllm"), "http_request_duration_seconds").summary.data_points
    assert [(each.quantile, each.value) for each in point.quantile_values] == [(0.5, 0.734), (0.99, 4.12)]
    assert (point.count, point.sum) == (1292, 1127.5)
    assert labels(point) == {"handler": "/v1/completions"}


def test_openmetrics_says_the_same_in_its_own_way():
    page = converted("openmetrics", OPENMETRICS)
    [tokens] = metric_of(page, "sglang:prompt_tokens_total").sum.data_points
    assert (tokens.as_double, tokens.start_time_unix_nano) == (5120.0, 1782900740500000000)
    latency = metric_of(page, "sglang:e2e_request_latency_seconds")
    assert (latency.unit, list(latency.histogram.data_points[0].bucket_counts)) == ("seconds", [3, 7])
    [usage] = metric_of(page, "sglang:token_usage").gauge.data_points
    assert usage.time_unix_nano == 1782908999500000000
    assert metric_of(page, "engine_info").gauge.data_points[0].as_double == 1


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("no_value{\n", TEXT),
        ("a one\n", TEXT),
        ("a 1\n", OPENMETRICS),
        ("<html>502 Bad Gateway</html>", TEXT),
        ('# TYPE a histogram\na_bucket{le="wide"} 1\na_count 1\n', TEXT),
    ],
)
def test_a_page_that_is_something_else_is_a_value_error(text, content_type):
    with pytest.raises(ValueError, match=r".+"):
        convert(parse(text, content_type), NOW_NS)


def test_a_histogram_that_contradicts_itself_is_left_out_and_counted():
    falling = '# TYPE a histogram\na_bucket{le="1"} 5\na_bucket{le="2"} 3\na_bucket{le="+Inf"} 6\na_count 6\n'
    page = convert(parse(falling, TEXT), NOW_NS)
    assert (page.skipped, page.samples) == (1, 4)
    assert page.metrics == []


def test_a_start_time_ahead_of_the_clock_is_unknown():
    page = convert(parse("# TYPE a_total counter\na_total 1\n# TYPE a_created gauge\na_created 4e9\n", TEXT), NOW_NS)
    assert metric_of(page, "a_total").sum.data_points[0].start_time_unix_nano == 0


def test_a_gauge_that_is_only_called_created_stays_a_gauge():
    page = convert(parse("# TYPE session_created gauge\nsession_created 12\n", TEXT), NOW_NS)
    assert metric_of(page, "session_created").gauge.data_points[0].as_double == 12


def test_dcgm_readings_stand_under_their_own_names_and_under_those_of_opentelemetry():
    page = converted("dcgm")
    [energy] = metric_of(page, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION").sum.data_points
    assert energy.as_double == 83482137412
    found = {
        (metric.name, labels(point)["hw.id"]): point.as_double
        for metric in gpu_metrics(page.metrics)
        for point in (*metric.gauge.data_points, *metric.sum.data_points)
    }
    assert found == {
        ("hw.gpu.utilization", H100): 0.87,
        ("hw.gpu.utilization", f"{MIG}/1"): 0.33187,
        ("hw.gpu.memory.usage", H100): 71402 * 2**20,
        ("hw.gpu.memory.usage", f"{MIG}/1"): 20011 * 2**20,
        ("hw.power", H100): 412.318,
        # Both slices report the device's power: once.
        ("hw.power", MIG): 233.5,
        ("hw.energy", H100): 83482137.412,
    }


def test_a_mapped_reading_says_which_device_it_is():
    utilization = gpu_metrics(converted("dcgm").metrics)[0]
    assert [labels(point) for point in utilization.gauge.data_points] == [
        {"hw.id": H100, "hw.name": "NVIDIA H100 80GB HBM3", "hw.type": "gpu"},
        {"hw.id": f"{MIG}/1", "hw.parent": MIG, "hw.name": "NVIDIA H100 80GB HBM3", "hw.type": "gpu"},
    ]


@pytest.mark.parametrize(
    ("line", "metric", "value"),
    [
        ('nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5', "hw.gpu.utilization", 0.5),
        ('nv_energy_consumption{gpu_uuid="GPU-1"} 12.5', "hw.energy", 12.5),
        ('nvidia_smi_memory_used_bytes{uuid="GPU-1"} 1024', "hw.gpu.memory.usage", 1024),
        ('nvidia_gpu_duty_cycle{minor_number="0",name="A10",uuid="GPU-1"} 50', "hw.gpu.utilization", 0.5),
        ('nvidia_gpu_power_usage_milliwatts{uuid="GPU-1"} 70500', "hw.power", 70.5),
    ],
)
def test_other_exporters_readings_are_known_too(line, metric, value):
    [found] = gpu_metrics(convert(parse(f"{line}\n", TEXT), NOW_NS).metrics)
    [point] = (*found.gauge.data_points, *found.sum.data_points)
    assert (found.name, point.as_double, labels(point)["hw.id"]) == (metric, value, "GPU-1")


def test_a_reading_that_is_not_a_number_is_no_reading():
    assert gpu_metrics(convert(parse('nv_gpu_utilization{gpu_uuid="GPU-1"} NaN\n', TEXT), NOW_NS).metrics) == []


LABEL_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=20)


@given(
    st.lists(
        st.tuples(LABEL_VALUES, st.lists(st.floats(0, 1e12), max_size=20)), max_size=4, unique_by=lambda each: each[0]
    ),
    st.booleans(),
)
def test_what_prometheus_client_writes_comes_out_as_it_was_recorded(series, in_openmetrics):
    registry = CollectorRegistry()
    counter = Counter("tokens", "", ["who"], registry=registry)
    gauge = Gauge("running", "", ["who"], registry=registry)
    histogram = Histogram("seconds", "", ["who"], registry=registry, buckets=(1, 1000))
    summary = Summary("bytes", "", ["who"], registry=registry)
    for who, values in series:
        for value in values:
            counter.labels(who).inc(value)
            gauge.labels(who).set(value)
            histogram.labels(who).observe(value)
            summary.labels(who).observe(value)
    write, content_type = (generate_openmetrics, OPENMETRICS) if in_openmetrics else (generate_latest, TEXT)
    page = convert(parse(write(registry).decode(), content_type), 2**62)
    recorded = {who: values for who, values in series if values}
    assert {labels(each)["who"]: each.as_double for each in metric_of(page, "tokens_total").sum.data_points} == {
        who: sum_in_order(values) for who, values in recorded.items()
    }
    assert {labels(each)["who"]: each.as_double for each in metric_of(page, "running").gauge.data_points} == {
        who: values[-1] for who, values in recorded.items()
    }
    assert {
        labels(each)["who"]: list(each.bucket_counts) for each in metric_of(page, "seconds").histogram.data_points
    } == {
        who: [
            sum(value <= 1 for value in values),
            sum(1 < value <= 1000 for value in values),
            sum(value > 1000 for value in values),
        ]
        for who, values in recorded.items()
    }
    assert {labels(each)["who"]: each.count for each in metric_of(page, "bytes").summary.data_points} == {
        who: len(values) for who, values in recorded.items()
    }
    assert all(each.start_time_unix_nano for each in metric_of(page, "tokens_total").sum.data_points)


def sum_in_order(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def test_a_line_too_long_for_the_parser_is_refused_at_once():
    page = "a{" + ",".join(f'x{number}="y"' for number in range(64_000)) + "} 1\n"
    with pytest.raises(ValueError, match="expected lines of at most 16384 characters"):
        parse(page, TEXT)


def test_a_page_of_too_many_lines_is_refused():
    with pytest.raises(ValueError, match="expected at most 250000 lines"):
        parse("\n" * 250_001, TEXT)


def test_a_counter_whose_own_name_ends_in_created_is_kept():
    page = convert(parse("# TYPE threads_created counter\nthreads_created 5\n", TEXT), NOW_NS)
    assert [(each.name, each.sum.data_points[0].as_double) for each in page.metrics] == [("threads_created", 5.0)]
