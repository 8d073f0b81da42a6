"""Constraints and descriptions in `Annotated`, as options of `msgspec.Meta`.

Owns the vocabulary: msgspec's own, the attributes that the annotated_types
package made common, and plain strings. Knows nothing of the annotated types.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from trio_mcp.schema.fields import is_field, is_metadata, read_field_options

_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length")
_CONSTRAINTS = (*_BOUNDS, "pattern")
_OPTIONS = (*_CONSTRAINTS, "tz", "title", "description", "examples", "extra_json_schema", "extra")


def read_metadata(metadata: Iterable[Any], *, describing: bool) -> tuple[dict[str, Any], bool]:
    """The options in `metadata`, of which later ones win, and whether msgspec alone would miss some."""
    options: dict[str, Any] = {}
    foreign = False
    for item in metadata:
        found = _read_item(item, describing=describing)
        foreign = foreign or bool(found and not isinstance(item, msgspec.Meta))
        options.update(found)
    return options, foreign


def _read_item(item: Any, *, describing: bool) -> dict[str, Any]:
    if is_field(item):
        return read_field_options(item)
    if isinstance(item, msgspec.Meta):
        names: tuple[str, ...] = _OPTIONS
    elif isinstance(item, type):
        return {}
    else:
        text = item if isinstance(item, str) else getattr(item, "documentation", None)
        if isinstance(text, str):
            return {"description": text} if describing else {}
        names = _BOUNDS
    values = {name: getattr(item, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def split_metadata(metadata: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """The objects that only we read, and those that pydantic reads."""
    ours: list[Any] = []
    others: list[Any] = []
    for item in metadata:
        shared = is_metadata(item) or type(item).__module__.partition(".")[0] == "annotated_types"
        (others if shared else ours).append(item)
    return ours, others


def split_constraints(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that limit values, and those that only describe them."""
    constraints = {name: value for name, value in options.items() if name in _CONSTRAINTS}
    return constraints, {name: value for name, value in options.items() if name not in constraints}
