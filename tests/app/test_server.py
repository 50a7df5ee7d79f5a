"""The whole server in a process of its own: real exporters in, dollars out."""

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import genai_prices
import polars as pl
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.app.serving import pennytrace, serving

SHARED = Path(__file__).parents[2].parent / "shared"
USAGE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}
# $0.15 and $0.60 a million tokens.
COST = Decimal("0.00021")


def send(exporter, service):
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("chat gpt-4o-mini", attributes=USAGE):
        pass
    provider.shutdown()


def test_spans_over_http_and_grpc_become_dollars(tmp_path):
    with serving(tmp_path, "--data", "data") as server:
        send(HttpExporter(server.http + "/v1/traces"), "over-http")
        send(GrpcExporter(server.grpc, insecure=True), "over-grpc")
        analysed = pennytrace("analyze", "--url", server.ui, "--json", cwd=tmp_path)
        assert json.loads(analysed.stdout)["calls"] == 2, analysed.stderr
        answer = server.json("/api/report?by=service")
        assert {row["service"]: Decimal(row["cost_usd"]) for row in answer["rows"]} == {
            "over-http": COST,
            "over-grpc": COST,
        }
        assert (
            answer["totals"] | {"requests": 2, "calls": 2, "input_tokens": 2000, "output_tokens": 200}
            == answer["totals"]
        )
    # What was acknowledged is there after the server has ended.
    again = json.loads(pennytrace("report", "--data", "data", "--json", cwd=tmp_path).stdout)
    assert Decimal(again["totals"]["cost_usd"]) == 2 * COST


def test_health_readiness_and_metrics_answer(tmp_path):
    with serving(tmp_path, "--data", "data") as server:
        send(HttpExporter(server.http + "/v1/traces"), "any")
        assert server.json("/healthz") == {"status": "ok"}
        assert server.json("/readyz")["status"] == "ok"
        assert "pennytrace_" in server.get("/metrics")


def test_another_sites_page_cannot_change_anything(tmp_path):
    with serving(tmp_path, "--data", "data") as server:
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            request = urllib.request.Request(server.ui + "/api/analyze", method="POST", headers=headers)
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(request, timeout=30)
        own = urllib.request.Request(server.ui + "/api/analyze", method="POST", headers={"Origin": server.ui})
        assert urllib.request.urlopen(own, timeout=30).status == 200


def test_rejected_spans_of_a_json_recording_are_said_and_fail_the_replay(tmp_path):
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "old", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    message = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    (tmp_path / "old.jsonl").write_text(json.dumps(message) + "\n")
    with serving(tmp_path, "--data", "data") as server:
        done = pennytrace("replay", "old.jsonl", "--format", "otlp", "--endpoint", server.http, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == "0 spans in 1 requests stored\n"
    assert "1 spans were rejected" in done.stderr


def test_a_job_that_is_running_is_finished_and_answered_before_the_server_ends(tmp_path):
    lines = [f"2026-01-02 03:{n // 60 % 60:02}:{n % 60:02}.0,{n},7" for n in range(20_000)]
    (tmp_path / "t.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    with ThreadPoolExecutor() as pool, serving(tmp_path, "--data", "data") as server:
        sent = pennytrace("replay", "t.csv", "--format", "azure", "--endpoint", server.http, cwd=tmp_path)
        assert sent.returncode == 0, sent.stderr
        request = urllib.request.Request(server.ui + "/api/analyze?everything=true", method="POST")
        answer = pool.submit(urllib.request.urlopen, request, timeout=60)
        time.sleep(0.2)
    assert json.loads(answer.result().read())["calls"] == 20_000


def test_calls_are_listed_with_the_canonical_names(tmp_path):
    with serving(tmp_path, "--data", "data") as server:
        send(HttpExporter(server.http + "/v1/traces"), "names")
        pennytrace("analyze", "--url", server.ui, cwd=tmp_path)
        listed = pennytrace("calls", "--url", server.ui, "--json", cwd=tmp_path)
        (call,) = json.loads(listed.stdout)
        assert pennytrace("calls", "--url", server.ui, "--csv", cwd=tmp_path).stdout.count("\n") == 2
    names = (
        "provider model operation input_tokens cache_read_tokens cache_write_5m_tokens cache_write_1h_tokens "
        "output_tokens reasoning_tokens endpoint service trace_id span_id response_id started_at duration_ms cost_usd "
        "cost_parts unpriced_reason possible_duplicate"
    )
    assert set(names.split()) <= set(call)
    assert Decimal(call["cost_usd"]) == COST == sum(Decimal(part) for part in call["cost_parts"].values())
    assert call["unpriced_reason"] is None
    assert len(call["trace_id"]) == 32
    assert datetime.fromisoformat(call["started_at"]).tzinfo == UTC


@pytest.mark.slow
@pytest.mark.parametrize("name", ["azure_llm_2023_code", "azure_llm_2023_conv"])
def test_a_replayed_azure_trace_reports_exactly_what_is_in_the_file(tmp_path, name):
    file = SHARED / "data" / f"{name}.parquet"
    if not file.exists():
        pytest.skip(f"needs the shared data folder: {file.name}")
    trace = pl.read_parquet(file)
    usage = trace.select(pl.col("ContextTokens").sum(), pl.col("GeneratedTokens").sum()).row(0)
    price = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=usage[0], output_tokens=usage[1]),
        "gpt-4o",
        provider_id="openai",
        genai_request_timestamp=datetime(2023, 11, 16, 19, tzinfo=UTC),
    )
    with serving(tmp_path, "--data", "data") as server:
        sent = pennytrace("replay", file, "--format", "azure", "--endpoint", server.http, cwd=tmp_path)
        assert sent.returncode == 0, sent.stderr
        pennytrace("analyze", "--url", server.ui, cwd=tmp_path)
        totals = server.json("/api/report")["totals"]
    assert (totals["requests"], totals["calls"]) == (trace.height, trace.height)
    assert (totals["input_tokens"], totals["output_tokens"]) == usage
    assert Decimal(totals["cost_usd"]) == price.total_price
