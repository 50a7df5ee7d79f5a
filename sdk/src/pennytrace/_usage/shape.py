"""Looking into values whose types we do not import: attributes or mapping keys, whichever is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, Final, TypeVar

_SCALARS = (str, bytes, bytearray, int, float, bool, type(None))
COUNT_TEXT_CHARS_MAX = 18
"""Longer digits than any count has; a header that is longer is no count."""
TYPES_MAX: Final = 1_024
"""Types whose way of being looked into is kept; a program that makes types up starts again."""

T = TypeVar("T")
Getter = Callable[[Any, str], object]


def _nothing(value: object, name: str) -> object:  # noqa: ARG001 # a getter's parameters
    return None


def _item(value: Mapping[str, object], name: str) -> object:
    return value.get(name)


def _attribute(value: object, name: str) -> object:
    return getattr(value, name, None)


class ByType(dict[type, T]):
    """Something worked out once a type, by a function of the type. Bounded; safe to share between threads."""

    def __init__(self, work_out: Callable[[type], T]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, kind: type) -> T:
        if len(self) >= TYPES_MAX:
            self.clear()
        self[kind] = found = self._work_out(kind)
        return found


def _getter(kind: type) -> Getter:
    if issubclass(kind, _SCALARS):
        return _nothing
    return _item if issubclass(kind, Mapping) else _attribute


_getters = ByType(_getter)


def field(value: object, name: str) -> object:
    """`value[name]` of a mapping or `value.name` of an object; None where there is none."""
    if type(value) is dict:
        return value.get(name)
    return _getters[type(value)](value, name)


def has(value: object, name: str) -> bool:
    """Whether the field is there and not None."""
    return field(value, name) is not None


def count(value: object, *path: str) -> int | None:
    """A token count at the end of `path`; None for anything that is not a whole number of zero or more."""
    for name in path:
        if value is None:
            return None
        value = field(value, name)
    if value is None:
        return None
    if type(value) is int:
        return value if value >= 0 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value < 0 or value != value // 1 or value == float("inf"):
        return None
    return int(value)


class Screen:
    """Tells cheaply of most values that no reader can know them: they have none of the fields that shapes begin with.

    What a type itself may compute (properties, `__getattr__`) is asked of the value, by reading it.
    """

    def __init__(self, markers: frozenset[str]) -> None:
        self._markers = markers
        self._inside = ByType(self._fields_of)

    def may_tell(self, value: object) -> bool:
        """False only where none of the markers is a field of the value."""
        if type(value) is dict:
            return not self._markers.isdisjoint(value)
        fields = self._inside[type(value)]
        return fields is None or not self._markers.isdisjoint(fields(value))

    def _fields_of(self, kind: type) -> Callable[[Any], Any] | None:
        """How to list the fields of such a value; None where only reading it tells."""
        if issubclass(kind, Mapping) or any(hasattr(kind, name) for name in self._markers):
            return None
        computed = [getattr(kind, name, None) for name in ("__getattr__", "__getattribute__")]
        written = [one for one in computed if isinstance(one, FunctionType)]
        if all(one.__module__ == "pydantic.main" for one in written):
            return _fields if not written else _fields_and_extra
        return None


def _fields(value: Any) -> Any:  # noqa: ANN401 # any object
    return getattr(value, "__dict__", ())


def _fields_and_extra(value: Any) -> Any:  # noqa: ANN401 # a pydantic model, whose extra fields stand apart
    return {**value.__dict__, **(getattr(value, "__pydantic_extra__", None) or {})}


def first_count(value: object, *paths: tuple[str, ...]) -> int | None:
    """The count at the first of the paths that has one."""
    for path in paths:
        found = count(value, *path)
        if found is not None:
            return found
    return None


def header_count(headers: object, name: str) -> int | None:
    """A count that an HTTP header spells in digits."""
    told = field(headers, name)
    is_count = isinstance(told, str) and told.isascii() and told.isdigit() and len(told) <= COUNT_TEXT_CHARS_MAX
    return int(told) if is_count and isinstance(told, str) else None


def total(*counts: int | None) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [value for value in counts if value is not None]
    return sum(known) if known else None


def text(value: object, name: str) -> str | None:
    """A non-empty string field."""
    found = field(value, name)
    return found if found and isinstance(found, str) else None


def items(value: object, name: str) -> Sequence[object]:
    """A list field; empty where there is none."""
    found = field(value, name)
    return found if isinstance(found, list | tuple) else ()
