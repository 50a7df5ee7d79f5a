# ruff: noqa: ARG001 # fixtures that only watch, and stand-ins that ignore what they are given
import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pennytrace
from pennytrace import observe
from pennytrace.levers import current_variant, record_quality, variant

WEIGHTS = {"fp16": 90, "int8": 10}


def by_user(user, *_):
    return user


@pytest.mark.parametrize("is_async", [False, True])
def test_the_variant_stands_on_the_span_above_the_call_and_is_known_inside(recorded, model, is_async):
    split = variant("rollout", {"int8": 1}, subject=by_user)

    @split
    def ask(user):
        assert (current_variant(), current_variant("rollout"), current_variant("other")) == ("int8", "int8", None)
        return call(user)

    @split
    async def ask_async(user):
        assert current_variant() == "int8"
        return call(user)

    @observe(model="m", provider="p")
    def call(user):
        return model(user)

    asyncio.run(ask_async("ann")) if is_async else ask("ann")
    assert current_variant() is None
    (span,) = recorded.of_lever("variant")
    assert (span.attributes["pennytrace.variant"], span.attributes["pennytrace.variant.experiment"]) == (
        "int8",
        "rollout",
    )
    assert len(recorded.calls) == 1
    assert "ann" not in str(recorded.spans)


@given(subject=st.text(), experiment=st.text())
def test_a_subject_keeps_its_variant(subject, experiment):
    first = variant(experiment, WEIGHTS, subject=by_user).assign(subject)
    assert first in WEIGHTS
    assert variant(experiment, dict(WEIGHTS), subject=by_user).assign(subject) == first


def test_a_subject_keeps_its_variant_in_another_process():
    code = (
        "from pennytrace.levers import variant\n"
        "split = variant('e', {'a': 1, 'b': 1}, subject=str)\n"
        "print(''.join(split.assign(n) for n in range(64)))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    split = variant("e", {"a": 1, "b": 1}, subject=str)
    assert "".join(split.assign(n) for n in range(64)) == elsewhere


def test_shares_follow_the_weights_and_experiments_are_independent():
    split, other = variant("one", WEIGHTS, subject=by_user), variant("two", WEIGHTS, subject=by_user)
    chosen = [user for user in range(20_000) if split.assign(user) == "int8"]
    assert 1_850 < len(chosen) < 2_150
    both = [user for user in chosen if other.assign(user) == "int8"]
    assert 140 < len(both) < 260


def test_a_larger_share_moves_only_those_who_join_it():
    before, after = variant("e", WEIGHTS, subject=by_user), variant("e", {"fp16": 70, "int8": 30}, subject=by_user)
    moved = [(before.assign(user), after.assign(user)) for user in range(5_000)]
    assert {pair for pair in moved if pair[0] != pair[1]} == {("fp16", "int8")}


def test_a_weight_of_0_gets_nobody():
    split = variant("e", {"old": 0, "new": 5}, subject=by_user)
    assert {split.assign(user) for user in range(1_000)} == {"new"}


def test_no_subject_means_the_first_variant(lenient):
    @variant("e", {"old": 0, "new": 5}, subject=lambda user: user["id"])
    def ask(user):
        return current_variant()

    assert [ask({"id": None}), ask({})] == ["old", "old"]


def test_a_subject_that_is_no_text_or_cannot_be_told_never_breaks_the_call(lenient):
    class Shy:
        def __str__(self):
            raise RuntimeError("no name")

    split = variant("e", {"old": 1, "new": 1}, subject=by_user)
    ask = split(lambda _: current_variant())
    assert ask("\ud800") == split.assign("\ud800")
    assert ask(Shy()) == "old"


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": 0.5}, {"a": True}])
def test_weights_are_checked_when_decorating(weights):
    with pytest.raises(pennytrace.ConfigurationError, match="weights"):
        variant("e", weights, subject=by_user)


def test_a_quality_score_stands_on_the_call_that_it_is_about(recorded):
    @observe(endpoint="/chat")
    def chat():
        record_quality(0.8)
        record_quality(3, name="stars")

    chat()
    assert recorded.spans[0].attributes["pennytrace.quality.score"] == 0.8
    assert recorded.spans[0].attributes["pennytrace.quality.stars"] == 3.0


@pytest.mark.parametrize("score", [float("nan"), float("inf"), True, None, "good"])
def test_what_is_no_score_is_left_out_and_counted(lenient, score):
    @observe(endpoint="/chat")
    def chat():
        record_quality(score)

    chat()
    assert not [name for name in lenient.spans[0].attributes if "quality" in name]
