"""Taking message content out of spans, log records and metrics, after the usage in it has been read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import orjson

from collector.content import error_text
from collector.content.rules import CONTENT_MEMBERS, MESSAGE_EVENT, MESSAGE_KEYS, Handling, content_rule
from collector.content.scan import SCANNED_BYTES_MIN, ContentScan
from collector.content.usage import ANSWER_KEYS, USAGE_KEY, find_usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, MutableSequence

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

    from collector.settings import CollectorSettings

    Attributes = MutableSequence[KeyValue]

# Keys whose handling is remembered: many more than SDKs have, few enough for one that makes keys up.
_KEYS_REMEMBERED = 4096
# Values that have keys in them; values that are no texts, and no content wherever they stand.
_NESTS = frozenset({"array_value", "kvlist_value"})
_NUMBERS = frozenset({"bool_value", "double_value", "int_value"})
# JSON of parameters that is deeper than this is none; orjson writes 254 levels.
_DEPTH_MAX = 100


class Edit(NamedTuple):
    """What the filter did to a message."""

    dropped: int
    """Texts that went, whole or in part."""
    rescued: int
    """Usage objects that it put in."""

    @property
    def is_one(self) -> bool:
        """Whether anything changed."""
        return bool(self.dropped or self.rescued)


NO_EDIT = Edit(0, 0)


class ContentFilter:
    """What the settings say about content, applied to messages in place. Any thread may use it."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._keeps_content = settings.keep_message_content
        self._keeps_errors = settings.keep_message_content or settings.keep_error_messages
        self._rule = content_rule(
            keep_content=self._keeps_content, keep_errors=self._keeps_errors, extra=settings.drop_attributes
        )
        self._scan = ContentScan.of(
            keep_content=self._keeps_content, keep_errors=self._keeps_errors, extra=settings.drop_attributes
        )
        self._plain: set[str] = set()

    def strip_spans(self, request: ExportTraceServiceRequest, raw: bytes | None) -> list[Edit]:
        """Take the content out of each ResourceSpans; usage that was found in it is put in, see USAGE_KEY.

        `raw` is what the request was parsed from: where that cannot hold content, the messages are left alone. None
        when it did not come as protobuf.
        """
        if self._may_have_content(request, raw):
            return [self._strip_all(resource_spans) for resource_spans in request.resource_spans]
        return [NO_EDIT] * len(request.resource_spans)

    def strip_logs(self, resource_logs: ResourceLogs) -> int:
        """Take the content out of log records; returns how many texts went."""
        dropped = self._strip(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            dropped += self._strip(scope_logs.scope.attributes)
            dropped += sum(self._strip_log(record) for record in scope_logs.log_records)
        return dropped

    def strip_metrics(self, resource_metrics: ResourceMetrics) -> int:
        """Take the content out of what is stored of metrics; returns how many texts went."""
        dropped = self._strip(resource_metrics.resource.attributes)
        metrics = (metric for scope_metrics in resource_metrics.scope_metrics for metric in scope_metrics.metrics)
        return dropped + sum(self._strip(attributes) for metric in metrics for attributes in _of_points(metric))

    def _may_have_content(self, request: ExportTraceServiceRequest, raw: bytes | None) -> bool:
        """False only where a walk through all messages would change nothing."""
        if raw is None or len(raw) < SCANNED_BYTES_MIN:
            return True
        if not self._keeps_errors and _has_status_message(request):
            return True
        return self._scan.finds(raw, self._is_content)

    def _strip_all(self, resource_spans: ResourceSpans) -> Edit:
        dropped, rescued = self._strip(resource_spans.resource.attributes), 0
        for scope_spans in resource_spans.scope_spans:
            dropped += self._strip(scope_spans.scope.attributes)
            for span in scope_spans.spans:
                edit = self._strip_span(span)
                dropped, rescued = dropped + edit.dropped, rescued + edit.rescued
        return Edit(dropped, rescued)

    def _strip_span(self, span: Span) -> Edit:
        answers: list[str] = []
        dropped = self._strip(span.attributes, answers)
        for event in span.events:
            dropped += self._strip(event.attributes, answers, in_message=self._is_message(event.name))
        for link in span.links:
            dropped += self._strip(link.attributes)
        if not self._keeps_errors and span.HasField("status"):
            dropped += _strip_status(span)
        usage = next((found for answer in answers if (found := find_usage(answer))), None)
        if usage is None:
            return Edit(dropped, 0)
        span.attributes.add(key=USAGE_KEY).value.string_value = usage.decode()
        return Edit(dropped, 1)

    def _strip_log(self, record: LogRecord) -> int:
        name = record.event_name or next(
            (_string(one.value) for one in record.attributes if one.key == "event.name"), ""
        )
        in_message = self._is_message(name)
        dropped = self._strip(record.attributes, in_message=in_message)
        if in_message and record.HasField("body"):
            record.ClearField("body")
            dropped += 1
        return dropped

    def _strip(self, attributes: Attributes, answers: list[str] | None = None, *, in_message: bool = False) -> int:
        """Take content out of attributes, and what may be answers into `answers`; returns how many texts went."""
        plain: Collection[str] = () if in_message else self._plain
        others = [
            (position, one, kind)
            for position, one in enumerate(attributes)
            if (kind := one.value.WhichOneof("value")) in _NESTS or one.key not in plain
        ]
        dropped = 0
        for position, attribute, kind in reversed(others):
            if answers is not None and attribute.key in ANSWER_KEYS:
                answers.append(_string(attribute.value))
            handling = self._rule(attribute.key)
            if in_message and handling is Handling.KEEP and attribute.key not in MESSAGE_KEYS and kind not in _NUMBERS:
                handling = Handling.DROP
            if handling is Handling.KEEP:
                self._remember(attribute.key)
                dropped += self._strip_nested(attribute.value, kind)
            else:
                dropped += _apply(handling, attributes, position)
        return dropped

    def _strip_nested(self, value: AnyValue, kind: str | None) -> int:
        """Take content out of the key-value lists in a value; parsers let it be some tens of levels deep."""
        if kind == "kvlist_value":
            return self._strip(value.kvlist_value.values)
        if kind == "array_value":
            return sum(self._strip_nested(item, item.WhichOneof("value")) for item in value.array_value.values)
        return 0

    def _is_message(self, event_name: str) -> bool:
        return not self._keeps_content and event_name.startswith(MESSAGE_EVENT)

    def _remember(self, key: str) -> None:
        if len(self._plain) < _KEYS_REMEMBERED and not self._is_content(key):
            self._plain.add(key)

    def _is_content(self, key: str) -> bool:
        """Whether a key has something to do with content outside of message events."""
        return key in ANSWER_KEYS or self._rule(key) is not Handling.KEEP


def _has_status_message(request: ExportTraceServiceRequest) -> bool:
    return any(
        span.HasField("status") and span.status.message
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    )


def _of_points(metric: Metric) -> Iterator[Attributes]:
    kind = metric.WhichOneof("data")
    return (point.attributes for point in getattr(metric, kind).data_points) if kind else iter(())


def _apply(handling: Handling, attributes: Attributes, position: int) -> int:
    """Handle one attribute that is not kept as it came; returns whether some of it went."""
    value = attributes[position].value
    left = _left_of(value, handling)
    if left is None:
        del attributes[position]
    elif left == _string(value):
        return 0
    else:
        value.string_value = left
    return 1


def _string(value: AnyValue) -> str:
    return value.string_value


def _left_of(value: AnyValue, handling: Handling) -> str | None:
    """What stays of a value; None when nothing does."""
    if handling is Handling.SUMMARISE:
        return error_text.summary(_string(value)) or None
    if handling is Handling.FRAMES:
        return error_text.frames(_string(value)) or None
    return _scrubbed(_string(value)) if handling is Handling.SCRUB else None


def _strip_status(span: Span) -> int:
    message = span.status.message
    summary = error_text.summary(message) if message else ""
    if summary == message:
        return 0
    span.status.message = summary
    return 1


def _scrubbed(text: str) -> str | None:
    """A JSON object without the members that hold content, as it came where it has none; None when it is no object."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    return orjson.dumps(document).decode() if _scrub(cast("dict[str, object]", document)) else text


def _scrub(node: object, depth: int = 1) -> bool:
    """Remove content from nested objects in place, and what is too deep; numbers are counts, whatever they are called.

    Returns whether there was any.
    """
    if not isinstance(node, dict | list):
        return False
    if depth > _DEPTH_MAX:
        node.clear()
        return True
    found: list[str] = []
    if isinstance(node, dict):
        members = cast("dict[str, object]", node)
        found = [name for name in CONTENT_MEMBERS & members.keys() if isinstance(members[name], str | list | dict)]
        for name in found:
            del members[name]
    inner = cast("dict[str, object]", node).values() if isinstance(node, dict) else cast("list[object]", node)
    below = [_scrub(value, depth + 1) for value in inner]
    return bool(found) or any(below)
