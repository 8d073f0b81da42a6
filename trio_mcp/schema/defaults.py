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
from trio_mcp.schema.fields import is_field, read_alias, read_field_options, without_alias
from trio_mcp.schema.nullable import with_null
from trio_mcp.schema.problems import UnsupportedAnnotationError
from trio_mcp.schema.records import is_typed_dict
from trio_mcp.schema.rewriter import AnnotationRewriter
from trio_mcp.schema.signatures import Parameter

__all__ = ["fits", "read_field", "with_null"]

# What describes a field of a class, and is no value anywhere.
_FIELDS = (dataclasses.Field, type(attrs.field()), type(msgspec.field()))


def read_field(parameter: Parameter) -> Parameter:
    """The parameter with the `Field` of its default, or of its annotation, applied.

    Raises UnsupportedAnnotationError, which names the option that cannot be honoured.
    """
    field = parameter.default if is_field(parameter.default) else None
    if field is not None:
        annotation: Any = Annotated[(parameter.annotation, field)]
        parameter = replace(parameter, annotation=annotation)
    if typing.get_origin(parameter.annotation) is not Annotated:
        return parameter
    inner, *metadata = typing.get_args(parameter.annotation)
    fields = [item for item in metadata if is_field(item)]
    for alias in filter(None, map(read_alias, reversed(fields))):
        metadata = [without_alias(item) if is_field(item) else item for item in metadata]
        parameter = replace(
            parameter, name=alias, target=parameter.name, annotation=Annotated[(inner, *metadata)]
        )
        break
    if field is None and parameter.required and fields:
        field = fields[0]
    return parameter if field is None else _with_default_of(field, parameter)


def _with_default_of(field: Any, parameter: Parameter) -> Parameter:
    read_field_options(without_alias(field))  # refuses what cannot be honoured
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
        origin = getattr(form, "origin", None)
        if isinstance(origin, type) and isinstance(default, origin):
            return True
        if rewriter.adapters and _accepts(annotation, default):
            return True
    except (UnsupportedAnnotationError, RecursionError):
        return True  # refused elsewhere, with its reason
    try:
        return _agree(convert(to_json_value(default), form), default)
    except (ValueError, TypeError, RecursionError):
        return False


def _accepts(annotation: Any, default: Any) -> bool:
    from trio_mcp.schema.adapters import accepts

    return accepts(annotation, default)


def is_shown(default: Any, sent: Any) -> bool:
    """Whether a default that a caller sends as JSON, and that became `sent`, is the same for the function.

    A model of pydantic may be written without what it is made of, and a secret is not shown at all.
    """
    return not _holds_models(default) or bool(default == sent)


def _holds_models(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return any(map(_holds_models, value.values() if isinstance(value, dict) else value))
    return hasattr(type(value), "__pydantic_serializer__")


def _is_instance(value: Any, annotation: Any) -> bool:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return any(_is_instance(value, member) for member in typing.get_args(annotation))
    if isinstance(annotation, NewType):
        return _is_instance(value, annotation.__supertype__)
    plain = isinstance(annotation, type) and not typing.get_args(annotation)
    return plain and not is_typed_dict(annotation) and isinstance(value, annotation)


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
