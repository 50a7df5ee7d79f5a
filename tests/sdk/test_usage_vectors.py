"""Conformance vectors: a provider's payload or stream -> canonical usage, on the span that is sent.

`python tests/sdk/test_usage_vectors.py` writes docs/usage-vectors.md anew.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pennytrace import observe
from pennytrace.testing import strict

FOLDER = Path(__file__).parent / "vectors"
PAGE = Path(__file__).parents[2] / "docs" / "usage-vectors.md"
VECTORS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
TOKENS = [
    "input_tokens",
    "fresh_input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
]
UNKNOWN = " "
IDENTITY = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.response.model",
    "response_id": "gen_ai.response.id",
    "tier": "openai.response.service_tier",
}


def as_objects(value):
    if isinstance(value, dict):
        return SimpleNamespace(**{k: as_objects(v) for k, v in value.items()})
    return [as_objects(v) for v in value] if isinstance(value, list) else value


def attributes_of(expected):
    """The usage attributes that a span with the expected usage has."""
    five, hour = expected.get("cache_write_5m_tokens"), expected.get("cache_write_1h_tokens")
    found = {
        "gen_ai.usage.input_tokens": expected.get("input_tokens"),
        "gen_ai.usage.output_tokens": expected.get("output_tokens"),
        "gen_ai.usage.cache_read.input_tokens": expected.get("cache_read_tokens"),
        "gen_ai.usage.cache_write.input_tokens": None if five is None and hour is None else (five or 0) + (hour or 0),
        "pennytrace.usage.cache_write_1h.input_tokens": hour,
        "gen_ai.usage.reasoning.output_tokens": expected.get("reasoning_tokens"),
    }
    identity = {attribute: expected.get(name) for name, attribute in IDENTITY.items()}
    return {name: value for name, value in {**found, **identity}.items() if value is not None}


@pytest.mark.parametrize("shape", [dict, as_objects], ids=["mapping", "object"])
@pytest.mark.parametrize("name", VECTORS)
def test_a_payload_becomes_a_span_with_its_canonical_usage(spans, name, shape):
    vector = VECTORS[name]

    @observe(endpoint="/x")
    def whole():
        return shape(vector["payload"])

    @observe(endpoint="/x")
    def streamed():
        yield from map(shape, vector["stream"])

    with strict():
        whole() if "payload" in vector else list(streamed())
    sent = {k: v for k, v in spans.one().attributes.items() if k in IDENTITY.values() or "usage" in k}
    assert sent == attributes_of(vector["expected"])


@pytest.mark.parametrize("name", VECTORS)
def test_input_is_fresh_plus_cache_reads_plus_cache_writes(name):
    expected = VECTORS[name]["expected"]
    parts = ("fresh_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    if "input_tokens" in expected:
        assert expected["input_tokens"] == sum(expected.get(part, 0) for part in parts)
    else:
        assert not [part for part in parts if part in expected]
    assert expected.get("reasoning_tokens", 0) <= expected.get("output_tokens", 0)


def page():
    """docs/usage-vectors.md."""
    heads = ["sender", "input", "fresh", "cache read", "write 5 min", "write 1 h", "output", "reasoning", "provider"]
    rows = [f"| {' | '.join(heads)} | note |", "|---" * (len(heads) + 1) + "|"]
    for name, vector in VECTORS.items():
        expected = vector["expected"]
        cells = [f"{expected[key]:,}" if key in expected else UNKNOWN for key in TOKENS]
        sender = f"[{vector['sender']}](../tests/sdk/vectors/{name}.json)"
        rows.append(f"| {' | '.join([sender, *cells, expected.get('provider', UNKNOWN)])} | {vector.get('note', '')} |")
    return INTRODUCTION + "\n".join(rows) + "\n"


INTRODUCTION = """\
# Usage vectors: what a provider says, and what it means

Each row is a payload (or a whole stream) of a provider in `tests/sdk/vectors/`, and the usage that Pennytrace's
SDK reads from it; tests run every one of them. Use the files for your own reader: `payload` or `stream` is what
comes, `expected` what it means, `source` where the provider says so.

- input = fresh + cache read + write 5 min + write 1 h, whatever the provider calls input.
- reasoning is part of output.
- An empty cell is unknown, which is never 0. A provider is named only where the payload proves which one it was.

"""


def test_the_published_table_is_up_to_date():
    assert PAGE.read_text() == page(), "run python tests/sdk/test_usage_vectors.py"


if __name__ == "__main__":
    PAGE.write_text(page())
