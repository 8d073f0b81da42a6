"""The default of a parameter: whether it is a value of its type, and what a pydantic `Field` says.

Owns the reading of `Field`, as a default and in `Annotated`. Knows nothing of tools. pydantic is not
imported: without it there are no such fields.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, NewType, Union

import attrs
import msgspec
from msgspec.structs import replace

from trio_mcp.schema.conversion import convert, to_json_value
from trio_mcp.schema.fields import is_field, read_field_options
from trio_mcp.schema.nullable import with_null
from trio_mcp.schema.problems import UnsupportedAnnotationError
from trio_mcp.schema.rewriter import AnnotationRewriter
from trio_mcp.schema.signatures import Parameter

__all__ = ["fits", "read_field", "with_null"]

# What describes a field of a class, and is no value anywhere.
_FIELDS = (dataclasses.Field, type(attrs.field()), type(msgspec.field()))


def read_field(parameter: Parameter) -> Parameter:
    """The parameter with the `Field` of its default, or of its annotation, applied.

    Raises UnsupportedAnnotationError, which names the option that cannot be honoured.
    """
    if is_field(parameter.default):
        annotation: Any = Annotated[(parameter.annotation, parameter.default)]
        return _with_default_of(parameter.default, replace(parameter, annotation=annotation))
    if parameter.required and typing.get_origin(parameter.annotation) is Annotated:
        for item in parameter.annotation.__metadata__:
            if is_field(item):
                return _with_default_of(item, parameter)
    return parameter


def _with_default_of(field: Any, parameter: Parameter) -> Parameter:
    read_field_options(field)  # refuses what cannot be honoured
    make: Callable[[], Any] = field.default_factory or functools.partial(copy.deepcopy, field.default)
    default = make()
    if default is ... or default is sys.modules["pydantic_core"].PydanticUndefined:
        return replace(parameter, default=inspect.Parameter.empty)
    return replace(parameter, default=default, make_default=make)


def fits(default: Any, annotation: Any) -> bool:
    """Whether a function that expects `annotation` can be given `default`; bounds are not looked at."""
    if isinstance(default, _FIELDS):
        return False
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    if annotation in (Any, object) or _is_instance(default, annotation):
        return True
    try:
        rewriter = AnnotationRewriter()
        form = rewriter.rewrite(annotation)
        rewriter.prepare([form])
    except (UnsupportedAnnotationError, RecursionError):
        return True  # refused elsewhere, with its reason
    try:
        return _agree(convert(to_json_value(default), form), default)
    except (ValueError, TypeError, RecursionError):
        return False


def _is_instance(value: Any, annotation: Any) -> bool:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return any(_is_instance(value, member) for member in typing.get_args(annotation))
    if isinstance(annotation, NewType):
        return _is_instance(value, annotation.__supertype__)
    plain = isinstance(annotation, type) and not typing.get_args(annotation)
    return plain and not typing.is_typeddict(annotation) and isinstance(value, annotation)


def _agree(converted: Any, default: Any) -> bool:
    """Whether `default` is what a call with its JSON form would pass, or near enough: a tuple for a list."""
    if converted == default:
        return True
    if isinstance(converted, Mapping) and isinstance(default, Mapping):
        return len(converted) == len(default) and all(map(_agree, converted.values(), default.values()))
    if isinstance(converted, (str, bytes)) or isinstance(default, (str, bytes)):
        return False
    if isinstance(converted, Collection) and isinstance(default, Collection):
        return not isinstance(default, Mapping) and all(map(_agree, converted, default))
    return isinstance(default, type(converted))
