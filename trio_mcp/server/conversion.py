"""Strict conversion between JSON values and Python values, by msgspec.

Owns the hooks for what msgspec has no answer for: paths, subclasses of JSON
types, and the stand-ins that take the place of an annotation that it refuses.
Knows nothing of signatures or schemas.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence, Set, ValuesView
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, TypeVar

import msgspec

PATHS: frozenset[type] = frozenset({Path, PurePath, PurePosixPath, PureWindowsPath, type(Path())})

_T = TypeVar("_T")


class _AcceptsEverything(type):
    # msgspec checks what a hook returns with isinstance; a stand-in yields other types.
    def __instancecheck__(cls, instance: object) -> bool:
        return True


class StandIn(metaclass=_AcceptsEverything):
    """A class that msgspec sees in place of an annotation, and asks us to convert to."""

    __slots__ = ()
    # What the rewritten annotation is made of; the schema needs their schemas.
    parts: ClassVar[tuple[Any, ...]] = ()

    @classmethod
    def structure(cls, value: Any) -> Any:
        """The Python value of a JSON value; raises ValueError or TypeError."""
        raise NotImplementedError

    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The schema, from the schemas of `parts`."""
        raise NotImplementedError


class UnencodableError(TypeError):
    """JSON has no form for `value`."""

    def __init__(self, value: object) -> None:
        super().__init__(f"{type(value).__name__} has no JSON form")
        self.value = value


def decode_custom(form: type, value: Any) -> Any:
    """msgspec's `dec_hook`."""
    if issubclass(form, StandIn):
        return form.structure(value)
    if not isinstance(value, str):
        raise TypeError(f"expected path, got {json_name(value)}")
    path: Callable[[str], PurePath] = form
    return path(value)


def encode_custom(value: Any) -> Any:
    """msgspec's `enc_hook`: the nearest JSON type of a value that msgspec does not know."""
    if isinstance(value, PurePath):
        return str(value)
    # msgspec takes exact str, int and float only.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | Set | ValuesView | collections.deque):
        return list(value)
    raise UnencodableError(value)


def to_json_value(value: Any) -> Any:
    """JSON-ready builtins; raises TypeError, ValueError or RecursionError."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=encode_custom)


def convert(value: Any, form: type[_T] | Any) -> _T | Any:
    """`value` (from JSON) as `form`, without any coercion; raises ValueError or TypeError."""
    return msgspec.convert(value, form, strict=True, str_keys=True, dec_hook=decode_custom)


def json_name(value: Any) -> str:
    """The name that msgspec's messages give to a JSON value's type."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else type(value).__name__
