from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from alerts import AlertSettings, SlackRefusedError, SlackSettings, SlackUnavailableError, check_slack
from tests.alerts.fake_slack import CHANNEL, TOKEN, Fault


def test_a_right_token_says_where_messages_go(bot):
    assert check_slack(bot) == f"Slack: pennytrace in Test posts to {CHANNEL}"


def test_a_wrong_token_is_one_line_that_says_what_to_do(slack):
    wrong = SlackSettings(token="xoxb-wrong", channel=CHANNEL, base_url=slack.base_url)
    with pytest.raises(SlackRefusedError) as caught:
        check_slack(wrong)
    assert str(caught.value) == (
        "expected Slack to take the call, got invalid_auth: correct PENNYTRACE_SLACK_TOKEN; it starts with xoxb-"
    )


def test_nothing_configured_is_said_and_is_no_error():
    assert check_slack(SlackSettings()) == "Slack: no token and no webhook, so messages are printed"


def test_a_webhook_is_not_posted_to_by_a_check(slack, webhook):
    assert "webhook" in check_slack(webhook)
    assert slack.calls == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(404, body=b"<html>not found</html>"),
        Fault(200, body=b"<html>welcome</html>"),
        Fault(200, body=b"[]"),
        Fault(200, body=b"null"),
        Fault(200, body=b"\xff\xfe"),
    ],
)
def test_something_that_is_not_slack_says_to_check_the_address(slack, bot, fault):
    slack.fail_next(fault)
    with pytest.raises(SlackRefusedError, match="check base_url"):
        check_slack(bot)


@pytest.mark.parametrize("fault", [Fault(500, body=b"oops"), Fault(503), Fault(error="internal_error")])
def test_trouble_on_slacks_side_is_retryable(slack, bot, fault):
    slack.fail_next(fault)
    with pytest.raises(SlackUnavailableError) as caught:
        check_slack(bot)
    assert caught.value.retryable


def test_an_unknown_code_points_to_its_documentation(slack, bot):
    slack.fail_next(Fault(error="ekm_access_denied"))
    with pytest.raises(SlackRefusedError, match="says what ekm_access_denied means"):
        check_slack(bot)


def test_a_proxy_of_the_environment_is_not_used_for_a_loopback_address(monkeypatch, bot):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert check_slack(bot).startswith("Slack: pennytrace")


def test_a_token_without_a_channel_is_refused():
    with pytest.raises(ValidationError, match="expected a channel beside the Slack token"):
        SlackSettings(token=TOKEN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook_url": "hooks.slack.com/services/hooksecret"},
        {"webhook_url": "https://hooks.slack.com/services/hook secret"},
        {"token": "xoxb-hook\nsecret", "channel": "C1"},
        {"base_url": "slack"},
    ],
)
def test_a_wrong_setting_is_refused_without_repeating_it(wrong):
    with pytest.raises(ValidationError) as caught:
        SlackSettings(**wrong)
    assert "secret" not in str(caught.value).replace("Secret", "").replace("_secret_", "")


@pytest.mark.parametrize("section", [AlertSettings, SlackSettings])
def test_every_setting_has_a_description_and_is_documented(section):
    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    for name, field in section.model_fields.items():
        assert field.description
        assert f"`{name}`" in text


def test_a_page_address_must_be_an_address():
    with pytest.raises(ValidationError, match="expected an address"):
        AlertSettings(page_url="javascript:alert(1)")


def test_blanks_around_a_secret_are_dropped():
    assert SlackSettings(token=f" {TOKEN}\n", channel="C1").token.get_secret_value() == TOKEN
