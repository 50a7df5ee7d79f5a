"""Models without tokens: how many rows a prediction has."""

from __future__ import annotations

from collections.abc import Mapping, Sized

from pennytrace._usage.shape import field
from pennytrace._usage.usage import Usage


def rows(result: object) -> Usage | None:
    """The usage of a classic model's prediction: its rows. Meant for `@observe(usage=pennytrace.rows)`.

    Rows are the first dimension of an array or frame, the length of a list or tuple, those of the first column
    of a mapping, and 1 for a single number, label or zero-dimensional array. None is no prediction, hence
    unknown. ONNX Runtime returns a list of outputs: give `lambda outputs: pennytrace.rows(outputs[0])`.
    """
    if result is None:
        return None
    if isinstance(result, Mapping):
        return rows(next(iter(result.values()), None))
    shape = field(result, "shape")
    if isinstance(shape, tuple):
        return Usage(rows=int(shape[0]) if shape else 1)
    if isinstance(result, str | bytes) or not isinstance(result, Sized):
        return Usage(rows=1)
    return Usage(rows=len(result))
