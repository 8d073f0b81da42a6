"""pydantic's `Field`, which many tools have in `Annotated` or as a default, as options of `msgspec.Meta`.

Owns what of it can be honoured; the rest is refused by name, because it would be silently missing.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from trio_mcp.schema.problems import UnsupportedAnnotationError

_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
_TEXTS: Final = ("title", "description", "examples")
# Options without a meaning for a tool, or with the meaning that every parameter has.
_IDLE: Final = ("annotation", "default", "default_factory", "metadata", "repr", "validate_default")
_IDLE_RULES: Final = ("strict", "allow_inf_nan", "fail_fast")


def is_field(value: Any) -> bool:
    """Whether `value` is what pydantic's `Field(...)` makes; does not import pydantic."""
    module = sys.modules.get("pydantic.fields")
    return module is not None and isinstance(value, module.FieldInfo)


def read_field_options(field: Any) -> dict[str, Any]:
    """The options for `msgspec.Meta`; raises UnsupportedAnnotationError, which names what has none."""
    options = {name: value for name in _TEXTS if (value := getattr(field, name)) is not None}
    extra: dict[str, Any] = {}
    if field.deprecated:
        extra["deprecated"] = True
    if isinstance(field.json_schema_extra, dict):
        extra |= field.json_schema_extra
    elif field.json_schema_extra is not None:
        raise _unsupported("json_schema_extra")
    if extra:
        options["extra_json_schema"] = extra
    if getattr(field, "default_factory_takes_validated_data", False):
        raise UnsupportedAnnotationError("a default_factory of Field that takes arguments is not supported")
    blank = type(field)()
    known = (*_IDLE, *_TEXTS, "deprecated", "json_schema_extra")
    for name in type(field).__slots__:
        if (
            not name.startswith("_")
            and name not in known
            and getattr(field, name, None) != getattr(blank, name, None)
        ):
            raise _unsupported(name)
    for item in field.metadata:
        options |= _read_rule(item)
    return options


def _read_rule(item: Any) -> dict[str, Any]:
    found = {name: value for name in _BOUNDS if (value := getattr(item, name, None)) is not None}
    for name, value in getattr(item, "__dict__", {}).items():
        if (
            name not in _BOUNDS
            and value is not None
            and (name not in _IDLE_RULES or (name == "strict" and not value))
        ):
            raise _unsupported(name)
    return found


def _unsupported(name: str) -> UnsupportedAnnotationError:
    return UnsupportedAnnotationError(f"the option {name} of pydantic's Field is not supported; leave it out")
