"""What pydantic has for hints: `Field` and other metadata, and which of it `msgspec.Meta` can say.

Owns what of `Field` can be honoured by us; for the rest pydantic is asked (`adapters.py`), and what has no
meaning for an argument is refused by name. pydantic is not imported: without it there are no such objects.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
import typing
from typing import Any, Final

from trio_mcp.schema.problems import UnsupportedAnnotationError

_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
_TEXTS: Final = ("title", "description", "examples")
# Options without a meaning for a tool, or with the meaning that every parameter has.
_IDLE: Final = (
    "alias_priority",
    "annotation",
    "default",
    "default_factory",
    "metadata",
    "repr",
    "validate_default",
)
_IDLE_RULES: Final = ("allow_inf_nan", "fail_fast")  # JSON has neither number, and all problems are named
_ADAPTED: Final = ("discriminator",)
_ALIASES: Final = ("alias", "validation_alias", "serialization_alias", "alias_priority")
_HOOKS: Final = ("__get_pydantic_core_schema__", "__get_pydantic_json_schema__")


def is_field(value: Any) -> bool:
    """Whether `value` is what pydantic's `Field(...)` makes; does not import pydantic."""
    module = sys.modules.get("pydantic.fields")
    return module is not None and isinstance(value, module.FieldInfo)


def is_model(annotation: Any) -> bool:
    """Whether `annotation` is a model or a dataclass of pydantic, or a generic one with its arguments.

    A dataclass of Python's with `Field` objects as defaults counts as one: only pydantic reads them.
    """
    cls = typing.get_origin(annotation) or annotation
    if not isinstance(cls, type):
        return False
    if hasattr(cls, "__pydantic_validator__"):
        return True
    return dataclasses.is_dataclass(cls) and any(is_field(f.default) for f in dataclasses.fields(cls))


def has_hooks(value: Any) -> bool:
    """Whether a type or a metadata object says itself how pydantic reads it."""
    return any(hasattr(value, hook) for hook in _HOOKS)


def is_metadata(item: Any) -> bool:
    """Whether an object in `Annotated` speaks to pydantic, and to nobody else."""
    if has_hooks(item):
        return True
    cls = item if isinstance(item, type) else type(item)
    return (cls.__module__ or "").partition(".")[0] in ("pydantic", "pydantic_core")


def needs_pydantic(item: Any) -> bool:
    """Whether an object in `Annotated` says more than `msgspec.Meta` can, so that pydantic has to read it."""
    if item is None or not is_metadata(item):
        return False
    if is_field(item):
        return (
            any(getattr(item, name) is not None for name in _ADAPTED)
            or callable(item.json_schema_extra)
            or not all(map(_is_simple, item.metadata))
        )
    return not _is_simple(item)


def _is_simple(item: Any) -> bool:
    """Whether a rule has nothing but bounds, or says what is so in any case."""
    if not is_metadata(item):
        return any(getattr(item, name, None) is not None for name in _BOUNDS)
    if isinstance(item, type) or has_hooks(item):
        return False
    for name, value in getattr(item, "__dict__", {"": item}).items():
        if value is None or name in _BOUNDS or name in _IDLE_RULES or (name == "strict" and value):
            continue
        return False
    return not isinstance(getattr(item, "pattern", None), re.Pattern)


def read_alias(field: Any) -> str | None:
    """The name that `Field(alias=...)` gives a parameter; raises UnsupportedAnnotationError for several."""
    alias = field.alias if field.validation_alias is None else field.validation_alias
    if alias is None:
        return None
    if not isinstance(alias, str):
        raise _unsupported("validation_alias", "is one text for a parameter")
    if field.serialization_alias not in (None, alias, field.alias):
        raise _unsupported("serialization_alias")
    return alias


def without_alias(field: Any) -> Any:
    """A copy of a Field that says nothing of names."""
    plain = copy.copy(field)
    for name in _ALIASES:
        setattr(plain, name, None)
    return plain


def read_field_options(field: Any) -> dict[str, Any]:
    """The options for `msgspec.Meta`; raises UnsupportedAnnotationError, which names what has no meaning.

    Rules that pydantic has to apply are not among them: see `needs_pydantic`.
    """
    options = {name: value for name in _TEXTS if (value := getattr(field, name)) is not None}
    extra: dict[str, Any] = {}
    if field.deprecated:
        extra["deprecated"] = True
    if isinstance(field.json_schema_extra, dict):
        extra |= field.json_schema_extra
    if extra:
        options["extra_json_schema"] = extra
    if getattr(field, "default_factory_takes_validated_data", False):
        raise UnsupportedAnnotationError("a default_factory of Field that takes arguments is not supported")
    blank = type(field)()
    known = (*_IDLE, *_TEXTS, *_ADAPTED, "deprecated", "json_schema_extra")
    for name in type(field).__slots__:
        if (
            not name.startswith("_")
            and name not in known
            and getattr(field, name, None) != getattr(blank, name, None)
        ):
            raise _unsupported(name)
    for item in field.metadata:
        options |= {name: value for name in _BOUNDS if (value := getattr(item, name, None)) is not None}
    return options


def _unsupported(name: str, why: str = "is not supported here") -> UnsupportedAnnotationError:
    return UnsupportedAnnotationError(f"the option {name} of pydantic's Field {why}; leave it out")
