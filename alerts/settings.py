"""Settings of the sections [alerts] and [slack]."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


def _require_http(name: str, url: str) -> None:
    parts = urlsplit(url)
    clean = url.isascii() and url.isprintable() and " " not in url
    if not clean or parts.scheme not in {"http", "https"} or not parts.hostname:
        # The address itself may be a secret (a webhook's is), so it is not repeated.
        raise ValueError(f"expected an address such as https://host/path for {name}, got something else: correct it")


class AlertSettings(BaseModel):
    """Section [alerts]: how findings become incidents and incidents become messages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reopen_window_hours: float = Field(
        default=24,
        ge=0,
        le=24 * 90,
        description="hours after an incident's end in which a new finding of the same endpoint reopens it",
    )
    max_age_days: float = Field(
        default=7,
        gt=0,
        le=3650,
        description="days after which an ended incident that nobody was told of is recorded without a message, "
        "and a finding without news counts as ended",
    )
    messages_per_run_max: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="messages sent in one run, so that a backlog does not hold up the schedule; the rest follow",
    )
    page_url: str = Field(
        default="",
        max_length=500,
        description="address of the built-in page that messages link to, such as https://pennytrace.example.com; "
        "empty: the server's own address",
    )

    @field_validator("page_url")
    @classmethod
    def _page_is_http(cls, url: str) -> str:
        if url:
            _require_http("page_url", url)
        return url.rstrip("/")


class SlackSettings(BaseModel):
    """Section [slack]: where messages go. Without a token or a webhook they are printed."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token: SecretStr = Field(
        default=SecretStr(""),
        description="bot token (xoxb-...) with the scope chat:write; preferred when there is a webhook too",
    )
    channel: str = Field(
        default="",
        max_length=100,
        description="channel that the bot posts to: an id such as C0123456789, or a name such as #costs",
    )
    webhook_url: SecretStr = Field(
        default=SecretStr(""),
        description="address of an incoming webhook; it can neither update a message nor answer in a thread",
    )
    base_url: str = Field(
        default="https://slack.com/api/",
        description="address of the Slack Web API, for gateways and tests",
    )
    timeout_seconds: int = Field(default=10, ge=1, le=120, description="seconds to wait for an answer from Slack")
    wait_seconds_max: int = Field(
        default=30,
        ge=0,
        le=300,
        description="longest Retry-After, in seconds, that a run waits for; beyond it the message goes out later",
    )

    @field_validator("token", "webhook_url")
    @classmethod
    def _secret_is_one_word(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value().strip()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("expected one word without spaces, got something else: copy it from Slack again")
        return SecretStr(text)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _require_http("base_url", self.base_url)
        if self.webhook_url.get_secret_value():
            _require_http("webhook_url", self.webhook_url.get_secret_value())
        if self.token.get_secret_value() and not self.channel:
            raise ValueError("expected a channel beside the Slack token, got none: set channel, such as C0123456789")
        return self
