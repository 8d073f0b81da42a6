"""Kinds of annotations, and questions that msgspec answers or that are asked before it is: is this a key?

Owns the refusal of types without a JSON form. Changes no annotation.
"""

from __future__ import annotations

import collections.abc
import decimal
import enum
import typing
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Literal, NewType, Union

import msgspec
from msgspec import inspect as msgspec_inspect

from trio_mcp.schema.conversion import PATHS, StandIn
from trio_mcp.schema.problems import UnsupportedAnnotationError, name_annotation

UNIONS = (Union, UnionType)
SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
CONTAINERS = (
    list,
    tuple,
    collections.abc.Collection,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    *SETS,
    *MAPPINGS,
)
SYNONYMS: Mapping[Any, Any] = {
    object: Any,
    typing.LiteralString: str,
    typing.Iterable: list,
    collections.abc.Iterable: list,
}
# The types that msgspec can read from, and write to, the name of a JSON member.
_KEY_TYPES = (
    msgspec_inspect.AnyType,
    msgspec_inspect.StrType,
    msgspec_inspect.IntType,
    msgspec_inspect.FloatType,
    msgspec_inspect.EnumType,
    msgspec_inspect.LiteralType,
    msgspec_inspect.DateTimeType,
    msgspec_inspect.DateType,
    msgspec_inspect.TimeType,
    msgspec_inspect.TimeDeltaType,
    msgspec_inspect.UUIDType,
    msgspec_inspect.DecimalType,
    msgspec_inspect.BytesType,
)


def is_integer(annotation: Any) -> bool:
    """Whether the values of an annotation are integers, or may be among others in a Literal."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Annotated, Final):
        return is_integer(args[0])
    if origin is Literal:
        return any(type(arg) is int for arg in args)
    if isinstance(annotation, NewType):
        return is_integer(annotation.__supertype__)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return any(type(member.value) is int for member in annotation)
    return annotation is int


def takes_floats(annotation: Any) -> bool:
    """Whether a float is a value of an annotation."""
    if typing.get_origin(annotation) is Annotated:
        return takes_floats(typing.get_args(annotation)[0])
    return annotation in (float, decimal.Decimal, Any, object)


def check(annotation: Any) -> Any:
    """`annotation` if msgspec has a JSON form for it; raises UnsupportedAnnotationError otherwise."""
    try:
        info = msgspec_inspect.type_info(annotation)
    except (TypeError, NameError) as error:
        raise UnsupportedAnnotationError(str(error).replace("`", "")) from None
    while isinstance(info, msgspec_inspect.Metadata):
        info = info.type
    unknown = isinstance(info, msgspec_inspect.CustomType) and not (
        info.cls in PATHS or issubclass(info.cls, StandIn)
    )
    if unknown or isinstance(info, msgspec_inspect.ExtType):
        raise UnsupportedAnnotationError(f"{name_annotation(annotation)} has no JSON form")
    return annotation


def check_key(annotation: Any) -> None:
    try:
        info = msgspec_inspect.type_info(annotation)
    except TypeError as error:
        raise UnsupportedAnnotationError(
            f"{name_annotation(annotation)} cannot be a key in JSON: {error}"
        ) from None
    kinds = info.types if isinstance(info, msgspec_inspect.UnionType) else (info,)
    kinds = tuple(k.type if isinstance(k, msgspec_inspect.Metadata) else k for k in kinds)
    if not all(isinstance(kind, _KEY_TYPES) for kind in kinds):
        raise UnsupportedAnnotationError(f"{name_annotation(annotation)} cannot be a key in JSON")


def is_hashable(annotation: Any) -> bool:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in UNIONS or origin is tuple:
        return all(is_hashable(arg) for arg in args)
    if origin is Annotated:
        return is_hashable(args[0])
    cls = origin or annotation
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    return getattr(cls, "__hash__", None) is not None


def union_of(members: Sequence[Any]) -> Any:
    """The union of annotations."""
    return Union[tuple(members)]  # noqa: UP007 - the members are known at run time only


def are_same(rewritten: tuple[Any, ...], args: tuple[Any, ...]) -> bool:
    """Whether nothing was rewritten."""
    return all(new is old for new, old in zip(rewritten, args, strict=True))
