"""What can go wrong with alerts.

AlertError
├── IncidentNotFoundError      no incident has this key
├── IncidentStateError         the incident's state does not allow this
└── SlackError                 Slack did not take a message; `code` is Slack's own word for it
    ├── SlackUnavailableError  it may take the same message later
    │   └── SlackRateLimitedError  it said when: `retry_after_s`
    └── SlackRefusedError      it will not, until somebody changes something
"""

from __future__ import annotations


class AlertError(Exception):
    """Anything the alerts raise."""


class IncidentNotFoundError(AlertError):
    """No incident has this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"expected the key of an incident, got {key!r}: `pennytrace alerts list` shows the keys")


class IncidentStateError(AlertError):
    """The incident's state does not allow what was asked."""

    def __init__(self, key: str, expected: str, state: str) -> None:
        self.key = key
        self.state = state
        super().__init__(f"expected {expected} incident, got {key} which is {state}: there is nothing to do")


class SlackError(AlertError):
    """Slack did not take a message or a call."""

    retryable = False

    def __init__(self, code: str, expected: str, got: str, remedy: str) -> None:
        self.code = code
        self.expected = expected
        self.got = got
        self.remedy = remedy
        super().__init__(f"expected {expected}, got {got}: {remedy}")


class SlackUnavailableError(SlackError):
    """Slack did not answer, or answered that it cannot now."""

    retryable = True


class SlackRateLimitedError(SlackUnavailableError):
    """Slack asked to wait for `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            "ratelimited",
            "Slack to take the message",
            f"a rate limit of {retry_after_s} s",
            "nothing to do, it is sent after that",
        )


# Answers that speak about one message; every other refusal holds for whatever is sent next.
MESSAGE_CODES = frozenset(
    {
        "invalid_blocks",
        "invalid_blocks_format",
        "invalid_metadata_format",
        "invalid_metadata_schema",
        "invalid_payload",
        "metadata_must_be_sent_from_app",
        "metadata_too_large",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
    }
)


class SlackRefusedError(SlackError):
    """Slack will not take this until somebody changes something."""

    @property
    def is_about_message(self) -> bool:
        """True when only this message is refused, not the token, the channel or the webhook."""
        return self.code in MESSAGE_CODES
