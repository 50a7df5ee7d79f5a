"""Where messages go: a Slack bot, a Slack webhook, or the console when neither is configured."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from alerts.blocks import payload, plain_payload, reply_payload
from alerts.errors import SlackRefusedError
from alerts.message import EVENT_TYPE, as_text
from alerts.slack import post_to_webhook, translated_errors, web_client, webhook_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts.message import Message
    from alerts.settings import SlackSettings

logger = logging.getLogger(__name__)

# How far back the channel is searched for a message that may or may not have arrived.
HISTORY_MESSAGES_MAX = 200
# Slack shows a thread oldest first and at most so many messages at once, people's own among them.
REPLIES_MAX = 1000
_CHANNEL_ID = re.compile(r"[CDG][A-Z0-9]{7,}")
_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
_BLOCKS_REFUSED = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})


@dataclass(frozen=True)
class Receipt:
    """Where an incident's message stands; both '' where the destination does not say."""

    channel: str = ""
    message_ts: str = ""


class Destination(Protocol):
    """Takes an incident's messages, one state after another."""

    name: str
    tells_acknowledged: bool

    def send(self, message: Message, earlier: Receipt | None, *, maybe_sent: bool) -> Receipt:
        """Deliver the message.

        `earlier` is where the incident's message stands, if it was sent before. `maybe_sent` says that an
        attempt was cut off, so that it may stand somewhere. Raises SlackError.
        """
        ...


def destination(settings: SlackSettings, console: Callable[[str], None]) -> Destination:
    """The best destination that is configured: bot, else webhook, else console."""
    if settings.token.get_secret_value():
        return SlackBot(settings)
    if settings.webhook_url.get_secret_value():
        return SlackWebhook(settings)
    return Console(console)


class Console:
    """Prints messages; an acknowledgement is not printed, for it was typed here."""

    name = "console"
    tells_acknowledged = False

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def send(self, message: Message, earlier: Receipt | None, *, maybe_sent: bool) -> Receipt:
        """Print the message."""
        del earlier, maybe_sent
        self._write(as_text(message))
        return Receipt()


class SlackWebhook:
    """Posts to an incoming webhook, which can only add messages: a resolved incident is a second one."""

    name = "webhook"
    tells_acknowledged = False

    def __init__(self, settings: SlackSettings) -> None:
        self._client = webhook_client(settings)

    def send(self, message: Message, earlier: Receipt | None, *, maybe_sent: bool) -> Receipt:
        """Post the message; without blocks when Slack refuses them."""
        del earlier, maybe_sent
        try:
            post_to_webhook(self._client, payload(message))
        except SlackRefusedError as error:
            if error.code not in _BLOCKS_REFUSED:
                raise
            post_to_webhook(self._client, plain_payload(message))
        return Receipt()


class SlackBot:
    """Posts with a bot token: one message an incident, updated in place, with a thread for what follows."""

    tells_acknowledged = True

    def __init__(self, settings: SlackSettings) -> None:
        self.name = f"slack:{settings.channel}"
        self._channel = settings.channel
        self._client = web_client(settings)

    def send(self, message: Message, earlier: Receipt | None, *, maybe_sent: bool) -> Receipt:
        """Post the incident's first message, or update it and add to its thread."""
        if earlier and self._follow_up(message, earlier, maybe_sent=maybe_sent):
            return earlier
        posted = self._find(message) if maybe_sent else None
        if posted is None:
            return self._post(message)
        found = Receipt(self._channel, str(posted["ts"]))
        if _payload_of(posted).get("sequence") == message.sequence:
            return found
        return found if self._follow_up(message, found, maybe_sent=True) else self._post(message)

    def _follow_up(self, message: Message, earlier: Receipt, *, maybe_sent: bool) -> bool:
        """Update the incident's message and add to its thread; False when the message is gone."""
        try:
            self._update(message, earlier)
        except SlackRefusedError as error:
            if error.code not in _GONE:
                raise
            return False
        if message.state != "acknowledged" and not (maybe_sent and self._was_replied(message, earlier)):
            self._reply(message, earlier)
        return True

    def _post(self, message: Message) -> Receipt:
        answer = self._call("chat.postMessage", message, {"channel": self._channel})
        return Receipt(str(answer["channel"]), str(answer["ts"]))

    def _update(self, message: Message, earlier: Receipt) -> None:
        self._call("chat.update", message, {"channel": earlier.channel, "ts": earlier.message_ts})

    def _reply(self, message: Message, earlier: Receipt) -> None:
        target = {"channel": earlier.channel, "thread_ts": earlier.message_ts}
        self._api("chat.postMessage", target | reply_payload(message))

    def _call(self, method: str, message: Message, target: dict[str, str]) -> dict[str, Any]:
        """Call with the full message; without blocks when Slack refuses them."""
        try:
            return self._api(method, target | payload(message))
        except SlackRefusedError as error:
            if error.code not in _BLOCKS_REFUSED:
                raise
            logger.warning("slack refused the blocks of a message, sent as text", extra={"code": error.code})
            return self._api(method, target | plain_payload(message))

    def _api(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        with translated_errors():
            answer = self._client.api_call(method, json=body | {"unfurl_links": False, "unfurl_media": False})
            if not answer.get("ts") or not answer.get("channel"):
                raise ValueError("expected a channel and a ts, got an answer without")
            return {"channel": answer["channel"], "ts": answer["ts"]}

    def _find(self, message: Message) -> dict[str, Any] | None:
        """Look in the channel for the incident's message, where the bot may read it and the id is known."""
        if not _CHANNEL_ID.fullmatch(self._channel):
            return None
        posted = self._read("conversations.history", {"channel": self._channel, "limit": HISTORY_MESSAGES_MAX})
        return next((one for one in posted if _payload_of(one).get("incident_key") == message.incident_key), None)

    def _was_replied(self, message: Message, earlier: Receipt) -> bool:
        """Whether the thread has the reply of this state already, where the bot may read it."""
        thread = {"channel": earlier.channel, "ts": earlier.message_ts, "limit": REPLIES_MAX}
        wanted = (message.incident_key, message.sequence)
        posted = (
            _payload_of(one)
            for one in self._read("conversations.replies", thread)
            if "thread_ts" in one and one["ts"] != one["thread_ts"]
        )
        return any((one.get("incident_key"), one.get("sequence")) == wanted for one in posted)

    def _read(self, method: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Messages that are there; none where the bot may not read them."""
        try:
            with translated_errors():
                answer = self._client.api_call(method, params=query | {"include_all_metadata": True})
        except SlackRefusedError as error:
            logger.warning("slack does not show the channel, a message may repeat", extra={"code": error.code})
            return []
        posted: list[dict[str, Any]] = answer.get("messages") or []
        return posted


def _payload_of(posted: dict[str, Any]) -> dict[str, Any]:
    """The incident that a message in the channel is about; nothing when it is not ours."""
    metadata: dict[str, Any] = posted.get("metadata") or {}
    return metadata.get("event_payload", {}) if metadata.get("event_type") == EVENT_TYPE else {}
