"""Amazon Bedrock: Converse, ConverseStream's `metadata` event, InvokeModel's headers, bodies and metrics.

`inputTokens` leaves out what was read from and written to the prompt cache. The request id tells two answers
apart, but it is no response id: other instrumentation of the same call does not know it.
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
"""

from __future__ import annotations

from typing import Final

from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import count, field, first_count, has, header_count, items, text, total
from pennytrace._usage.usage import Usage

_PROVIDER: Final = "aws.bedrock"
_METRICS: Final = "amazon-bedrock-invocationMetrics"
_HEADER: Final = "x-amzn-bedrock-{}-token-count"


def read(value: object) -> Answer | None:
    """The answer in a response, event, header set or model body, or None when the shape is another."""
    usage = field(value, "usage") or field(field(value, "metadata"), "usage")
    counts = read_usage(usage) if usage is not None else None
    operation = "chat" if counts is not None else None
    counts = counts or _headers(value) or _metrics(field(value, _METRICS))
    if counts is None:
        counts = _body(value)
        operation = "embeddings" if has(value, "embedding") else "text_completion"
    if counts is None:
        return None
    key = text(field(value, "ResponseMetadata"), "RequestId") or usage or value
    return Answer(usage=counts, key=key, provider=_PROVIDER, operation=operation)


def read_usage(usage: object) -> Usage | None:
    """A bare TokenUsage; None when it has none of its counts."""
    fresh = count(usage, "inputTokens")
    output = count(usage, "outputTokens")
    if fresh is None and output is None:
        return None
    read_tokens = first_count(usage, ("cacheReadInputTokens",), ("cacheReadInputTokenCount",))
    written = first_count(usage, ("cacheWriteInputTokens",), ("cacheWriteInputTokenCount",))
    hour = [count(item, "inputTokens") for item in items(usage, "cacheDetails") if text(item, "ttl") == "1h"]
    return _inclusive(fresh, output, read_tokens, written, total(*hour))


def _inclusive(
    fresh: int | None, output: int | None, read_tokens: int | None, written: int | None, one_hour: int | None = None
) -> Usage:
    return Usage(
        input_tokens=None if fresh is None else total(fresh, read_tokens, written),
        output_tokens=output,
        cache_read_tokens=read_tokens,
        cache_write_5m_tokens=written if written is None or one_hour is None else max(written - one_hour, 0),
        cache_write_1h_tokens=one_hour,
    )


def _headers(value: object) -> Usage | None:
    headers = field(field(value, "ResponseMetadata"), "HTTPHeaders")
    if headers is None:
        return None
    names = ("input", "output", "cache-read-input", "cache-write-input")
    found = _inclusive(*(header_count(headers, _HEADER.format(name)) for name in names))
    return found if found.known else None


def _metrics(metrics: object) -> Usage | None:
    if metrics is None:
        return None
    names = ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")
    found = _inclusive(*(count(metrics, name) for name in names))
    return found if found.known else None


def _body(value: object) -> Usage | None:
    """Bodies of Amazon Titan and Meta Llama; other vendors' bodies read as their own APIs do."""
    if (titan := count(value, "inputTextTokenCount")) is not None:
        return Usage(
            input_tokens=titan, output_tokens=total(*(count(r, "tokenCount") for r in items(value, "results")))
        )
    if (generated := count(value, "generation_token_count")) is not None:
        return Usage(input_tokens=count(value, "prompt_token_count"), output_tokens=generated)
    return None
