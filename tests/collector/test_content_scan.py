from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.content.rules import Handling, content_keys, content_prefixes, content_rule
from collector.content.scan import SCANNED_BYTES_MIN, ContentScan
from collector.framing import varint
from tests.collector.bodies import trace_request

SCAN = ContentScan.of(keep_content=False, keep_errors=False, extra=())
RULE = content_rule(keep_content=False, keep_errors=False, extra=())


def is_content(key: str) -> bool:
    return RULE(key) is not Handling.KEEP


def with_fixed_ids(spans: int, seed: int) -> ExportTraceServiceRequest:
    """Spans as services send them, without content; a status without a message among them."""
    request, ids = trace_request(spans), random.Random(seed)
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.trace_id, span.span_id, span.parent_span_id = ids.randbytes(16), ids.randbytes(8), ids.randbytes(8)
        span.start_time_unix_nano += ids.getrandbits(40)
        span.status.code = 2
        for key in ("gen_ai.operation.name", "gen_ai.request.model", "http.route", "gen_ai.usage.input_tokens"):
            span.attributes.add(key=key).value.string_value = "gpt-4.1 of gen_ai."
        span.attributes.add(key="cost").value.double_value = ids.random()
        span.events.add(name="cache.lookup").attributes.add(key="message").value.string_value = "not found"
    return request


def long_varint(value: int, bytes_: int) -> bytes:
    """In as many bytes, which may be more than it needs."""
    return bytes((value >> 7 * at & 127) | (128 if at < bytes_ - 1 else 0) for at in range(bytes_))


def with_odd_bytes(position: int, number: int, odd: bytes) -> bytes:
    """A large body with a field put behind a span's or its event's own."""
    parts = [one.SerializeToString() for one in with_fixed_ids(120, 1).resource_spans[0].scope_spans[0].spans]
    parts[position] += field(number, odd)
    return field(1, field(2, b"".join(field(2, part) for part in parts)))


def field(number: int, value: bytes, tag_bytes: int = 1, length_bytes: int = 0) -> bytes:
    size = varint(len(value))
    return (
        long_varint(number << 3 | 2, tag_bytes)
        + (long_varint(len(value), length_bytes) if length_bytes > len(size) else size)
        + value
    )


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("spans", [60, 500, 3000])
def test_bodies_without_content_are_told_from_others(spans, seed):
    raw = with_fixed_ids(spans, seed).SerializeToString()
    assert len(raw) > SCANNED_BYTES_MIN
    assert SCAN.finds(raw, is_content) is False


@given(
    st.integers(0, 119),
    st.sampled_from(["input", "input.value", "gen_ai.prompt.0.content", "llm.x.choices", "ai.prompt." + "9" * 20_000]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.booleans(),
    st.binary(max_size=30),
)
def test_a_key_is_found_in_every_order_of_fields_and_in_every_length_of_tags_and_lengths(
    position, key, tag_bytes, length_bytes, value_first, text
):
    value = field(2, field(1, text.hex().encode() + b"\x12" + bytes([len(key) + 2 & 127])), tag_bytes)
    name = field(1, key.encode(), tag_bytes, length_bytes)
    raw = with_odd_bytes(position, 9, value + name if value_first else name + value)
    assert dict.fromkeys(keys_of(raw, position)).keys() >= {key}
    assert SCAN.finds(raw, is_content)


def keys_of(raw: bytes, position: int) -> list[str]:
    """As the official parser reads them."""
    request = ExportTraceServiceRequest.FromString(raw)
    return [one.key for one in request.resource_spans[0].scope_spans[0].spans[position].attributes]


@given(st.integers(0, 119), st.sampled_from([0, 130, 20_000]), st.integers(1, 5), st.integers(1, 5))
def test_an_event_that_is_a_message_is_found_by_its_name(position, longer, tag_bytes, length_bytes):
    name = field(2, b"gen_ai.choice" + b"x" * longer, tag_bytes, length_bytes)
    attribute = field(3, field(1, b"x") + field(2, field(1, b"secret")))
    for event in (name + attribute, attribute + name):
        raw = with_odd_bytes(position, 11, event)
        assert SCAN.finds(raw, lambda _: False)
        keeping = ContentScan.of(keep_content=True, keep_errors=True, extra=())
        assert not keeping.finds(raw, lambda _: False)


def serialized(key: str, value: str, *, spans: int = 120, at: int = 60) -> bytes:
    """A large body in which one span has the attribute."""
    request = with_fixed_ids(spans, 1)
    request.resource_spans[0].scope_spans[0].spans[at].attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 100, 125, 126, 127, 128, 300, 16_370, 16_384, 70_000, 3_000_000])
@pytest.mark.parametrize("key", ["input", "gen_ai.input.messages", "gen_ai.prompt.0.content", "llm.openai.choices"])
def test_a_key_is_found_whatever_the_length_of_its_value(key, size):
    assert SCAN.finds(serialized(key, "\n" * size), is_content)


@pytest.mark.parametrize("at", [0, 119])
@pytest.mark.parametrize("key", ["events", "ai.prompt.x", "gen_ai.completion." + "9" * 200 + ".content"])
def test_a_key_is_found_at_either_end_and_however_long_it_is(key, at):
    assert SCAN.finds(serialized(key, "", at=at), is_content)


@given(st.sampled_from(sorted(content_prefixes())), st.text(min_size=1, max_size=150), st.binary(max_size=40))
def test_every_key_that_the_rule_knows_is_found(prefix, rest, noise):
    key = prefix + rest
    raw = serialized(key, noise.hex())
    assert SCAN.finds(raw, is_content) >= is_content(key)


@given(st.sampled_from(sorted(content_keys(keep_errors=False))), st.text(max_size=300))
def test_every_whole_key_is_found(key, value):
    assert SCAN.finds(serialized(key, value), is_content)


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_can_be_looked_through(noise):
    assert SCAN.finds(noise * SCANNED_BYTES_MIN, is_content) in (True, False)


def test_random_bytes_that_look_like_keys_do_no_harm():
    noise = random.Random(7)
    for _ in range(20):
        raw = b"".join(b"\n" + noise.randbytes(3) for _ in range(SCANNED_BYTES_MIN))
        assert SCAN.finds(raw, is_content) is False


@pytest.mark.parametrize(("extra", "key"), [("ab", "ab"), ("short*", "shorter"), ("long" * 40, "long" * 40)])
def test_further_keys_are_found_however_short_or_long_they_are(extra, key):
    scan = ContentScan.of(keep_content=True, keep_errors=True, extra=(extra,))
    rule = content_rule(keep_content=True, keep_errors=True, extra=(extra,))
    assert scan.finds(serialized(key, "x"), lambda one: rule(one) is not Handling.KEEP)
    assert not scan.finds(serialized("other", "x"), lambda one: rule(one) is not Handling.KEEP)
