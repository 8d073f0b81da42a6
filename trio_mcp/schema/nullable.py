"""Annotations that do not say that None is a value although the default is None: `x: int = None`.

Owns the reading of such annotations. Knows nothing of schemas.
"""

from __future__ import annotations

import typing
from types import UnionType
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar, Union


def with_null(annotation: Any, default: Any) -> Any:
    """`annotation` itself, or the union of it and None if the default is None and it has no None."""
    if default is not None or _accepts_null(annotation):
        return annotation
    if typing.get_origin(annotation) is Annotated:
        inner: Any = Optional[typing.get_args(annotation)[0]]  # noqa: UP045 - known at run time only
        return Annotated[(inner, *annotation.__metadata__)]
    return Optional[annotation]  # noqa: UP045 - known at run time only


def _accepts_null(annotation: Any) -> bool:
    if any(annotation is open_type for open_type in (None, type(None), Any, object)):
        return True
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _accepts_null(args[0])
    if origin in (Union, UnionType):
        return any(map(_accepts_null, args))
    if origin is Literal:
        return None in args
    if isinstance(annotation, NewType):
        return _accepts_null(annotation.__supertype__)
    if isinstance(annotation, TypeVar):
        return annotation.__bound__ is None and not annotation.__constraints__
    value = getattr(annotation, "__value__", None)  # a type alias of Python 3.12
    return value is not None and _accepts_null(value)
