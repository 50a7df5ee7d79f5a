"""Clients that nobody here wrote: the official exporters and the recorded corpus."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from collector import Ingest
from tests.collector.bodies import span_rows
from tests.collector.serving import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace.export import SpanExporter

    from tests.collector.serving import Serving

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"
RESOURCE = Resource.create({"service.name": "exporters"})


@pytest.fixture
def serving(store, settings, journal) -> Iterator[Serving]:
    """The collector by the machine's own clock, as exporters stamp their spans with it."""
    ingest = Ingest(store, settings, lambda: datetime.now(UTC), journal)
    store.feeders = (ingest,)
    with serve(ingest, settings) as serving:
        yield serving
    store.feeders = ()
    ingest.close()


def export_spans(exporter: SpanExporter, spans: int) -> None:
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span("request"):
        for tokens in range(spans - 1):
            with tracer.start_as_current_span("chat", attributes={"gen_ai.usage.input_tokens": tokens}):
                pass
    assert provider.force_flush()
    provider.shutdown()


@pytest.mark.parametrize("compression", list(Compression))
def test_the_python_http_exporter_gets_its_spans_stored(serving, store, compression):
    export_spans(HttpSpanExporter(f"{serving.http}/v1/traces", compression=compression), 30)
    check_spans(store, 30)


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_the_python_grpc_exporter_gets_its_spans_stored(serving, store, compression):
    export_spans(GrpcSpanExporter(serving.grpc, insecure=True, compression=compression), 30)
    check_spans(store, 30)


def check_spans(store, spans: int) -> None:
    rows = span_rows(store, "exporters")
    assert len(rows) == spans
    [root] = [row for row in rows if row["name"] == "request"]
    children = [row for row in rows if row["name"] == "chat"]
    assert {row["parent_span_id"] for row in children} == {root["span_id"]}
    tokens = sorted(int(row["attributes"]["gen_ai.usage.input_tokens"]) for row in children)
    assert tokens == list(range(spans - 1))


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_the_python_metric_exporters_get_their_points_stored(serving, store, transport):
    exporter = (
        HttpMetricExporter(f"{serving.http}/v1/metrics")
        if transport == "http"
        else GrpcMetricExporter(serving.grpc, insecure=True)
    )
    provider = MeterProvider(
        [PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)], resource=RESOURCE
    )
    meter = provider.get_meter("tests")
    meter.create_counter("tokens").add(7, {"model": "m"})
    meter.create_histogram("seconds").record(0.3)
    provider.shutdown()
    rows = store.frame_of("SELECT metric, value_int, count FROM metric_points ORDER BY metric").to_dicts()
    assert rows == [
        {"metric": "seconds", "value_int": None, "count": 1},
        {"metric": "tokens", "value_int": 7, "count": None},
    ]


@pytest.mark.skipif(not CORPUS.exists(), reason="needs the shared data folder")
def test_the_recorded_corpus_is_accepted_and_every_span_is_read_once(serving, store):
    posted = subprocess.run(
        [sys.executable, CORPUS / "replay.py", "--quiet", "--endpoint", serving.http, "--grpc", serving.grpc],
        capture_output=True,
        text=True,
        check=False,
    )
    assert posted.returncode == 0, posted.stdout
    cases = [json.loads(path.read_text()) for path in CORPUS.glob("*/expected.json")]
    expected = sum(case.get("spans", 0) for case in cases)
    sent = sum(case.get("spans_sent", 0) for case in cases)
    assert store.frame_of("SELECT count() AS spans FROM spans FINAL")["spans"][0] == expected
    assert serving.count("pennytrace_stored_items_total", signal="traces") == sent > expected
    assert serving.count("pennytrace_refused_bodies_total") == 0
