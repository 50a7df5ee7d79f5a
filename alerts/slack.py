"""Slack over the wire: slack_sdk's clients, with what they answer turned into our errors.

The clients retry nothing by themselves but a short rate limit, which Slack answers before it does anything.
A lost connection may come after the message was posted, so it is for the outbox to look before it sends again.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slack_sdk import WebClient, WebhookClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

from alerts.errors import SlackError, SlackRateLimitedError, SlackRefusedError, SlackUnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from slack_sdk.http_retry.request import HttpRequest
    from slack_sdk.http_retry.response import HttpResponse
    from slack_sdk.http_retry.state import RetryState

    from alerts.settings import SlackSettings

TRANSIENT_CODES = frozenset(
    {"fatal_error", "internal_error", "ratelimited", "rollup_error", "request_timeout", "service_unavailable"}
)
REMEDIES = {
    "account_inactive": "the bot was removed: install the app again and set PENNYTRACE_SLACK_TOKEN",
    "channel_is_archived": "unarchive the channel, or set PENNYTRACE_SLACK_CHANNEL to another",
    "channel_not_found": "correct PENNYTRACE_SLACK_CHANNEL (the channel's id is safest), and invite the bot to it",
    "invalid_auth": "correct PENNYTRACE_SLACK_TOKEN; it starts with xoxb-",
    "invalid_token": "make a new webhook and set PENNYTRACE_SLACK_WEBHOOK_URL",
    "is_archived": "unarchive the channel, or set PENNYTRACE_SLACK_CHANNEL to another",
    "missing_scope": "give the app the scope chat:write and install it again",
    "no_service": "the webhook was removed: make a new one and set PENNYTRACE_SLACK_WEBHOOK_URL",
    "not_authed": "set PENNYTRACE_SLACK_TOKEN; it starts with xoxb-",
    "not_in_channel": "invite the bot to the channel: /invite @name",
    "token_expired": "make a new token and set PENNYTRACE_SLACK_TOKEN",
    "token_revoked": "make a new token and set PENNYTRACE_SLACK_TOKEN",
}
# What a rate limit is taken to mean when Slack does not say.
RETRY_AFTER_DEFAULT_S = 30
_CODE = re.compile(r"[a-z][a-z0-9_]{2,60}")


class _ShortRateLimit(RateLimitErrorRetryHandler):
    """Waits for a Retry-After up to a limit; a longer one goes back to the outbox."""

    def __init__(self, wait_seconds_max: int) -> None:
        super().__init__(max_retry_count=1)
        self._wait_seconds_max = wait_seconds_max

    def _can_retry(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        limited = super()._can_retry(state=state, request=request, response=response, error=error)
        return limited and response is not None and retry_after_s(response.headers) <= self._wait_seconds_max


def retry_after_s(headers: Mapping[str, Any]) -> int:
    """Seconds that an answer asks to wait."""
    said = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    text = str(said[0] if isinstance(said, list) and said else said)
    return int(text) if text.isdecimal() else RETRY_AFTER_DEFAULT_S


def web_client(settings: SlackSettings) -> WebClient:
    """slack_sdk's client for the Web API. Raises nothing: the token is tried at the first call."""
    client = WebClient(
        token=settings.token.get_secret_value(),
        base_url=settings.base_url,
        timeout=settings.timeout_seconds,
        logger=_silent_logger(),
        retry_handlers=[_ShortRateLimit(settings.wait_seconds_max)],
    )
    client.proxy = _proxy(client.proxy, settings.base_url)
    return client


def webhook_client(settings: SlackSettings) -> WebhookClient:
    """slack_sdk's client for an incoming webhook."""
    url = settings.webhook_url.get_secret_value()
    client = WebhookClient(
        url=url,
        timeout=settings.timeout_seconds,
        logger=_silent_logger(),
        retry_handlers=[_ShortRateLimit(settings.wait_seconds_max)],
    )
    client.proxy = _proxy(client.proxy, url)
    return client


def check_slack(settings: SlackSettings) -> str:
    """Try the token and say in one line where messages go. Raises SlackError.

    A webhook cannot be tried without posting to it.
    """
    if settings.token.get_secret_value():
        with translated_errors():
            answer = web_client(settings).auth_test()
        return f"Slack: {answer.get('user')} in {answer.get('team')} posts to {settings.channel}"
    if settings.webhook_url.get_secret_value():
        return "Slack: a webhook is set; it can only be tried by posting to it"
    return "Slack: no token and no webhook, so messages are printed"


def post_to_webhook(client: WebhookClient, body: dict[str, Any]) -> None:
    """Post to the webhook. Raises SlackError."""
    with translated_errors():
        answer = client.send_dict(body)
    if answer.status_code != 200:
        raise error_of(answer.status_code, answer.body.strip(), answer.headers)


@contextmanager
def translated_errors() -> Generator[None]:
    """Turn what slack_sdk raises into SlackError; retryable or not is decided from Slack's code and status."""
    try:
        yield
    except SlackApiError as error:
        answer = error.response
        said = answer.data.get("error", "") if isinstance(answer.data, dict) else ""
        raise error_of(answer.status_code, str(said), answer.headers) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise SlackUnavailableError(
            "no_answer",
            "an answer from Slack",
            f"none ({type(reason).__name__}: {reason})",
            "it is tried again later; check the network and base_url if this lasts",
        ) from None
    except (SlackClientError, AttributeError, TypeError, ValueError):
        # slack_sdk trips over an answer that is not the API's.
        raise _not_slack("something that is no answer of its API") from None


def error_of(status: int, said: str, headers: Mapping[str, Any]) -> SlackError:
    """The error for an answer that was not a success."""
    code = said if _CODE.fullmatch(said) else f"http_{status}"
    if status == 429 or code == "ratelimited":
        return SlackRateLimitedError(retry_after_s(headers))
    if status >= 500 or code in TRANSIENT_CODES:
        return SlackUnavailableError(code, "Slack to take the call", code, "it is tried again later")
    if code.startswith("http_"):
        return _not_slack(f"HTTP status {status} without an error code")
    remedy = REMEDIES.get(code, f"https://docs.slack.dev/reference says what {code} means")
    return SlackRefusedError(code, "Slack to take the call", code, remedy)


def _not_slack(got: str) -> SlackRefusedError:
    return SlackRefusedError(
        "not_slack", "an answer of the Slack API", got, "check base_url, and any proxy between here and Slack"
    )


def _silent_logger() -> logging.Logger:
    """slack_sdk logs addresses and bodies, and a webhook's address is a secret; failures are logged by us."""
    logger = logging.Logger("slack_sdk.silenced", level=logging.CRITICAL)  # noqa: LOG001
    logger.propagate = False
    return logger


def _proxy(found: str | None, url: str) -> str | None:
    """slack_sdk sends loopback addresses through a proxy of the environment too; nothing answers there."""
    return None if urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"} else found
