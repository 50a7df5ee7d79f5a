"""One trace: as OTLP JSON with what its calls cost, and as a tree for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from app.errors import CommandError
from app.tables import dollars
from storage.traces import TRACE_SPANS_MAX, find_trace, otlp_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage import Store

Json = dict[str, Any]
_Key = tuple[str, int, str]
# How deep the tree is indented; a loop of wrong parents would have no end.
DEPTH_MAX = 60
HOUR = timedelta(hours=1)
HOUR_NS = 3_600_000_000_000


class TraceNotFoundError(CommandError):
    """There is no such trace."""


def trace_answer(store: Store, trace_id: str) -> tuple[Json, list[Json], bool]:
    """The trace as OTLP JSON, and the ledger's rows of its calls, and whether it has more spans.

    Raises CommandError when the id is none, TraceNotFoundError when no span has it.
    """
    raw = parse_trace_id(trace_id)
    document = otlp_json(find_trace(store, raw))
    starts = [int(span["startTimeUnixNano"]) for _, span in _spans(document)]
    if not starts:
        raise TraceNotFoundError(
            f"no span of trace {raw.hex()}: it was never received, is still in the journal, or its month was dropped"
        )
    calls = store.rows("trace_calls", trace_id=raw.hex(), first=_hour(min(starts)), last=_hour(max(starts)))
    return document, calls, len(starts) > TRACE_SPANS_MAX


def parse_trace_id(text: str) -> bytes:
    """A trace id from 32 hex digits, dashes allowed; raises CommandError."""
    digits = text.replace("-", "").strip()
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise CommandError(f"expected a trace id of 32 hex digits, got {text!r}")
    return raw


def _hour(at_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + at_ns // HOUR_NS * HOUR


@dataclass(frozen=True)
class _Line:
    """A span where it stands in the tree."""

    depth: int
    service: str
    span: Json


def trace_table(answer: Json) -> Table:
    """The tree of spans, each under its parent, with what its call used and cost."""
    calls = {(call["service"], int(call["start_ns"]), call["span_id"]): call for call in answer["calls"]}
    more = f"the trace has more than the {TRACE_SPANS_MAX:,} spans shown" if answer.get("truncated") else None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=more)
    for heading in ("span", "service"):
        table.add_column(heading, overflow="fold")
    for heading in ("ms", "model", "input", "output", "cost"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for line in _tree(answer):
        call = calls.get(_key(line.service, line.span))
        name = "  " * line.depth + (line.span.get("name") or "-") + _failed(line.span)
        table.add_row(name, line.service or "-", _milliseconds(line.span), *_usage(call))
    return table


def _usage(call: Json | None) -> tuple[str, str, str, str]:
    if call is None:
        return "", "", "", ""
    if call["response_cache_hit"]:
        cost = f"cached, saved {dollars(call['saved_usd'], 6)}"
    else:
        cost = dollars(call["cost_usd"], 6) if call["billable"] else "-"
    return call["model"], _count(call["input_tokens"]), _count(call["output_tokens"]), cost


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"


def _failed(span: Json) -> str:
    return " (error)" if span.get("status", {}).get("code") == 2 else ""


def _milliseconds(span: Json) -> str:
    return f"{(int(span.get('endTimeUnixNano', 0)) - int(span['startTimeUnixNano'])) / 1e6:,.1f}"


def _key(service: str, span: Json) -> _Key:
    """What tells spans apart: ids alone do not, some tracers give client and server the same."""
    return service, int(span["startTimeUnixNano"]), span["spanId"]


def _tree(document: Json) -> Iterator[_Line]:
    """Spans in order of their start, children below their parent; a span whose parent is not there is a root."""
    found = sorted(_spans(document), key=lambda pair: int(pair[1]["startTimeUnixNano"]))
    named: dict[str, list[_Key]] = {}
    for pair in found:
        named.setdefault(pair[1]["spanId"], []).append(_key(*pair))
    children: dict[_Key | None, list[tuple[str, Json]]] = {}
    for service, span in found:
        children.setdefault(_parent(service, span, named), []).append((service, span))
    shown: set[_Key] = set()
    waiting = [(0, *pair) for pair in reversed(children.get(None, []))]
    # Spans that are each other's ancestors hang from no root; they are shown last, as roots.
    for lost in [None, *found]:
        if lost and _key(*lost) not in shown:
            waiting.append((0, *lost))
        while waiting:
            depth, service, span = waiting.pop()
            key = _key(service, span)
            if key in shown:
                continue
            shown.add(key)
            yield _Line(min(depth, DEPTH_MAX), service, span)
            waiting += [(depth + 1, *pair) for pair in reversed(children.get(key, []))]


def _parent(service: str, span: Json, named: dict[str, list[_Key]]) -> _Key | None:
    """The span with the parent's id: of the same service if there are several."""
    own = _key(service, span)
    candidates = [key for key in named.get(span.get("parentSpanId", ""), []) if key != own]
    return next((key for key in candidates if key[0] == service), candidates[0] if candidates else None)


def _spans(document: Json) -> Iterator[tuple[str, Json]]:
    """Every span with the name of its service."""
    for resource_spans in document.get("resourceSpans", []):
        attributes = resource_spans.get("resource", {}).get("attributes", [])
        named = [each["value"].get("stringValue", "") for each in attributes if each["key"] == "service.name"]
        for scope_spans in resource_spans.get("scopeSpans", []):
            for span in scope_spans.get("spans", []):
                yield (named[-1] if named else "", span)
