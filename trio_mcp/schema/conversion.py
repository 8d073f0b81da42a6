"""Strict conversion between JSON values and Python values, by msgspec.

Owns the hooks for types that msgspec does not know: paths, subclasses of JSON types, and
stand-ins, which are classes in place of annotations that msgspec refuses. Knows nothing of
signatures or schemas.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence, Set, ValuesView
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar

import msgspec

from trio_mcp.schema.problems import PartError

PATHS: frozenset[type] = frozenset({Path, PurePath, PurePosixPath, PureWindowsPath, type(Path())})


class _AcceptsEverything(type):
    # msgspec checks with isinstance what a hook returns, and a stand-in is converted to another type.
    def __instancecheck__(cls, instance: object) -> bool:
        return True


class StandIn(metaclass=_AcceptsEverything):
    """A class in place of an annotation; msgspec calls a hook of ours to convert to it."""

    __slots__ = ()
    # The annotations that the replaced one is made of; its schema is made of theirs.
    parts: ClassVar[tuple[Any, ...]] = ()
    # The class whose instances are values of the replaced annotation, if it is a class.
    origin: ClassVar[type | None] = None

    @classmethod
    def convert(cls, value: Any, conversion: Conversion) -> Any:
        """The Python value of a JSON value; raises ValueError or TypeError."""
        raise NotImplementedError

    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The schema, from the schemas of `parts`."""
        raise NotImplementedError


class IntegerStandIn(StandIn):
    """Stands for `strict`, an annotation of integers, where a whole float may stand too."""

    strict: ClassVar[Any]

    @classmethod
    def convert(cls, value: Any, conversion: Conversion) -> Any:
        return conversion.convert(conversion.read_integer(value), cls.strict)


class Conversion:
    """One conversion of a JSON value; remembers what each stand-in made of each part.

    A union tries its members one after the other, and each may hold the same
    union: without a memory, the work would double with every level of nesting.
    """

    __slots__ = ("_results", "_whole")

    def __init__(self, whole: Mapping[int, int] | None = None) -> None:
        """`whole` has the exact value of each float that may be taken for an integer, by its id."""
        self._whole = whole or {}
        # The value is kept with its result, so that its id is not given to another.
        self._results: dict[tuple[int, type], tuple[Any, Any]] = {}

    def convert(self, value: Any, annotation: Any) -> Any:
        """`value` (from JSON) as `annotation`, without any coercion; raises ValueError or TypeError."""
        return msgspec.convert(value, annotation, strict=True, str_keys=True, dec_hook=self.convert_part)

    def read_integer(self, value: Any) -> Any:
        """The integer that a whole float stands for; any other value as it is."""
        return self._whole.get(id(value), value) if type(value) is float else value

    def convert_part(self, annotation: type, value: Any) -> Any:
        """msgspec's `dec_hook`, for parts of the value."""
        if not issubclass(annotation, StandIn):
            return _read_path(annotation, value)
        key = (id(value), annotation)
        if key not in self._results:
            try:
                result = annotation.convert(value, self)
            except msgspec.ValidationError as error:
                result = _Failure(PartError(error))
            except (ValueError, TypeError) as error:
                result = _Failure(error)
            self._results[key] = (value, result)
        result = self._results[key][1]
        if isinstance(result, _Failure):
            raise result.error.with_traceback(None)
        return result


class _Failure:
    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _read_path(annotation: Any, value: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError(f"expected path, got {json_name(value)}")
    return annotation(value)


def convert(value: Any, annotation: Any) -> Any:
    """`value` (from JSON) as `annotation`, without any coercion; raises ValueError or TypeError."""
    return msgspec.convert(value, annotation, strict=True, str_keys=True, dec_hook=decode_custom)


def decode_custom(annotation: type, value: Any) -> Any:
    """msgspec's `dec_hook` for a decoder: each call begins a conversion of its own."""
    return Conversion().convert_part(annotation, value)


class UnencodableError(TypeError):
    """JSON has no form for `value`."""

    def __init__(self, value: object) -> None:
        super().__init__(f"{type(value).__name__} has no JSON form")
        self.value = value


def encode_custom(value: Any) -> Any:
    """msgspec's `enc_hook`: the nearest JSON type of a value that msgspec does not know."""
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(type(value), "__pydantic_serializer__"):
        return value.__pydantic_serializer__.to_python(
            value, mode="json", by_alias=True, warnings=False, fallback=encode_custom
        )
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
    from trio_mcp.schema.library_values import plain_value  # most results need none of it

    plain = plain_value(value)
    if plain is NotImplemented:
        raise UnencodableError(value)
    return plain


def to_json_value(value: Any) -> Any:
    """JSON-ready builtins; raises TypeError, ValueError or RecursionError."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=encode_custom)


def json_name(value: Any) -> str:
    """The name that msgspec's messages give to a JSON value's type."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else type(value).__name__
