from __future__ import annotations

import json
from datetime import timedelta

import pytest

from analytics.ledger.normaliser import COUNT_FIELDS, Attribute, model_spans_query, query_path
from analytics.ledger.vocabulary import canonical_provider, operation_role
from tests.analytics.spans import START, Span, insert_spans

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1"}
CANONICAL = {
    "sent_input": "input_tokens",
    "sent_output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "reasoning": "reasoning_tokens",
}
PLAIN_KEYS = [
    (field, source.key) for field in CANONICAL for source in COUNT_FIELDS[field] if isinstance(source, Attribute)
]


def test_the_checked_in_query_is_what_the_table_generates():
    assert query_path().read_text() == model_spans_query()


def test_every_spelling_of_a_count_reaches_its_column(store, ledger):
    usage = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 500}
    for number, (field, key) in enumerate(PLAIN_KEYS):
        others = {name: value for name, value in usage.items() if field not in ("sent_input", "sent_output")}
        insert_spans(
            store,
            [
                Span(
                    f"s{number}",
                    CHAT | others | {key: 7},
                    trace=f"t{number}",
                    started_at=START + timedelta(seconds=number),
                )
            ],
        )
    calls = ledger()
    assert [calls[CANONICAL[field]][row] for row, (field, _) in enumerate(PLAIN_KEYS)] == [7] * len(PLAIN_KEYS)


@pytest.mark.parametrize(
    ("sent", "read"),
    [("12", 12), ("12.0", 12), ('"12"', 12), ("1e3", 1000), ("", None), ("twelve", None), ("-1", None), ("1.5", None)],
)
def test_a_count_is_read_from_ints_doubles_and_text_and_nothing_else(store, ledger, sent, read):
    insert_spans(store, [Span("a", CHAT | {"gen_ai.usage.input_tokens": sent, "gen_ai.usage.output_tokens": "3"})])
    assert ledger()["input_tokens"].to_list() == [read]


def test_a_blob_from_langfuse_is_read_inclusive_or_exclusive_by_its_own_names(store, ledger):
    generation = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-4.1"}
    details = "langfuse.observation.usage_details"
    own = '{"input": 679, "output": 80, "input_cache_read": 653, "output_reasoning": 7}'
    provider = '{"prompt_tokens": 1332, "completion_tokens": 87, "prompt_tokens_details": {"cached_tokens": 653}}'
    insert_spans(
        store,
        [
            Span("own", generation | {details: own}, trace="own"),
            Span(
                "provider", generation | {details: provider}, trace="provider", started_at=START + timedelta(seconds=1)
            ),
        ],
    )
    calls = ledger()
    assert calls["input_tokens"].to_list() == [1332, 1332]
    assert calls["output_tokens"].to_list() == [87, 87]
    assert calls["cache_read_tokens"].to_list() == [653, 653]
    assert calls["usage_note"].to_list() == ["input sent without cached tokens: langfuse's input", ""]


OPENAI_ANSWER = {
    "openai": {"prompt_tokens": 900, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 100}}
}


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (OPENAI_ANSWER, (900, 50, 100, 0, 0)),
        ({"openai": {"input_tokens": 900, "output_tokens": 50}}, (900, 50, 0, 0, 0)),
        (
            {
                "anthropic": {
                    "input_tokens": 700,
                    "output_tokens": 50,
                    "cache_read_input_tokens": 100,
                    "cache_creation_input_tokens": 100,
                    "cache_creation": {"ephemeral_1h_input_tokens": 40},
                }
            },
            (900, 50, 100, 100, 40),
        ),
        ({"bedrock": {"inputTokens": 800, "outputTokens": 50, "cacheReadInputTokens": 100}}, (900, 50, 100, 0, 0)),
        (
            {"langchain": {"input_tokens": 900, "output_tokens": 50, "input_token_details": {"cache_read": 100}}},
            (900, 50, 100, 0, 0),
        ),
        (
            {"gemini": {"promptTokenCount": 900, "candidatesTokenCount": 40, "thoughtsTokenCount": 10}},
            (900, 50, 0, 0, 0),
        ),
        (
            {"gemini": {"prompt_token_count": 900, "candidates_token_count": 50, "cached_content_token_count": 100}},
            (900, 50, 100, 0, 0),
        ),
    ],
)
def test_usage_that_the_collector_found_in_an_answer_is_billed(store, ledger, answer, counts):
    sent = json.dumps(answer | {"model": "gpt-4.1-2025-04-14", "id": "answer-1", "service_tier": "flex"})
    insert_spans(store, [Span("a", CHAT | {"pennytrace.content.usage": sent})])
    [call] = ledger().to_dicts()
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    written_5m = counts[3] - counts[4]
    expected = (*counts[:3], written_5m, counts[4])
    assert tuple(call[name] or 0 for name in names) == expected
    assert (call["model"], call["response_id"], call["tier"]) == ("gpt-4.1-2025-04-14", "answer-1", "flex")


def test_what_a_span_says_itself_counts_before_what_its_answer_says(store, ledger):
    said = {"gen_ai.usage.input_tokens": 901, "gen_ai.usage.output_tokens": 51, "gen_ai.response.id": "said"}
    found = json.dumps(OPENAI_ANSWER | {"id": "found"})
    insert_spans(store, [Span("a", CHAT | said | {"pennytrace.content.usage": found})])
    [call] = ledger().to_dicts()
    assert (call["input_tokens"], call["output_tokens"], call["response_id"]) == (901, 51, "said")
    assert call["cache_read_tokens"] == 100


def test_an_agent_that_repeats_an_answer_is_not_billed_for_it(store, ledger):
    agent = {"gen_ai.operation.name": "invoke_agent", "pennytrace.content.usage": json.dumps(OPENAI_ANSWER)}
    insert_spans(store, [Span("a", agent | {"gen_ai.request.model": "gpt-4.1"})])
    assert ledger().height == 0


@pytest.mark.parametrize(
    ("scope", "usage", "input_tokens"),
    [
        ("openlit.instrumentation.anthropic", {"input_tokens": 400, "cache_read.input_tokens": 100}, 500),
        ("opentelemetry.instrumentation.genai.anthropic", {"input_tokens": 400, "cache_read.input_tokens": 100}, 400),
        ("somebody", {"input_tokens": 40, "cache_read.input_tokens": 100}, 140),
        ("somebody", {"input_tokens": 400, "cache_read.input_tokens": 100, "total_tokens": 510}, 500),
        ("somebody", {"input_tokens": 400, "cache_read.input_tokens": 100, "total_tokens": 410}, 400),
    ],
)
def test_input_is_made_inclusive_by_what_is_known_of_the_sender_and_by_arithmetic(
    store, ledger, scope, usage, input_tokens
):
    sent = {f"gen_ai.usage.{name}": count for name, count in usage.items()} | {"gen_ai.usage.output_tokens": 10}
    insert_spans(store, [Span("a", CHAT | {"gen_ai.provider.name": "anthropic"} | sent, scope=scope)])
    [call] = ledger().to_dicts()
    assert call["input_tokens"] == input_tokens
    assert call["fresh_input_tokens"] == input_tokens - 100
    assert bool(call["usage_note"]) == (input_tokens != usage["input_tokens"])


def test_a_count_out_of_range_is_unknown_and_says_so(store, ledger):
    insert_spans(store, [Span("a", CHAT | {"gen_ai.usage.input_tokens": 10**18, "gen_ai.usage.output_tokens": 1})])
    [call] = ledger().to_dicts()
    assert (call["input_tokens"], call["cost_usd"]) == (None, None)
    assert call["unpriced_reason"] == "a token count is out of range"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("openai.chat", "openai"),
        ("anthropic.messages", "anthropic"),
        ("aws.bedrock", "aws.bedrock"),
        ("az.ai.openai", "azure.ai.openai"),
        ("Vertex_AI", "gcp.vertex_ai"),
        ("my-own", "my-own"),
        ("", ""),
    ],
)
def test_a_provider_has_one_name(sent, kept):
    assert canonical_provider(sent) == kept


@pytest.mark.parametrize(
    ("operation", "role"),
    [
        ("chat", "model"),
        ("LLM", "model"),
        ("ai.streamText.doStream", "model"),
        ("ai.streamText", "other"),
        ("invoke_agent", "other"),
        ("", "unknown"),
    ],
)
def test_an_operation_calls_a_model_or_does_something_else(operation, role):
    assert operation_role(operation) == role
