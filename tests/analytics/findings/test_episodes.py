"""Hysteresis and the dating of steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.findings.episodes import Held, held_runs, step


def runs(opens: str, stays: str) -> list[Held]:
    """Runs that open after two hours and close after three; x is yes."""
    flags = [np.array([mark == "x" for mark in marks]) for marks in (opens, stays)]
    return list(held_runs(flags[0], flags[1], 2, 3))


def test_one_hour_does_not_open_a_finding() -> None:
    assert runs("..x..x...", ".........") == []


def test_a_finding_opens_after_enough_hours_and_counts_from_the_first() -> None:
    assert runs("..xx", "..xx") == [Held(first=2, confirmed=3, last=3, is_closed=False)]


def test_the_weaker_condition_keeps_a_finding_open() -> None:
    assert runs("xx.......", "..xxxxxx.") == [Held(first=0, confirmed=1, last=7, is_closed=False)]


def test_a_short_lull_does_not_close_a_finding() -> None:
    assert runs("xx..xx..", "........") == [Held(first=0, confirmed=1, last=5, is_closed=False)]


def test_enough_quiet_hours_close_a_finding_and_a_later_one_is_another() -> None:
    assert runs("xx...xx...", "..........") == [
        Held(first=0, confirmed=1, last=1, is_closed=True),
        Held(first=5, confirmed=6, last=6, is_closed=True),
    ]


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 60))
def test_what_follows_does_not_change_when_a_finding_was_confirmed(opens: list[bool], cut: int) -> None:
    flags = np.array(opens, dtype=bool)
    full = [(held.first, held.confirmed) for held in held_runs(flags, flags, 2, 3)]
    known = [(held.first, held.confirmed) for held in held_runs(flags[:cut], flags[:cut], 2, 3)]
    assert known == [held for held in full if held[1] < cut]


@pytest.mark.parametrize("onset", [31, 40, 47])
def test_a_step_is_dated_to_its_hour(onset: int) -> None:
    hours = np.arange(60)
    top = np.where(hours >= onset, 1.6, 1.0) * 100 + np.sin(hours)
    assert step(top, np.full(60, 100.0), 30, 50, 55, rises=True) == onset


def test_a_fall_is_dated_as_well() -> None:
    top = np.where(np.arange(60) >= 44, 0.1, 0.7)
    assert step(top, np.ones(60), 30, 50, 55, rises=False) == 44


def test_hours_without_data_do_not_upset_the_dating() -> None:
    hours = np.arange(60)
    bottom = np.where((hours >= 20) & (hours < 26), 0.0, 10.0)
    assert step(bottom * np.where(hours >= 41, 2.0, 1.0), bottom, 30, 50, 55, rises=True) == 41


def test_without_a_step_the_latest_hour_stands() -> None:
    assert step(np.ones(60), np.ones(60), 30, 50, 55, rises=True) == 50
