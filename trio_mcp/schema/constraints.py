"""Constraints and descriptions in `Annotated`, as options of `msgspec.Meta`.

Owns the vocabulary: msgspec's own, the attributes that the annotated_types
package made common, and plain strings. Knows nothing of the annotated types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from trio_mcp.schema.fields import is_field, is_metadata, read_field_options
from trio_mcp.schema.problems import UnsupportedAnnotationError

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
        text = _text(item)
        if text is not None:
            return {"description": text} if describing else {}
        if _is_common(item, "Timezone") and item.tz in (None, ...):
            return {"tz": item.tz is ...}
        names = _BOUNDS
    values = {name: getattr(item, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _text(item: Any) -> str | None:
    text = item if isinstance(item, str) else getattr(item, "documentation", None)
    return text if isinstance(text, str) else None


def _is_common(item: Any, name: str) -> bool:
    """Whether `item` is an object of the class `name` of annotated_types."""
    return type(item).__name__ == name and type(item).__module__.partition(".")[0] == "annotated_types"


def find_predicates(metadata: Iterable[Any]) -> list[Callable[[Any], Any]]:
    """The functions that say whether a value is allowed."""
    return [item.func for item in metadata if _is_common(item, "Predicate")]


def unpack_groups(metadata: Iterable[Any]) -> tuple[Any, ...]:
    """The metadata with those in place of a group that it stands for, as annotated_types has it."""
    unpacked: list[Any] = []
    for item in metadata:
        is_group = getattr(item, "__is_annotated_types_grouped_metadata__", False) is True
        # Those of the package itself have the bounds as attributes, and pydantic's are its own.
        known = is_metadata(item) or type(item).__module__.partition(".")[0] == "annotated_types"
        unpacked += unpack_groups(item) if is_group and not known else [item]
    return tuple(unpacked)


def check_known(metadata: Iterable[Any]) -> None:
    """Raise UnsupportedAnnotationError for the first object that nobody reads, and so nobody would miss."""
    for item in metadata:
        if not _is_known(item):
            shown = item.__name__ if isinstance(item, type) else f"{item!r:.80}"
            raise UnsupportedAnnotationError(
                f"{shown} in Annotated means nothing here, so that it would have no effect: say it with "
                "msgspec.Meta or pydantic's Field, take it out, or let such objects be ignored by "
                'ServerSettings(unknown_metadata="ignore")'
            )


def _is_known(item: Any) -> bool:
    if item is None or isinstance(item, msgspec.Meta) or _text(item) is not None or is_metadata(item):
        return True
    if isinstance(item, type):
        return False
    if _is_common(item, "Predicate") or _is_common(item, "Unit"):  # a unit limits nothing
        return True
    return bool(_read_item(item, describing=True))


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
