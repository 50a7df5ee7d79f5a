"""Looking into values whose types we do not import: attributes or mapping keys, whichever is there."""

from __future__ import annotations

from collections.abc import Mapping

_SCALARS = (str, bytes, bytearray, int, float, bool, type(None))


def field(value: object, name: str) -> object:
    """`value[name]` of a mapping or `value.name` of an object; None where there is none."""
    if isinstance(value, _SCALARS):
        return None
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def has(value: object, name: str) -> bool:
    """Whether the field is there and not None."""
    return field(value, name) is not None


def count(value: object, *path: str) -> int | None:
    """A token count at the end of `path`; None for anything that is not a whole number of zero or more."""
    for name in path:
        value = field(value, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value < 0 or value != value // 1 or value == float("inf"):
        return None
    return int(value)


def text(value: object, name: str) -> str | None:
    """A non-empty string field."""
    found = field(value, name)
    return found if isinstance(found, str) and found else None
