"""One trace, over the command line and the API."""

import json
import os
import time
import urllib.error
import urllib.request

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console

from app.errors import CommandError
from app.traces import parse_trace_id, trace_table
from tests.app.serving import pennytrace, serving


def request_of(trace_id, start_ns):
    """A request that calls a model, and a failed tool below that."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "shop"
    spans = resource_spans.scope_spans.add().spans
    for number, (name, parent) in enumerate([("POST /chat", 0), ("chat gpt-4.1", 1), ("tool", 2)], 1):
        spans.add(
            trace_id=trace_id,
            span_id=number.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            name=name,
            start_time_unix_nano=start_ns + number,
            end_time_unix_nano=start_ns + 1_500_000_000,
        )
    for key, value in (("operation.name", "chat"), ("provider.name", "openai"), ("request.model", "gpt-4.1")):
        spans[1].attributes.add(key=f"gen_ai.{key}").value.string_value = value
    spans[1].attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 1000
    spans[1].attributes.add(key="gen_ai.usage.output_tokens").value.int_value = 100
    spans[2].status.code = 2
    return request


def test_a_trace_is_shown_as_a_tree_with_its_cost_and_as_otlp_json(tmp_path):
    trace_id = os.urandom(16)
    with serving(tmp_path, "--data", tmp_path / "data") as server:
        urllib.request.urlopen(
            urllib.request.Request(
                server.http + "/v1/traces",
                request_of(trace_id, time.time_ns() - 10**10).SerializeToString(),
                {"content-type": "application/x-protobuf"},
            ),
            timeout=30,
        ).close()
        assert pennytrace("analyze", "--url", server.ui, cwd=tmp_path).returncode == 0
        shown = pennytrace("trace", trace_id.hex(), "--url", server.ui, cwd=tmp_path)
        as_json = pennytrace("trace", trace_id.hex(), "--url", server.ui, "--json", cwd=tmp_path)
        unknown = pennytrace("trace", "00" * 15 + "01", "--url", server.ui, cwd=tmp_path)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            server.get("/api/traces/" + "00" * 15 + "01")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["chat", "gpt-4.1", "shop", "1,500.0", "gpt-4.1", "1,000", "100", "$0.002800"] in lines
    assert "    tool (error)" in shown.stdout
    answer = json.loads(as_json.stdout)
    found = answer["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span["traceId"] for span in found] == [trace_id.hex()] * 3
    assert [call["cost_usd"] for call in answer["calls"]] == ["0.0028"]
    assert unknown.returncode == 1
    assert "no span of trace 00" in unknown.stderr
    refusal.value.close()
    assert refusal.value.code == 404


@pytest.mark.parametrize("text", ["", "xyz", "00" * 15, "00" * 17])
def test_what_is_no_trace_id_is_refused(text):
    with pytest.raises(CommandError, match="expected a trace id of 32 hex digits"):
        parse_trace_id(text)


def test_a_trace_id_may_be_written_with_dashes():
    assert parse_trace_id("00000000-0000-0000-0000-0000000000FF") == bytes(15) + b"\xff"


def tree(*pairs):
    spans = [
        {"spanId": span_id, "parentSpanId": parent, "name": span_id, "startTimeUnixNano": str(at)}
        for at, (span_id, parent) in enumerate(pairs)
    ]
    answer = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}], "calls": []}
    console = Console(width=120)
    with console.capture() as captured:
        console.print(trace_table(answer))
    return [line[1:].split("-")[0].rstrip() for line in captured.get().splitlines()[2:] if line.strip(" ─")]


def test_children_stand_below_their_parents_in_order_of_start():
    assert tree(("a", ""), ("b", "a"), ("c", ""), ("d", "b"), ("e", "a")) == ["a", "  b", "    d", "  e", "c"]


def test_a_span_whose_parent_is_elsewhere_is_a_root():
    assert tree(("a", "elsewhere"), ("b", "a")) == ["a", "  b"]


def test_spans_that_are_each_others_parents_are_all_shown():
    assert sorted(line.strip() for line in tree(("a", "b"), ("b", "a"), ("c", "c"))) == ["a", "b", "c"]


def test_spans_of_two_services_with_the_same_id_are_both_shown():
    def part(service, name, at, parent=""):
        span = {"spanId": "aa", "parentSpanId": parent, "name": name, "startTimeUnixNano": str(at)}
        named = [{"key": "service.name", "value": {"stringValue": service}}]
        return {"resource": {"attributes": named}, "scopeSpans": [{"spans": [span]}]}

    answer = {"resourceSpans": [part("client", "ask", 1), part("server", "serve", 2)], "calls": [], "truncated": True}
    console = Console(width=120)
    with console.capture() as captured:
        console.print(trace_table(answer))
    assert "ask" in captured.get()
    assert "serve" in captured.get()
    assert "more than the 100,000 spans" in " ".join(captured.get().split())
