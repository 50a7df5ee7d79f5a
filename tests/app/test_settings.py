"""Settings: argument over environment over file over default, and errors that name the setting."""

from pathlib import Path

import pytest

from app.errors import CommandError
from app.settings import Address, load_settings
from app.settings_page import describe_settings, settings_page

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text):
    Path("pennytrace.toml").write_text(text)


def test_defaults_hold_without_file_or_environment():
    settings = load_settings()
    assert settings.server.http == "127.0.0.1:4318"
    assert settings.schedule.interval_s == 60


def test_the_environment_beats_the_file_and_an_argument_beats_both(monkeypatch):
    write("[schedule]\ninterval_s = 10\n[server]\nui = '127.0.0.1:1'\nhttp = '127.0.0.1:2'\ngrpc = '127.0.0.1:3'\n")
    monkeypatch.setenv("PENNYTRACE_SERVER_HTTP", "127.0.0.1:22")
    monkeypatch.setenv("PENNYTRACE_SERVER_GRPC", "127.0.0.1:33")
    settings = load_settings(None, {"server": {"grpc": "127.0.0.1:333"}})
    assert settings.schedule.interval_s == 10
    assert (settings.server.ui, settings.server.http, settings.server.grpc) == (
        "127.0.0.1:1",
        "127.0.0.1:22",
        "127.0.0.1:333",
    )


def test_names_with_underscores_can_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("PENNYTRACE_SLACK_BASE_URL", "http://127.0.0.1:9/api/")
    monkeypatch.setenv("PENNYTRACE_SLACK_TOKEN", "xoxb-1")
    monkeypatch.setenv("PENNYTRACE_SLACK_CHANNEL", "#costs")
    slack = load_settings().slack
    assert (slack.base_url, slack.channel) == ("http://127.0.0.1:9/api/", "#costs")
    assert slack.token.get_secret_value() == "xoxb-1"
    assert "xoxb-1" not in repr(slack)


def test_self_hosted_rates_are_read_from_the_file():
    write("[[ledger.instances]]\nservice = 'reasoner'\ninstance_cost_per_hour_usd = 1.006\n")
    (rate,) = load_settings().ledger.instances
    assert str(rate.instance_cost_per_hour_usd) == "1.006"


def test_broken_toml_is_named_with_its_line():
    write("[server]\nhttp = \n")
    with pytest.raises(CommandError, match=r"pennytrace\.toml is not valid TOML: .*line 2"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[schedule]\ninterval_s = 'lots'\n", r"\[schedule\] interval_s .*valid integer.*got 'lots'"),
        ("[schedule]\ninterval_s = 1\n", r"\[schedule\] interval_s .*greater than or equal to 5.*got 1"),
        ("[schedule]\ninterval = 60\n", r"unknown setting \[schedule\] interval in pennytrace\.toml"),
        ("[scheduel]\ninterval_s = 60\n", r"unknown setting \[scheduel\]"),
        ("[server]\nhttp = '4318'\n", r"\[server\] http .*expected HOST:PORT.*got '4318'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected_and_what_came(text, complaint):
    write(text)
    with pytest.raises(CommandError, match=complaint):
        load_settings()


@pytest.mark.parametrize(
    "text",
    [
        "[[scrape.targets]]\nurl = 'http://h:1/m'\nbearer_token = 's3cret'\n",
        "[[scrape.targets]]\nurl = 'http://h:1/m'\nservice = 's'\nbearer_token = 's3cret'\ntimeout_s = 50\n",
        "[[scrape.targets]]\nurl = 'http://h:1/m'\nservice = 's'\nbearer_token = ['s3cret']\n",
        "[slack]\ntoken = 's3 cret'\n",
        "[sql]\npassword = { of = 's3cret' }\n",
        "[sql]\npassword = 5353535\n",
    ],
)
def test_no_error_repeats_a_secret(text):
    write(text)
    with pytest.raises(CommandError) as error:
        load_settings()
    assert not [secret for secret in ("s3", "5353535") if secret in str(error.value)]


def test_a_wrong_entry_of_a_list_is_named_with_the_variable_of_the_list():
    write("[[scrape.targets]]\nurl = 'http://h:1/m'\nservice = 's'\ninterval_s = 'often'\n")
    with pytest.raises(CommandError, match=r"targets\.0\.interval_s .* PENNYTRACE_SCRAPE_TARGETS\): .*got 'often'"):
        load_settings()


def test_a_missing_configuration_file_is_named():
    with pytest.raises(CommandError, match=r"no such configuration file: other\.toml"):
        load_settings(Path("other.toml"))


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("0.0.0.0:1", False), ("10.0.0.1:1", False)],
)
def test_only_loopback_addresses_count_as_private(text, loopback):
    address = Address.parse(text)
    assert address.is_loopback is loopback
    assert str(address) == text


def test_every_setting_says_what_it_means():
    assert [setting for setting in describe_settings() if not setting.description] == []


def test_the_documentation_lists_every_setting():
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(describe_settings())
