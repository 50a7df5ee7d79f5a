"""Provider payloads, whole and as mappings or objects, against the canonical vocabulary."""

from collections import UserDict
from types import SimpleNamespace

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennytrace import Usage, observe
from pennytrace._usage import read, read_given
from pennytrace._usage.reading import _readers_by_type
from pennytrace._usage.shape import TYPES_MAX


def as_objects(value):
    if isinstance(value, dict):
        return SimpleNamespace(**{k: as_objects(v) for k, v in value.items()})
    return [as_objects(v) for v in value] if isinstance(value, list) else value


OPENAI_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "service_tier": "priority",
    "choices": [],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0},
    },
}
OPENAI_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5",
    "usage": {
        "input_tokens": 328,
        "input_tokens_details": {"cached_tokens": 64},
        "output_tokens": 52,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 380,
    },
}
OPENAI_EMBEDDING = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
ANTHROPIC_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-4-5-20250929",
    "usage": {
        "input_tokens": 21,
        "cache_creation_input_tokens": 500,
        "cache_read_input_tokens": 1800,
        "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 44},
        "output_tokens": 305,
        "service_tier": "standard",
    },
}
CASES = [
    pytest.param(
        OPENAI_CHAT,
        ("chat", None, "gpt-4o-2024-08-06", "chatcmpl-1", "priority"),
        Usage(input_tokens=2006, output_tokens=300, cache_read_tokens=1920, reasoning_tokens=128),
        id="openai-chat",
    ),
    pytest.param(
        OPENAI_RESPONSE,
        ("chat", None, "gpt-5", "resp_1", None),
        Usage(input_tokens=328, output_tokens=52, cache_read_tokens=64, reasoning_tokens=40),
        id="openai-responses",
    ),
    pytest.param(
        {"type": "response.completed", "response": OPENAI_RESPONSE},
        ("chat", None, "gpt-5", "resp_1", None),
        Usage(input_tokens=328, output_tokens=52, cache_read_tokens=64, reasoning_tokens=40),
        id="openai-responses-stream",
    ),
    pytest.param(
        OPENAI_EMBEDDING,
        ("embeddings", None, "text-embedding-3-small", None, None),
        Usage(input_tokens=8),
        id="openai-embeddings",
    ),
    pytest.param(
        {"object": "text_completion", "id": "cmpl-1", "usage": {"prompt_tokens": 5, "completion_tokens": 7}},
        ("text_completion", None, None, "cmpl-1", None),
        Usage(input_tokens=5, output_tokens=7),
        id="openai-text-completion",
    ),
    pytest.param(
        ANTHROPIC_MESSAGE,
        ("chat", "anthropic", "claude-sonnet-4-5-20250929", "msg_1", "standard"),
        Usage(
            input_tokens=2321,
            output_tokens=305,
            cache_read_tokens=1800,
            cache_write_5m_tokens=456,
            cache_write_1h_tokens=44,
        ),
        id="anthropic-message",
    ),
    pytest.param(
        {"type": "message", "id": "msg_2", "usage": {"input_tokens": 3, "output_tokens": 4}},
        ("chat", "anthropic", None, "msg_2", None),
        Usage(input_tokens=3, output_tokens=4),
        id="anthropic-without-cache",
    ),
    pytest.param(
        {"type": "message", "id": "m", "usage": {"input_tokens": 3, "cache_creation_input_tokens": 9}},
        ("chat", "anthropic", None, "m", None),
        Usage(input_tokens=12, cache_write_5m_tokens=9),
        id="anthropic-unsplit-write-is-a-5-minute-one",
    ),
]


@pytest.mark.parametrize(("payload", "identity", "usage"), CASES)
@pytest.mark.parametrize("shape", [dict, as_objects])
def test_a_payload_reads_as_canonical_usage_whether_mapping_or_object(payload, identity, usage, shape):
    answer = read(shape(payload))
    assert (answer.operation, answer.provider, answer.model, answer.response_id, answer.tier) == identity
    assert answer.usage == usage


def test_a_later_anthropic_total_keeps_the_split_that_only_the_start_told():
    start = read({"type": "message_start", "message": ANTHROPIC_MESSAGE})
    delta = {
        "input_tokens": 25,
        "cache_creation_input_tokens": 510,
        "cache_read_input_tokens": 1800,
        "output_tokens": 400,
    }
    merged = start.merged(read({"type": "message_delta", "usage": delta}, start.usage))
    assert merged.usage == Usage(
        input_tokens=2335,
        output_tokens=400,
        cache_read_tokens=1800,
        cache_write_5m_tokens=466,
        cache_write_1h_tokens=44,
    )


@pytest.mark.parametrize(
    ("given_usage", "expected"),
    [
        (ANTHROPIC_MESSAGE["usage"], Usage(input_tokens=2321, output_tokens=305, cache_read_tokens=1800,
                                           cache_write_5m_tokens=456, cache_write_1h_tokens=44)),
        (OPENAI_CHAT["usage"], Usage(input_tokens=2006, output_tokens=300, cache_read_tokens=1920,
                                     reasoning_tokens=128)),
        (OPENAI_RESPONSE["usage"], Usage(input_tokens=328, output_tokens=52, cache_read_tokens=64,
                                         reasoning_tokens=40)),
        ({"input_tokens": 5, "cache_write_1h_tokens": 2}, Usage(input_tokens=5, cache_write_1h_tokens=2)),
    ],
)  # fmt: skip
def test_a_bare_usage_object_is_read_when_the_caller_says_that_it_is_one(given_usage, expected):
    assert read_given(given_usage).usage == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        b"bytes",
        3,
        [1, 2],
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": True}},
        {"usage": {"prompt_tokens": float("nan"), "completion_tokens": "12"}},
        {"usage": {"input_tokens": float("inf"), "output_tokens": 0.5}},
        object(),
    ],
)
def test_what_has_no_counts_is_unknown_and_never_zero(value):
    assert read(value) is None


def test_whole_numbers_in_float_clothing_are_counts():
    assert read({"usage": {"prompt_tokens": 3.0}}).usage == Usage(input_tokens=3)


counts = st.integers(0, 10**9)


@given(fresh=counts, read_tokens=counts, five=counts, hour=counts, output=counts)
def test_anthropic_input_is_fresh_plus_read_plus_written(fresh, read_tokens, five, hour, output):
    usage = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read_tokens,
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        "output_tokens": output,
    }
    found = read({"type": "message", "id": "m", "usage": usage}).usage
    assert found.input_tokens == fresh + found.cache_read_tokens + found.cache_write_tokens
    assert (found.cache_write_5m_tokens, found.cache_write_1h_tokens) == (five, hour)


def test_the_tier_reaches_the_span(spans):
    observe(endpoint="/x")(lambda: OPENAI_CHAT)()
    assert spans.one().attributes["openai.response.service_tier"] == "priority"


class Computed:
    """Only reading it tells: its usage is computed."""

    @property
    def usage(self):
        return {"prompt_tokens": 3, "completion_tokens": 4}


class Dynamic:
    def __getattr__(self, name):
        if name == "usage":
            return {"prompt_tokens": 3, "completion_tokens": 4}
        raise AttributeError(name)


class Slotted:
    __slots__ = ("usage",)

    def __init__(self):
        self.usage = {"prompt_tokens": 3, "completion_tokens": 4}


class Lazy(UserDict):
    """A mapping that is no dict."""


class Model(pydantic.BaseModel, extra="allow"):
    text: str = ""


@pytest.mark.parametrize(
    "value",
    [
        Computed(),
        Dynamic(),
        Slotted(),
        Lazy(usage={"prompt_tokens": 3, "completion_tokens": 4}),
        Model(text="x", usage={"prompt_tokens": 3, "completion_tokens": 4}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_usage_is_found_however_an_object_keeps_it(value):
    assert read(value).usage == Usage(input_tokens=3, output_tokens=4)


def test_a_type_that_had_no_usage_once_may_have_it_the_next_time():
    assert read(SimpleNamespace(text="a")) is None
    assert read(Model(text="a")) is None
    assert read(SimpleNamespace(usage=SimpleNamespace(prompt_tokens=3, completion_tokens=4))) is not None
    assert read(Model(usage={"prompt_tokens": 3, "completion_tokens": 4})) is not None


def test_a_program_that_makes_up_types_does_not_grow_the_kept_ones_without_end():
    for number in range(2 * TYPES_MAX):
        assert read(type(f"T{number}", (), {})()) is None
    assert len(_readers_by_type) <= TYPES_MAX
