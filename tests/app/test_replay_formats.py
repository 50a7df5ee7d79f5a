"""Readers of published traces, on small files of the same form and on the real ones where they are present."""

import json
from pathlib import Path

import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.errors import CommandError
from app.replay.command import ReplayOptions, prepare
from app.replay.formats import read_trace
from app.replay.recorded import recorded_bodies

SHARED = Path(__file__).parents[2].parent / "shared"

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
)


def test_an_azure_trace_keeps_its_dates_and_tokens(tmp_path):
    file = tmp_path / "code.csv"
    file.write_text(AZURE)
    trace = read_trace(file, "azure")
    assert trace.is_dated
    assert trace.requests["input_tokens"].to_list() == [4808, 3180]
    assert trace.requests["start_ns"].to_list() == [1700158623979960000, 1700158624031960000]
    assert set(trace.requests["endpoint"]) == {"code"}


def test_a_mooncake_trace_counts_from_its_own_beginning(tmp_path):
    file = tmp_path / "conversation.jsonl"
    file.write_text('{"timestamp": 3000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n')
    trace = read_trace(file, "mooncake")
    assert not trace.is_dated
    assert trace.requests.row(0, named=True)["start_ns"] == 3_000_000_000


def test_servegen_rates_become_requests_with_the_published_means(tmp_path):
    pl.DataFrame({"model": ["m"] * 2, "client": [0, 1], "hour": [0, 1], "requests": [40_000, 10_000]}).write_parquet(
        tmp_path / "x_hourly_requests.parquet"
    )
    pl.DataFrame(
        {
            "model": ["m"] * 2,
            "client": [0, 1],
            "hour": [0, 0],
            "input_tokens_mean": [400.0, 1000.0],
            "input_tokens_std": [200.0, 100.0],
            "output_tokens_mean": [50.0, 80.0],
            "output_tokens_std": [10.0, 10.0],
        }
    ).write_parquet(tmp_path / "x_6h_tokens.parquet")
    trace = read_trace(tmp_path / "x_hourly_requests.parquet", "servegen")
    means = dict(trace.requests.group_by("endpoint").agg(pl.col("input_tokens").mean()).iter_rows())
    assert trace.requests.height == 50_000
    assert means["m/client-0"] == pytest.approx(400, rel=0.02)
    assert means["m/client-1"] == pytest.approx(1000, rel=0.02)


def test_a_file_without_the_columns_is_refused_with_what_it_has(tmp_path):
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(CommandError, match="expected columns TIMESTAMP, ContextTokens, GeneratedTokens, got a, b"):
        read_trace(file, "azure")


def test_a_file_with_a_broken_value_is_refused(tmp_path):
    file = tmp_path / "broken.csv"
    file.write_text(AZURE + "soon,12,1\n")
    with pytest.raises(CommandError, match="a value that does not fit"):
        read_trace(file, "azure")


@pytest.mark.parametrize("value", ['"soon"', "null", "-1"])
def test_a_mooncake_file_with_a_broken_value_is_refused(tmp_path, value):
    file = tmp_path / "broken.jsonl"
    file.write_text(f'{{"timestamp": 3000, "input_length": {value}, "output_length": 500}}\n')
    with pytest.raises(CommandError, match="broken"):
        read_trace(file, "mooncake")


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path):
    file = tmp_path / "x.csv"
    file.touch()
    with pytest.raises(CommandError, match="one of azure, mooncake, servegen, otlp, got 'parquet'"):
        prepare(file, "parquet", ReplayOptions())


def test_a_missing_file_is_named():
    with pytest.raises(CommandError, match=r"no such file: nowhere\.csv"):
        prepare(Path("nowhere.csv"), "azure", ReplayOptions())


def test_the_same_file_makes_the_same_spans_twice(tmp_path):
    file = tmp_path / "code.csv"
    file.write_text(AZURE)
    once, twice = ([body.data for body in prepare(file, "azure", ReplayOptions()).bodies] for _ in range(2))
    assert once == twice


def test_another_file_of_the_same_name_makes_other_spans(tmp_path):
    ids = []
    for folder, text in (("a", AZURE), ("b", AZURE.replace("4808", "4809"))):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "part-0.csv"
        file.write_text(text)
        (body,) = prepare(file, "azure", ReplayOptions()).bodies
        spans = ExportTraceServiceRequest.FromString(body.data).resource_spans[0].scope_spans[0].spans
        ids.append({span.trace_id for span in spans})
    assert ids[0].isdisjoint(ids[1])


def test_shifting_to_now_moves_every_span_by_the_same_amount(tmp_path):
    file = tmp_path / "code.csv"
    file.write_text(AZURE)
    (body,) = prepare(file, "azure", ReplayOptions(shift_to_now=True)).bodies
    spans = ExportTraceServiceRequest.FromString(body.data).resource_spans[0].scope_spans[0].spans
    assert spans[1].start_time_unix_nano - spans[0].start_time_unix_nano == 52_000_000
    assert spans[0].start_time_unix_nano > 1_750_000_000 * 10**9


def test_recorded_json_lines_are_sent_as_they_are(tmp_path):
    file = tmp_path / "export.jsonl"
    message = {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a"}, {"name": "b"}]}]}]}
    file.write_text(json.dumps(message) + "\n\n" + json.dumps({"resourceMetrics": []}) + "\n")
    traces, metrics = recorded_bodies(file)
    assert (traces.path, traces.spans, json.loads(traces.data)) == ("/v1/traces", 2, message)
    assert metrics.path == "/v1/metrics"


def test_a_line_that_is_not_otlp_is_named_by_its_number(tmp_path):
    file = tmp_path / "export.jsonl"
    for wrong in ('{"hello": 1}', '{"resourceSpans": 5}', "[]"):
        file.write_text('{"resourceSpans": []}\n' + wrong + "\n")
        with pytest.raises(CommandError, match="line 2: expected one OTLP/JSON export request"):
            list(recorded_bodies(file))


def test_a_recorded_directory_without_headers_is_refused(tmp_path):
    (tmp_path / "meta.json").write_text('{"requests": [{"signal": "traces", "transport": "http"}]}')
    with pytest.raises(CommandError, match="signal, transport, headers and body"):
        list(recorded_bodies(tmp_path))


@pytest.mark.parametrize(
    ("name", "file_format", "requests"),
    [
        ("azure_llm_2023_code", "azure", 8_819),
        ("azure_llm_2023_conv", "azure", 19_366),
        ("mooncake_conversation", "mooncake", 12_031),
        ("servegen_hourly_requests", "servegen", 100_000),
    ],
)
def test_the_real_traces_are_read_whole(name, file_format, requests):
    file = SHARED / "data" / f"{name}.parquet"
    if not file.exists():
        pytest.skip(f"needs the shared data folder: {file.name}")
    trace = read_trace(file, file_format)
    assert trace.requests.height == requests
    assert trace.requests.null_count().sum_horizontal().item() == 0
