"""Predicates of the package annotated_types: functions that say whether a value is allowed.

Owns the stand-in for an annotation that has some. Knows nothing of other metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from trio_mcp.schema.conversion import Conversion, StandIn


class PredicateStandIn(StandIn):
    """Stands for an annotation whose values `predicates` accept; `parts` has the annotation."""

    predicates: ClassVar[tuple[Callable[[Any], Any], ...]] = ()

    @classmethod
    def convert(cls, value: Any, conversion: Conversion) -> Any:
        converted = conversion.convert(value, cls.parts[0])
        for predicate in cls.predicates:
            if not predicate(converted):
                raise ValueError(f"not accepted by {_name(predicate)}")
        return converted

    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return parts[0]


def stand_in_for_predicates(form: Any, predicates: Sequence[Callable[[Any], Any]]) -> type[PredicateStandIn]:
    """A stand-in for the rewritten annotation `form`."""
    return type("Predicate", (PredicateStandIn,), {"parts": (form,), "predicates": tuple(predicates)})


def _name(predicate: Any) -> str:
    negated = getattr(predicate, "func", None)  # of `annotated_types.Not`
    if negated is not None:
        return f"not {_name(negated)}"
    return getattr(predicate, "__qualname__", None) or repr(predicate)
