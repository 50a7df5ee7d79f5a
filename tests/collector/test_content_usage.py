from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.content.usage import ANSWER_BYTES_MAX, find_usage

OPENAI = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
RESPONSES = {"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}
ANTHROPIC = {"input_tokens": 9, "output_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0}
GEMINI = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2}
BEDROCK = {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}
LANGCHAIN = {"input_tokens": 9, "output_tokens": 3, "input_token_details": {"cache_read": 4}}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (
            {"id": "c1", "model": "gpt-4.1", "service_tier": "flex", "choices": [], "usage": OPENAI},
            {"openai": OPENAI, "model": "gpt-4.1", "id": "c1", "service_tier": "flex"},
        ),
        ({"id": "r1", "object": "response", "usage": RESPONSES}, {"openai": RESPONSES, "id": "r1"}),
        (
            {"id": "m1", "type": "message", "model": "claude", "usage": ANTHROPIC | {"service_tier": "standard"}},
            {"anthropic": ANTHROPIC, "model": "claude", "id": "m1"},
        ),
        ({"type": "message", "usage": {"input_tokens": 1}}, {"anthropic": {"input_tokens": 1}}),
        (
            {
                "candidates": [],
                "usageMetadata": GEMINI | {"promptTokensDetails": [{"modality": "TEXT"}]},
                "modelVersion": "g",
                "responseId": "x",
            },
            {"gemini": GEMINI, "model": "g", "id": "x"},
        ),
        ({"usage_metadata": {"prompt_token_count": 9}}, {"gemini": {"prompt_token_count": 9}}),
        ({"output": {"message": {}}, "usage": BEDROCK, "stopReason": "end"}, {"bedrock": BEDROCK}),
        (
            {"content": "hi", "usage_metadata": LANGCHAIN, "response_metadata": {"model_name": "m"}},
            {"langchain": LANGCHAIN},
        ),
        ({"llm_output": {"token_usage": OPENAI, "model_name": "m"}}, {"openai": OPENAI, "model": "m"}),
        (
            {"generations": [[{"message": {"kwargs": {"usage_metadata": LANGCHAIN, "id": "run-1"}}}]]},
            {"langchain": LANGCHAIN, "id": "run-1"},
        ),
        ({"message": {"content": "hi"}, "usage": OPENAI}, {"openai": OPENAI}),
        ([{"usage": OPENAI}], {"openai": OPENAI}),
        (
            [{"object": "chat.completion.chunk"}, {"object": "chat.completion.chunk", "usage": OPENAI}],
            {"openai": OPENAI},
        ),
        (json.dumps({"usage": OPENAI}), {"openai": OPENAI}),
    ],
)
def test_usage_is_found_in_the_answers_of_every_provider(answer, found):
    usage = find_usage(json.dumps(answer))
    assert usage is not None
    assert json.loads(usage) == found


@pytest.mark.parametrize(
    "answer",
    [
        "the usage of tokens",
        '{"usage": {"prompt_tokens": 9}',
        '{"text": "\\"usage\\": {\\"prompt_tokens\\": 9}"}',
        '{"messages": [{"usage": {"prompt_tokens": 9}}]}',
        '[{"usage": {"prompt_tokens": 1}}, {"usage": {"prompt_tokens": 2}}]',
        '{"usage": {"prompt_tokens": "nine"}}',
        '{"usage": {"disk_tokens": 9}}',
        '{"usage": [9]}',
        '"tokens',
        "9",
        "",
        '{"usage": {"prompt_tokens": 9}, "text": "' + "x" * ANSWER_BYTES_MAX + '"}',
    ],
)
def test_what_is_not_an_answer_with_usage_has_none(answer):
    assert find_usage(answer) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["usage", "message", "kwargs", "tokens"]) | st.text(), inner)
    ),
)


@given(JSON)
def test_any_json_has_usage_or_none(document):
    usage = find_usage(json.dumps(document))
    assert usage is None or isinstance(json.loads(usage), dict)


def test_no_text_of_the_answer_gets_through():
    answer = {
        "usage": OPENAI | {"note": "secret", "details": {"why": "secret"}},
        "model": "s" * 201,
        "id": {"x": "secret"},
    }
    usage = find_usage(json.dumps(answer))
    assert usage is not None
    assert b"secret" not in usage
    assert b"sss" not in usage


@pytest.mark.parametrize("depth", [500, 1000, 1010, 2000])
def test_an_answer_may_be_as_deep_as_it_likes(depth):
    assert find_usage('[{"object":' + "[" * depth + "]" * depth + '},{"a":"token"}]') is None
