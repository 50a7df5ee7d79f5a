from __future__ import annotations

import json

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector import TRACES, CollectorSettings, Encoding, framing
from collector.content import ContentFilter
from collector.content.rules import DIALECTS, RAW_FIELDS, SCRUBBED
from collector.content.usage import ANSWER_KEYS, USAGE_KEY
from collector.window import Window
from tests.collector.bodies import NOW, NOW_NS, only_span, span_rows, trace_request

SECRET = "my prompt is confidential"
WINDOW = Window.around(NOW, CollectorSettings())

# As the SDKs write them, taken apart where they take them apart.
CONTENT_KEYS = sorted(
    {key for dialect in DIALECTS for key in dialect.keys.split()}
    | {f"llm.openai.{name}" for name in RAW_FIELDS}
    | {
        "gen_ai.prompt.0.content",
        "gen_ai.completion.0.tool_calls.0.arguments",
        "gen_ai.prompt.variable.name",
        "llm.input_messages.0.message.content",
        "llm.input_messages.12.message.contents.0.message_content.text",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments",
        "llm.prompts.0.prompt.text",
        "llm.choices.0.completion.text",
        "llm.tools.0.tool.json_schema",
        "llm.request.functions.0.description",
        "retrieval.documents.0.document.content",
        "retrieval.documents.0.document.metadata",
        "reranker.input_documents.0.document.content",
        "embedding.embeddings.0.embedding.text",
        "embedding.embeddings.0.embedding.vector",
        "ai.prompt.messages",
        "ai.prompt.tools",
        "traceloop.prompt.template_variables.city",
    }
)
PLAIN_KEYS = [
    "ai.prompt.toolChoice",
    "ai.response.finishReason",
    "ai.response.id",
    "ai.response.model",
    "ai.toolCall.id",
    "ai.toolCall.name",
    "ai.usage.inputTokens",
    "db.query.text",
    "error.type",
    "gen_ai.agent.name",
    "gen_ai.completion.0.finish_reason",
    "gen_ai.completion.0.tool_calls.0.name",
    "gen_ai.conversation.id",
    "gen_ai.operation.name",
    "gen_ai.output.type",
    "gen_ai.prompt.0.role",
    "gen_ai.prompt.name",
    "gen_ai.prompt.version",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.tool.call.id",
    "gen_ai.tool.name",
    "gen_ai.usage.details.input_tokens",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.raw",
    "http.request.body.size",
    "http.route",
    "input.mime_type",
    "langfuse.observation.metadata.finish_reason",
    "langfuse.observation.type",
    "langfuse.observation.usage_details",
    "llm.input_messages.0.message.role",
    "llm.model_name",
    "llm.openai.usage",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.name",
    "llm.token_count.prompt",
    "llm.token_count.prompt_details.cache_read",
    "llm.usage.total_tokens",
    "metadata.usage_object",
    "mlflow.chat.tokenUsage",
    "openinference.span.kind",
    "pennytrace.endpoint",
    "retrieval.documents.0.document.id",
    "retrieval.documents.0.document.score",
    "traceloop.entity.name",
]


def filtered(request: ExportTraceServiceRequest, **settings: object) -> ExportTraceServiceRequest:
    """What is stored of a request."""
    raw = request.SerializeToString()
    content = ContentFilter(CollectorSettings(**settings))
    body = framing.frame(ExportTraceServiceRequest.FromString(raw), raw, WINDOW, "", content)
    return ExportTraceServiceRequest.FromString(b"".join(b"\x0a" + row.framed() for row in body.rows))


def request_with(attributes: dict[str, str]) -> ExportTraceServiceRequest:
    request = trace_request(1)
    for key, text in attributes.items():
        only_span(request).attributes.add(key=key).value.string_value = text
    return request


def attributes_of(request: ExportTraceServiceRequest) -> dict[str, str]:
    return {one.key: one.value.string_value for one in only_span(request).attributes}


@pytest.mark.parametrize("key", CONTENT_KEYS)
def test_content_is_dropped_in_every_dialect(key):
    assert attributes_of(filtered(request_with({key: SECRET, "gen_ai.request.model": "m"}))) == {
        "gen_ai.request.model": "m"
    }


@pytest.mark.parametrize("key", CONTENT_KEYS)
def test_content_is_found_in_a_body_that_is_too_large_to_look_at_every_key(key):
    request = trace_request(200)
    span = request.resource_spans[0].scope_spans[0].spans[117]
    span.attributes.add(key=key).value.string_value = SECRET
    assert len(request.SerializeToString()) > 10_000
    assert SECRET.encode() not in filtered(request).SerializeToString()


def test_metadata_ids_roles_counts_and_usage_stay():
    sent = dict.fromkeys(PLAIN_KEYS, "kept")
    assert attributes_of(filtered(request_with(sent))) == sent


def test_a_large_body_without_content_goes_on_as_its_own_bytes():
    request = trace_request(200)
    for span in request.resource_spans[0].scope_spans[0].spans:
        for key in ("gen_ai.operation.name", "gen_ai.usage.input_tokens", "gen_ai.provider.name", "service.version"):
            span.attributes.add(key=key).value.string_value = key
    raw = request.SerializeToString()
    body = framing.frame(request, raw, WINDOW, "", ContentFilter(CollectorSettings()))
    assert isinstance(body.rows[0].message, memoryview)
    assert body.rows[0].message.obj is raw


def test_only_messages_with_content_are_written_anew():
    request = request_with({"input.value": SECRET})
    request.MergeFrom(trace_request(1, service="other"))
    raw = request.SerializeToString()
    body = framing.frame(request, raw, WINDOW, "", ContentFilter(CollectorSettings()))
    assert [isinstance(row.message, memoryview) for row in body.rows] == [False, True]
    assert body.content_dropped == 1


@pytest.mark.parametrize("spans", [1, 200])
def test_content_is_dropped_from_events_links_scopes_and_resources(spans):
    request = trace_request(spans)
    resource_spans = request.resource_spans[0]
    span = resource_spans.scope_spans[0].spans[-1]
    event = span.events.add(name="gen_ai.user.message")
    event.attributes.add(key="content").value.string_value = SECRET
    event.attributes.add(key="role").value.string_value = "user"
    choice = span.events.add(name="gen_ai.choice")
    choice.attributes.add(key="message").value.string_value = SECRET
    choice.attributes.add(key="finish_reason").value.string_value = "stop"
    old = span.events.add(name="gen_ai.content.prompt")
    old.attributes.add(key="gen_ai.prompt").value.string_value = SECRET
    other = span.events.add(name="cache.lookup")
    other.attributes.add(key="message").value.string_value = "a message of the application"
    for attributes in (
        span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8).attributes,
        resource_spans.scope_spans[0].scope.attributes,
        resource_spans.resource.attributes,
    ):
        attributes.add(key="input.value").value.string_value = SECRET
    stored = filtered(request)
    assert SECRET.encode() not in stored.SerializeToString()
    events = stored.resource_spans[0].scope_spans[0].spans[-1].events
    assert [[one.key for one in event.attributes] for event in events] == [["role"], ["finish_reason"], [], ["message"]]


def test_content_of_any_type_is_dropped():
    request = trace_request(1)
    messages = only_span(request).attributes.add(key="gen_ai.input.messages").value
    messages.array_value.values.add().kvlist_value.values.add(key="content").value.string_value = SECRET
    assert SECRET.encode() not in filtered(request).SerializeToString()


def test_content_comes_through_when_it_is_switched_on():
    sent = {"gen_ai.input.messages": SECRET, "exception.message": SECRET, "input.value": SECRET}
    request = request_with(sent)
    only_span(request).status.message = SECRET
    stored = filtered(request, keep_message_content=True)
    assert attributes_of(stored) == sent
    assert only_span(stored).status.message == SECRET


@pytest.mark.parametrize("switched_on", [True, False])
@pytest.mark.parametrize("spans", [1, 200])
def test_further_attributes_are_dropped_by_key_and_by_the_beginning_of_the_key(switched_on, spans):
    request = trace_request(spans)
    for key in ("shop.note", "shop.notes", "customer.address.street", "customer.address.", "customer.id", "x"):
        only_span(request).attributes.add(key=key).value.string_value = SECRET
    stored = filtered(
        request, drop_attributes=("shop.note", "customer.address.*", "x"), keep_message_content=switched_on
    )
    assert list(attributes_of(stored)) == ["shop.notes", "customer.id"]


def test_parameters_are_kept_without_the_members_that_hold_content():
    kept = {"temperature": 0.2, "max_tokens": 300, "model": "m"}
    sent = json.dumps(kept | {"system": SECRET, "tools": [{"name": SECRET}], "extra": {"prompt": SECRET}})
    stored = attributes_of(filtered(request_with(dict.fromkeys(SCRUBBED, sent))))
    assert {key: json.loads(text) for key, text in stored.items()} == dict.fromkeys(SCRUBBED, kept | {"extra": {}})


def test_usage_in_metadata_stays_whatever_its_numbers_are_called():
    usage = '{"anthropic":{"usage":{"input":7,"input_tokens":5337,"cache_creation":{"ephemeral_1h_input_tokens":1}}}}'
    sent = {"ai.response.providerMetadata": usage}
    assert attributes_of(filtered(request_with(sent))) == sent


def test_parameters_that_cannot_be_read_are_dropped():
    assert attributes_of(filtered(request_with({"llm.invocation_parameters": f"system={SECRET}"}))) == {}


@pytest.mark.parametrize("spans", [1, 200])
def test_the_texts_of_errors_lose_what_they_quote(spans):
    request = trace_request(spans)
    span = request.resource_spans[0].scope_spans[0].spans[-1]
    text = f"RateLimitError: Error code: 429 - {{'error': {{'type': 'rate_limit_error', 'message': '{SECRET}'}}}}"
    span.status.code, span.status.message = 2, text
    event = span.events.add(name="exception")
    event.attributes.add(key="exception.type").value.string_value = "openai.RateLimitError"
    event.attributes.add(key="exception.message").value.string_value = text
    stored = filtered(request).resource_spans[0].scope_spans[0].spans[-1]
    summary = "RateLimitError, 429, rate_limit_error"
    assert (stored.status.code, stored.status.message) == (2, summary)
    assert [one.value.string_value for one in stored.events[0].attributes] == ["openai.RateLimitError", summary]


@pytest.mark.parametrize("length", [1, 126, 4000, 70_000])
@pytest.mark.parametrize("code_first", [True, False])
def test_an_error_in_a_status_is_found_in_a_large_body_however_it_is_written(length, code_first):
    spans = trace_request(200).resource_spans[0].scope_spans[0].spans
    message, code = b"\x12" + framing.varint(length) + b"x" * length, b"\x18\x02"
    status = code + message if code_first else message + code
    odd = spans[50].SerializeToString() + b"\x7a" + framing.varint(len(status)) + status
    parts = [odd if at == 50 else span.SerializeToString() for at, span in enumerate(spans)]
    scope = b"".join(b"\x12" + framing.varint(len(part)) + part for part in parts)
    resource = b"\x12" + framing.varint(len(scope)) + scope
    raw = b"\x0a" + framing.varint(len(resource)) + resource
    content = ContentFilter(CollectorSettings())
    body = framing.frame(ExportTraceServiceRequest.FromString(raw), raw, WINDOW, "", content)
    stored = ExportTraceServiceRequest.FromString(b"\x0a" + body.rows[0].framed())
    assert stored.resource_spans[0].scope_spans[0].spans[50].status.message == ""
    assert body.content_dropped == 1


def test_all_texts_of_message_events_are_dropped_but_the_known_plain_ones():
    request = trace_request(200)
    event = request.resource_spans[0].scope_spans[0].spans[7].events.add(name="gen_ai.choice")
    for key in ("tool.result", "app.own", "role", "finish_reason", "gen_ai.response.id"):
        event.attributes.add(key=key).value.string_value = SECRET if key in ("tool.result", "app.own") else "kept"
    event.attributes.add(key="index").value.int_value = 3
    [stored] = filtered(request).resource_spans[0].scope_spans[0].spans[7].events
    assert [one.key for one in stored.attributes] == ["role", "finish_reason", "gen_ai.response.id", "index"]


@pytest.mark.parametrize("spans", [1, 200])
@pytest.mark.parametrize("in_array", [True, False])
def test_content_in_the_lists_below_a_plain_key_is_dropped(spans, in_array):
    request = trace_request(spans)
    value = only_span(request).attributes.add(key="metadata").value
    inner = value.array_value.values.add() if in_array else value
    for key in ("prompt", "user"):
        inner.kvlist_value.values.add(key=key).value.string_value = SECRET if key == "prompt" else "kept"
    [stored] = only_span(filtered(request)).attributes
    assert SECRET not in str(stored)
    assert "kept" in str(stored)


@pytest.mark.parametrize("depth", [90, 250, 300, 990])
@pytest.mark.parametrize("array", [True, False])
def test_parameters_of_any_depth_lose_their_content(depth, array):
    inner = json.dumps({"prompt": SECRET})
    nested = ("[" * depth + inner + "]" * depth) if array else '{"a":' * depth + inner + "}" * depth
    stored = attributes_of(filtered(request_with({"llm.invocation_parameters": f'{{"top_k":1,"a":{nested}}}'})))
    assert SECRET not in stored["llm.invocation_parameters"]
    assert json.loads(stored["llm.invocation_parameters"])["top_k"] == 1


def test_the_texts_of_errors_can_be_kept_without_other_content():
    request = request_with({"input.value": SECRET, "exception.message": "why"})
    only_span(request).status.message = "why"
    stored = filtered(request, keep_error_messages=True)
    assert attributes_of(stored) == {"exception.message": "why"}
    assert only_span(stored).status.message == "why"


@pytest.mark.parametrize("key", sorted(ANSWER_KEYS))
@pytest.mark.parametrize("switched_on", [True, False])
def test_usage_in_an_answer_is_read_whether_or_not_the_answer_is_kept(key, switched_on):
    answer = json.dumps({"id": "r1", "model": "m", "choices": [{"text": SECRET}], "usage": {"prompt_tokens": 7}})
    stored = attributes_of(filtered(request_with({key: answer}), keep_message_content=switched_on))
    assert stored[USAGE_KEY] == '{"openai":{"prompt_tokens":7},"model":"m","id":"r1"}'
    assert (key in stored) == switched_on


def test_spans_and_counts_of_what_went_are_right_over_the_whole_way(ingest, store):
    request = request_with({"input.value": SECRET, "gen_ai.completion.0.content": SECRET, "llm.model_name": "m"})
    ingest.receive(TRACES, request.SerializeToString()).result()
    [row] = span_rows(store)
    assert dict(row["attributes"]) == {"llm.model_name": "m"}
    counts = {(one.name, one.labels.get("signal")): one.value for one in ingest.counts()}
    assert counts["pennytrace_content_dropped_total", "traces"] == 2


def test_content_is_dropped_from_json_bodies_too(ingest, store):
    attributes = [{"key": key, "value": {"stringValue": SECRET}} for key in ("ai.prompt", "shop.note")]
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "startTimeUnixNano": str(NOW_NS), "attributes": attributes}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    ingest.receive(TRACES, body, Encoding.JSON).result()
    [attributes] = store.frame_of("SELECT toString(attributes) AS text FROM spans")["text"]
    assert attributes == f"{{'shop.note':'{SECRET}'}}"
