"""What an error may say where message content is not kept.

Errors quote: a provider's refusal repeats the prompt, a validation error its input. What stays is what nobody can
write a prompt into: the type of the error, an HTTP status, codes and phrases from a closed list, and the places in
a stack trace.
"""

from __future__ import annotations

import re
from itertools import takewhile

_TYPE = re.compile(r"^[A-Za-z_][\w.]{0,100}(?:Error|Exception|Timeout|Warning|Exit|Interrupt|Cancelled)(?=:|\(|\s|$)")
_HTTP_STATUS = re.compile(
    r"\b(?:error code|status(?:[ _]?code)?|HTTP(?:/\d(?:\.\d)?)?)\W{0,3}([1-5]\d\d)\b", re.IGNORECASE
)
# What OpenAI, Anthropic, Google and AWS call their errors, and what the network says.
_PHRASES = re.compile(
    r"(?<![A-Za-z_])(?:"
    "api_error|authentication_error|billing_error|content_filter|content_policy_violation|context_length_exceeded|"
    "insufficient_quota|invalid_api_key|invalid_request_error|model_not_found|not_found_error|overloaded_error|"
    "permission_error|rate_limit_error|rate_limit_exceeded|request_too_large|server_error|timeout_error|"
    "ABORTED|ALREADY_EXISTS|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|INVALID_ARGUMENT|NOT_FOUND|"
    "OUT_OF_RANGE|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAUTHENTICATED|UNAVAILABLE|UNIMPLEMENTED|"
    "AccessDeniedException|ModelErrorException|ModelNotReadyException|ModelTimeoutException|"
    "ResourceNotFoundException|ServiceUnavailableException|ThrottlingException|ValidationException|"
    "[Bb]roken pipe|[Cc]onnection (?:aborted|closed|error|refused|reset(?: by peer)?|timed out)|[Cc]ontext canceled|"
    "[Dd]eadline exceeded|ECONNREFUSED|ECONNRESET|ENOTFOUND|ETIMEDOUT|[Ii]nternal [Ss]erver [Ee]rror|"
    "[Nn]ame or service not known|[Rr]ate limit|[Rr]equest timed out|[Ss]ervice [Uu]navailable|[Tt]imed out|"
    "[Tt]oo [Mm]any [Rr]equests"
    r")(?![A-Za-z_])"
)
# Where the traces of Python and Go begin, before anything was said; JavaScript's and the JVM's end with their places.
_PYTHON, _GO, _AT = "Traceback (most recent call last):", "goroutine ", ("    at ", "\tat ", "\t... ")
# The places themselves, without the lines of source that Python adds.
_FRAME = re.compile(
    r'  File "[^"\n]{1,500}", line \d+(?:, in [\w.<>]+)?'
    r"|    at (?:async )?(?:[\w$.<>\[\]]+(?: \[as [\w$.]+\])? )?\(?[^\s()]{1,500}:\d+:\d+\)?"
    r"|\tat [\w.$<>/]+\((?:[\w.]+\.(?:java|kt|scala)(?::\d+)?|Native Method|Unknown Source)\)"
    r"|\t\S{1,500}\.go:\d+(?: \+0x[0-9a-f]+)?"
)
_STATUS = re.compile(r"[1-5]\d\d")
# A sum-up is a line, and a trace as long as this has a recursion in it.
_PARTS_MAX, _FRAMES_MAX, _CHARS_READ_MAX = 6, 200, 65_536


def summary(text: str) -> str:
    """Type, HTTP status, known codes and phrases of an error's text, '' when it has none; of a sum-up itself."""
    text = text[:_CHARS_READ_MAX]
    if _is_summary(text):
        return text
    found = [match.group() for match in [_TYPE.search(text)] if match]
    found += [match.group(1) for match in [_HTTP_STATUS.search(text)] if match]
    found += _PHRASES.findall(text)
    return ", ".join(list(dict.fromkeys(found))[:_PARTS_MAX])


def _is_summary(text: str) -> bool:
    """Whether the text is what `summary` makes of errors: their sum-up is summed up when it passes once more."""
    parts = text.split(", ", _PARTS_MAX)
    first = _TYPE.fullmatch(parts[0])
    rest = parts[1:] if first else parts
    if rest and _STATUS.fullmatch(rest[0]):
        rest = rest[1:]
    return len(parts) <= _PARTS_MAX and all(_PHRASES.fullmatch(part) for part in rest)


def frames(stack_trace: str) -> str:
    """The places that a stack trace names, '' when there are none.

    Messages may have lines that look like places. So only those count that stand before any message (Python, Go) or
    behind all of them (JavaScript, the JVM); of chained errors these are the first's.
    """
    places = [line for line in _block(stack_trace[:_CHARS_READ_MAX].splitlines()) if _FRAME.fullmatch(line)]
    return "\n".join(places[-_FRAMES_MAX:])


def _block(lines: list[str]) -> list[str]:
    """The lines of a trace that cannot be a message's."""
    if lines and lines[0] == _PYTHON:
        return list(takewhile(lambda line: line.startswith("  "), lines[1:]))
    if lines and lines[0].startswith(_GO):
        return list(takewhile(bool, lines))
    return list(takewhile(lambda line: line.startswith(_AT), reversed(lines)))[::-1]
