"""The own APIs of self-hosted servers: Ollama, Text Generation Inference (TGI) and SGLang.

https://github.com/ollama/ollama/blob/main/docs/api.md ·
https://huggingface.github.io/text-generation-inference/ · https://docs.sglang.ai/basic_usage/native_api.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pennytrace._usage.answer import Answer
from pennytrace._usage.shape import count, field, has, items, text, total
from pennytrace._usage.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable


def read(value: object) -> Answer | None:
    """The answer in a response or in a stream's last part, or None when the shape is another."""
    if isinstance(value, list):
        return _several(value)
    return _ollama(value) or _sglang(value) or _tgi(value)


def _ollama(value: object) -> Answer | None:
    """A prompt that the server had whole in its cache may have no count: unknown, not zero."""
    usage = Usage(input_tokens=count(value, "prompt_eval_count"), output_tokens=count(value, "eval_count"))
    if not usage.known:
        return None
    operation = "chat" if has(value, "message") else "text_completion"
    return Answer(
        usage=usage,
        key=text(value, "created_at") or value,
        model=text(value, "model"),
        provider="ollama",
        operation="embeddings" if has(value, "embeddings") else operation,
    )


def _sglang(value: object) -> Answer | None:
    meta = field(value, "meta_info")
    usage = Usage(
        input_tokens=count(meta, "prompt_tokens"),
        output_tokens=count(meta, "completion_tokens"),
        cache_read_tokens=count(meta, "cached_tokens"),
        reasoning_tokens=count(meta, "reasoning_tokens"),
    )
    if not usage.known:
        return None
    response_id = text(meta, "id")
    return Answer(
        usage=usage,
        key=response_id or meta,
        response_id=response_id,
        provider="sglang",
        operation="text_completion",
    )


def _tgi(value: object) -> Answer | None:
    """The prompt is counted in a stream's last event, or by the `prefill` that `decoder_input_details` asks for."""
    details = field(value, "details")
    generated = count(details, "generated_tokens")
    if generated is None:
        return None
    prompt = count(details, "input_length") or len(items(details, "prefill")) or None
    usage = Usage(input_tokens=prompt, output_tokens=generated)
    return Answer(usage=usage, key=details, operation="text_completion")


def _several(values: list[object]) -> Answer | None:
    """A batch of answers, all of them counted, as one."""
    answers = [read(value) for value in values[:1]]
    if answers != [None]:
        answers += [read(value) for value in values[1:]]
    known = [answer for answer in answers if answer is not None]
    if len(known) < len(values) or not known:
        return None
    return Answer(
        usage=Usage(
            input_tokens=_sum(answer.usage.input_tokens for answer in known),
            output_tokens=_sum(answer.usage.output_tokens for answer in known),
            cache_read_tokens=_sum(answer.usage.cache_read_tokens for answer in known),
            reasoning_tokens=_sum(answer.usage.reasoning_tokens for answer in known),
        ),
        key=values,
        model=known[0].model,
        provider=known[0].provider,
        operation=known[0].operation,
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    found = list(counts)
    return None if None in found else total(*found)
