"""Hugging Face `generate`: tokens counted in the tensors that go in and come out.

What comes out does not say how long the prompt was, so the input is given too.
https://huggingface.co/docs/transformers/main_classes/text_generation
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pennytrace._errors import PennytraceError
from pennytrace._usage.shape import field, has
from pennytrace._usage.usage import Usage


def generated(output: object, inputs: object, *, pad_token_id: int | None = None) -> Usage:
    """The usage of `model.generate(**inputs)`, to be given to `record_usage`.

    `output` is the tensor of sequences or a ModelOutput that has one; `inputs` is what the tokenizer returned, or
    the tensor of input ids. Padding of the input is left out by the attention mask, that of the output by
    `pad_token_id`; without them every position counts. Raises PennytraceError when a tensor is missing.
    """
    sequences = _tensor(field(output, "sequences") if has(output, "sequences") else output, "output")
    is_batch = isinstance(inputs, Mapping) or has(inputs, "input_ids")
    prompt = _tensor(field(inputs, "input_ids") if is_batch else inputs, "inputs")
    mask = field(inputs, "attention_mask") if is_batch else None
    start = 0 if "EncoderDecoder" in type(output).__name__ else prompt.shape[1]
    made = sequences[:, start:]
    return Usage(
        input_tokens=_positions(prompt) if mask is None else int(cast("Any", mask).sum()),
        output_tokens=_positions(made) if pad_token_id is None else int((made != pad_token_id).sum()),
    )


def _tensor(value: object, name: str) -> Any:  # noqa: ANN401 # a torch, numpy or JAX array; none is imported
    shape = field(value, "shape")
    if shape is None or len(cast("tuple[int, ...]", shape)) != 2:  # sequences by positions
        raise PennytraceError(
            f"expected {name} with a tensor of sequences by positions, got {type(value).__name__}; "
            "give what generate returned and what the tokenizer returned, with return_tensors"
        )
    return value


def _positions(tensor: Any) -> int:  # noqa: ANN401 # as above
    return int(tensor.shape[0]) * int(tensor.shape[1])
