from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.blocks import escape, payload, reply_payload
from alerts.grouping import group
from alerts.message import as_text, describe
from alerts.settings import AlertSettings
from alerts.wording import plain, rounded_parts
from tests.alerts.conftest import ONSET, make_finding
from tests.alerts.fake_slack import refusal

GOLDEN = Path(__file__).parent / "golden"
HOUR = timedelta(hours=1)
HOSTILE = [
    "<!channel> & <@U1|you> <https://evil.example|click>",
    "x" * 3000,
    "&" * 3000,
    "👩‍🚀" * 500,
    "ש" * 200 + "\u202e" + "abc",
    "```\n*bold* _it_ `code`\x1b[31m\x00",
    "",
]


def message_of(*findings, page_url="https://pennytrace.example.com"):
    (incident,) = group(findings, [], AlertSettings(), ONSET + 4 * HOUR)
    return describe(incident, findings, page_url)


def cache_finding(**changed):
    fields = {
        "rule": "cache_hit_ratio",
        "metric": "prompt_cache_hit_ratio",
        "unit": "1",
        "expected": 0.7,
        "actual": 0.05,
        "impact_usd": Decimal("3.21"),
        "drivers": ("prompt_cache",),
        "driver_usd": (Decimal("3.21"),),
        "cause": "93 % fewer prompt-cache hits",
        "deploy": "",
    }
    return make_finding("f2", **{**fields, **changed})


CASES = {
    "open": lambda: message_of(make_finding()),
    "open_with_others": lambda: message_of(make_finding(), cache_finding()),
    "cache_alone": lambda: message_of(cache_finding(), page_url=""),
    "resolved": lambda: message_of(make_finding(ended_at=ONSET + 3 * HOUR)),
    "hostile": lambda: message_of(make_finding(endpoint=HOSTILE[0], cause=HOSTILE[5], drivers=tuple(HOSTILE[3:6]))),
}


@pytest.mark.parametrize("name", CASES)
def test_the_message_is_the_golden_one(name):
    """Delete a golden file to have it written again, and read the difference."""
    message = CASES[name]()
    made = {"slack": payload(message), "reply": reply_payload(message), "text": as_text(message).splitlines()}
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
        pytest.fail(f"{path.name} was missing and has been written: read it and run again")
    assert made == json.loads(path.read_text())


def test_the_shown_parts_add_up_to_the_shown_impact():
    message = message_of(make_finding())
    amounts = [Decimal(part.amount.replace("$", "").replace("+", "")) for part in message.parts]
    assert sum(amounts) == Decimal(message.impact.removeprefix("$").removesuffix(" so far")) == Decimal("12.34")


def test_what_the_drivers_do_not_explain_is_said():
    message = message_of(make_finding(drivers=("traffic",), driver_usd=(Decimal("10.34"),)))
    assert [(part.label, part.amount) for part in message.parts] == [
        ("traffic", "+$10.34"),
        ("not explained", "+$2.00"),
    ]


def test_more_drivers_than_fit_are_summed_up():
    names = tuple(f"d{n:02}" for n in range(30))
    message = message_of(make_finding(drivers=names, driver_usd=(Decimal(1),) * 30, impact_usd=Decimal(30)))
    assert len(message.parts) == 11
    assert (message.parts[-1].label, message.parts[-1].amount) == ("other drivers", "+$20.00")


def test_an_amount_under_a_cent_is_not_shown_as_nothing():
    message = message_of(make_finding(impact_usd=Decimal("0.000123"), drivers=(), driver_usd=()))
    assert message.impact == "$0.000123 so far"


def test_the_text_for_a_terminal_carries_no_escapes_of_slack_and_no_control_characters():
    text = as_text(message_of(make_finding(endpoint="a&b\x1b[31m", cause="x < y")))
    assert "a&b" in text
    assert "x < y" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_keep_slacks_limits_and_mention_nobody(name):
    series = {"service": name, "environment": name, "endpoint": name}
    words = {"rule": name, "metric": name, "cause": name, "deploy": name, **series}
    hostile = make_finding(unit=name, drivers=(name,) * 30, driver_usd=(Decimal(1),) * 30, **words)
    made = payload(message_of(hostile, cache_finding(**words)))
    assert refusal(made) == ""
    assert "<!" not in json.dumps(made)
    assert "<@" not in json.dumps(made)
    assert len(made["blocks"][0]["text"]["text"]) <= 150


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_odd_figures_do_not_break_a_message(value):
    assert as_text(message_of(make_finding(expected=value, actual=value), cache_finding(expected=value)))


@given(st.text(), st.integers(2, 200))
def test_an_escaped_text_fits_and_breaks_no_entity(text, limit):
    made = escape(text, limit)
    assert len(made.encode("utf-16-le", "surrogatepass")) // 2 <= limit
    bare = made.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert not set(bare) & set("<>&")


@given(st.text(max_size=200), st.integers(2, 80))
def test_a_plain_name_is_one_line_of_bounded_length(text, limit):
    made = plain(text, limit)
    assert len(made) <= limit
    assert made == " ".join(made.split())
    assert made.isprintable() or not text.isprintable()


@given(st.lists(st.decimals(-1000, 1000, places=12), min_size=1, max_size=12))
def test_rounded_parts_add_up_to_the_rounded_total_and_move_less_than_a_step(parts):
    total = sum(parts, Decimal(0))
    shown = rounded_parts(parts, total)
    assert abs(sum(shown) - total) <= Decimal("0.005")
    assert all(abs(one - part) < Decimal("0.01") for one, part in zip(shown, parts, strict=True))
