"""Unions that msgspec refuses: the first member, in declared order, that accepts the value.

Owns the cattrs converter, which decides for unions and hands everything else to
msgspec, strictly. Knows nothing of schemas except how alternatives are written.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from trio_mcp.server.conversion import StandIn, convert
from trio_mcp.server.problems import NoAlternativeError, find_problem, name_form

if TYPE_CHECKING:
    from cattrs import Converter


class UnionStandIn(StandIn):
    """Stands for a union; `parts` are the rewritten members, `names` what their author wrote."""

    names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def structure(cls, value: Any) -> Any:
        return union_converter().structure(value, cls)

    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"anyOf": list(parts)}


def stand_in_for_union(members: Sequence[Any], forms: Sequence[Any]) -> type[UnionStandIn]:
    """A stand-in for the union of `members`, whose rewritten annotations are `forms`."""
    names = tuple(map(name_form, members))
    return type(" | ".join(names), (UnionStandIn,), {"parts": tuple(forms), "names": names})


@functools.cache
def union_converter() -> Converter:
    """The converter for members of unions; made when the first signature needs it."""
    # Imported here because it takes longer than all the rest of a server, and few tools need it.
    import cattrs

    converter = cattrs.Converter()
    converter.register_structure_hook_func(lambda form: True, convert)
    # cattrs looks these up before any predicate, and would coerce: int("3").
    for scalar in (str, bytes, int, float):
        converter.register_structure_hook(scalar, convert)
    converter.register_structure_hook_func(_is_union, _first_match)
    return converter


def _is_union(form: Any) -> bool:
    return isinstance(form, type) and issubclass(form, UnionStandIn)


def _first_match(value: Any, union: type[UnionStandIn]) -> Any:
    converter = union_converter()
    reasons = []
    for name, member in zip(union.names, union.parts, strict=True):
        try:
            return converter.structure(value, member)
        except (ValueError, TypeError) as error:
            problem = find_problem(value, functools.partial(convert, form=member), error)
            reasons.append(f"{name}: {problem.told()}")
    raise NoAlternativeError(f"expected {' or '.join(union.names)} ({'; '.join(reasons)})")
