from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

import pennytrace
from pennytrace import ConfigurationError, observe, testing
from pennytrace.levers import cache, fingerprint, record_fingerprint, set_fingerprint_key

KEY = b"k" * 32
data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("PENNYTRACE_FINGERPRINT_KEY", raising=False)
    yield
    set_fingerprint_key(None)


def identity(value):
    """Types and values, told apart as a function could tell them apart."""
    if isinstance(value, dict):
        return ("dict", frozenset((identity(k), identity(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value), tuple(identity(v) for v in value))
    return (type(value), repr(value))


@given(one=data, other=data)
def test_fingerprints_are_equal_exactly_when_the_values_are(one, other):
    assert (fingerprint(one, KEY) == fingerprint(other, KEY)) == (identity(one) == identity(other))


def test_the_order_of_keys_does_not_matter_and_that_of_messages_does():
    assert fingerprint({"a": 1, "b": 2}, KEY) == fingerprint({"b": 2, "a": 1}, KEY)
    assert fingerprint(["a", "b"], KEY) != fingerprint(["b", "a"], KEY)


def test_keys_and_types_tell_values_apart():
    class Colour(Enum):
        RED = "red"

    @dataclass
    class Point:
        x: int

    class Message:
        def model_dump(self):
            return {"role": "user"}

    values = ["2026-01-01", date(2026, 1, 1), Decimal(1), 1, 1.0, True, "1", b"1", {1}, [1], (1,), {1: 1}, {"1": 1}]
    values += [Colour.RED, "red", Point(1), Message(), {"role": "user"}, None, "None"]
    assert len({fingerprint(value, KEY) for value in values}) == len(values)
    assert fingerprint("a", KEY) != fingerprint("a", b"other")


def test_all_that_makes_two_models_unequal_tells_them_apart():
    class Asked(BaseModel):
        model_config = ConfigDict(extra="allow")
        question: str
        tenant: str = Field(exclude=True)
        _trace: str = PrivateAttr("")

    class Other(Asked):
        pass

    traced = Asked(question="q", tenant="acme")
    traced._trace = "t"  # noqa: SLF001 # a model's private attribute, which its methods may use
    asked = [
        Asked(question="q", tenant="acme"),
        Asked(question="q", tenant="other"),
        Other(question="q", tenant="acme"),
        Asked(question="q", tenant="acme", more=1),
        traced,
    ]
    assert fingerprint(asked[0], KEY) == fingerprint(Asked(question="q", tenant="acme"), KEY)
    assert len({fingerprint(one, KEY) for one in asked}) == 5


def test_containers_of_other_types_and_times_of_other_zones_are_told_apart():
    class Reply(dict):
        pass

    Pair = namedtuple("Pair", "a")
    values = [{}, Reply(), OrderedDict(), (1,), Pair(1), [], set(), frozenset()]
    values += [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=ZoneInfo("Africa/Abidjan"))]
    assert len({fingerprint(value, KEY) for value in values}) == len(values)


def test_a_class_is_no_data():
    @dataclass
    class Point:
        x: int = 0

    for kind in (Point, BaseModel, int):
        with pytest.raises(TypeError, match="expected data"):
            fingerprint(["q", kind], KEY)


def test_what_is_no_data_has_no_fingerprint():
    with pytest.raises(TypeError, match="got object"):
        fingerprint([object()], KEY)


@pytest.mark.parametrize("by", ["setter", "environment"])
def test_a_recorded_fingerprint_stands_on_the_call_and_the_prompt_does_not(recorded, monkeypatch, by):
    if by == "setter":
        set_fingerprint_key("a secret of many characters")
    else:
        monkeypatch.setenv("PENNYTRACE_FINGERPRINT_KEY", "a secret of many characters")

    @observe(endpoint="/chat")
    def chat(question):
        record_fingerprint(question)

    chat("hours?"), chat("hours?"), chat("price?")
    first, second, third = [span.attributes["pennytrace.prompt.fingerprint"] for span in recorded.spans]
    assert first == second != third
    assert len(first) == 32
    assert "hours" not in str(recorded.spans)


def test_without_a_key_nothing_is_recorded_and_it_is_counted(lenient):
    observe(endpoint="/chat")(lambda: record_fingerprint("x"))()
    assert "pennytrace.prompt.fingerprint" not in lenient.spans[0].attributes


def test_a_cache_tells_the_fingerprint_of_what_was_asked_when_there_is_a_key(recorded):
    ask, other = cache()(lambda question: question), cache()(lambda question: question)
    ask("q")
    set_fingerprint_key("a secret of many characters")
    ask("q"), other("q")
    told = [span.attributes.get("pennytrace.prompt.fingerprint") for span in recorded.of_lever("cache")]
    assert told[0] is None
    assert told[1] == told[2] is not None


def test_a_short_key_is_an_error():
    with pytest.raises(pennytrace.ConfigurationError, match="16 characters"):
        set_fingerprint_key("short")


def test_configure_sets_the_key(provider):
    try:
        pennytrace.configure(
            tracer_provider=provider, export=False, gpu=False, fingerprint_key="0123456789abcdef"
        ).shutdown()
        with testing.recorded() as found:
            observe(endpoint="/chat")(lambda: record_fingerprint("x"))()
        assert len(found.spans[0].attributes["pennytrace.prompt.fingerprint"]) == 32
        with pytest.raises(ConfigurationError, match="16 characters"):
            pennytrace.configure(fingerprint_key="short")
    finally:
        set_fingerprint_key(None)
