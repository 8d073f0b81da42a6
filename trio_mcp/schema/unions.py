"""Unions that msgspec refuses: a value becomes the first member, in declared order, that accepts it.

Owns the cattrs converter, which tries the members and leaves the conversion of each to
msgspec, strictly. Knows nothing of schemas except how alternatives are written.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from trio_mcp.schema.conversion import Conversion, StandIn
from trio_mcp.schema.problems import NoAlternativeError, find_problem, name_annotation

if TYPE_CHECKING:
    from cattrs import Converter


# A longer list of reasons is left out: in nested unions it would grow with every level.
_LONGEST_REASONS = 400


class UnionStandIn(StandIn):
    """Stands for a union; `parts` are the rewritten members, `names` what their author wrote."""

    names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def convert(cls, value: Any, conversion: Conversion) -> Any:
        return union_converter().structure(_Visit(value, conversion), cls)

    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"anyOf": list(parts)}


def stand_in_for_union(members: Sequence[Any], annotations: Sequence[Any]) -> type[UnionStandIn]:
    """A stand-in for the union of `members`, whose rewritten annotations are `annotations`."""
    names = tuple(map(name_annotation, members))
    return type(" | ".join(names), (UnionStandIn,), {"parts": tuple(annotations), "names": names})


class _Visit(Struct, frozen=True):
    """A value and the conversion that it is part of; cattrs passes both on as one."""

    value: Any
    conversion: Conversion


@functools.cache
def union_converter() -> Converter:
    """The converter for unions and their members; made when the first signature needs it."""
    # Imported here because it takes longer than all the rest of a server, and few tools need it.
    import cattrs

    converter = cattrs.Converter()
    converter.register_structure_hook_func(lambda annotation: True, _convert)
    # cattrs looks these up before any predicate, and would coerce: int("3").
    for scalar in (str, bytes, int, float, Path):
        converter.register_structure_hook(scalar, _convert)
    converter.register_structure_hook_func(_is_union, _first_match)
    return converter


def _convert(visit: _Visit, annotation: Any) -> Any:
    return visit.conversion.convert(visit.value, annotation)


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, UnionStandIn)


def _first_match(visit: _Visit, union: type[UnionStandIn]) -> Any:
    converter = union_converter()
    errors: list[Exception] = []
    for member in union.parts:
        try:
            return converter.structure(visit, member)
        except (ValueError, TypeError) as error:
            errors.append(error)
    reasons = []
    for name, member, failure in zip(union.names, union.parts, errors, strict=True):
        problem = find_problem(
            visit.value, functools.partial(visit.conversion.convert, annotation=member), failure
        )
        reasons.append(f"{name}: {problem.describe()}")
    message = f"expected {' or '.join(union.names)}"
    details = "; ".join(reasons)
    raise NoAlternativeError(f"{message} ({details})" if len(details) <= _LONGEST_REASONS else message)
