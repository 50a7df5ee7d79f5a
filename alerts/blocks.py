"""A message as Slack wants it: Block Kit within its limits, every name escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alerts.message import as_text
from alerts.wording import ELLIPSIS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts.message import Message

# https://docs.slack.dev/reference/block-kit/blocks and .../methods/chat.postMessage
HEADER_CHARACTERS_MAX = 150
SECTION_CHARACTERS_MAX = 3000
CONTEXT_CHARACTERS_MAX = 2000
LINK_CHARACTERS_MAX = 2900
TEXT_CHARACTERS_MAX = 40_000

# A backtick in a name would begin or end a block of fixed width.
_SAFE = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'"}


def escape(text: str, characters_max: int) -> str:
    """The text made safe for Slack, cut so that the result fits and no entity breaks.

    Lengths are counted in UTF-16 units, the larger of the two ways in which Slack could count an emoji.
    """
    pieces = [_SAFE.get(character, character) for character in text]
    if sum(map(_units, pieces)) <= characters_max:
        return "".join(pieces)
    kept: list[str] = []
    room = characters_max - len(ELLIPSIS)
    for piece in pieces:
        room -= _units(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept).rstrip() + ELLIPSIS


def _units(piece: str) -> int:
    return sum(2 if character > "\uffff" else 1 for character in piece)


def payload(message: Message) -> dict[str, Any]:
    """Text, blocks and metadata of a message, as chat.postMessage and a webhook take them."""
    return {
        "text": escape(as_text(message), TEXT_CHARACTERS_MAX),
        "blocks": _blocks(message),
        "metadata": message.metadata,
    }


def reply_payload(message: Message) -> dict[str, Any]:
    """What is added to the thread when an incident ends or comes back; the message itself was updated."""
    lines = [f"[{message.state}] {message.period}", f"Impact {message.impact}"]
    if message.cause:
        lines.append(message.cause)
    return {"text": escape("\n".join(lines), SECTION_CHARACTERS_MAX), "metadata": message.metadata}


def plain_payload(message: Message) -> dict[str, Any]:
    """The message without blocks, for when Slack refuses them."""
    return {name: value for name, value in payload(message).items() if name != "blocks"}


def _blocks(message: Message) -> list[dict[str, Any]]:
    header = {"type": "plain_text", "text": escape(message.first_line, HEADER_CHARACTERS_MAX), "emoji": False}
    sections = [text for text in _sections(message) if text]
    return [
        {"type": "header", "text": header},
        *({"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in sections),
        {"type": "context", "elements": [{"type": "mrkdwn", "text": _context(message)}]},
    ]


def _sections(message: Message) -> Iterable[str]:
    yield _named("What moved", message.moved)
    yield _impact(message)
    yield _named("Cause", message.cause)
    yield _named("Deploy", message.deploy)
    yield _named("Also", "\n".join(f"• {other}" for other in message.others))
    yield f"<{escape(message.link, LINK_CHARACTERS_MAX)}|Open the page>" if message.link else ""


def _named(name: str, text: str) -> str:
    return f"*{name}*\n{escape(text, SECTION_CHARACTERS_MAX - len(name) - 3)}" if text else ""


def _impact(message: Message) -> str:
    """The dollars, and the split below in a fixed width so that the amounts stand under each other."""
    total = f"*Impact*  {message.impact}"
    if not message.parts:
        return total
    width = max(len(part.amount) for part in message.parts)
    rows = "\n".join(f"{part.amount:>{width}}  {part.label}" for part in message.parts)
    return f"{total}\n```{escape(rows, SECTION_CHARACTERS_MAX - len(total) - 7)}```"


def _context(message: Message) -> str:
    line = f"{message.place} · {message.period} · incident {message.incident_key}"
    return escape(line, CONTEXT_CHARACTERS_MAX)
