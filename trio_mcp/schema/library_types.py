"""Types of libraries that msgspec does not know, as annotations: their JSON form is that of a simpler one.

Owns the stand-ins for them. Which types there are is in `python_types.py` and `array_types.py`; they are
imported when the first such hint is met.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from trio_mcp.schema.conversion import Conversion, StandIn
from trio_mcp.schema.problems import name_annotation


class LibraryType(msgspec.Struct, frozen=True):
    """How an annotation of `origin` looks in JSON.

    Values are converted to `form` and then given to `build`. `extra` is what its schema says beside that of
    `form`.
    """

    origin: type
    form: Any
    build: Callable[[Any], Any]
    extra: Mapping[str, Any] = {}


class LibraryStandIn(StandIn):
    """Stands for a type of a library; `parts` has the rewritten form."""

    library_type: ClassVar[LibraryType]
    builds: ClassVar[bool] = True

    @classmethod
    def convert(cls, value: Any, conversion: Conversion) -> Any:
        plain = conversion.convert(value, cls.parts[0])
        if not cls.builds:
            return plain
        try:
            return cls.library_type.build(plain)
        except (ArithmeticError, LookupError, TypeError, re.error) as error:
            raise ValueError(f"not a valid {cls.__name__}: {error}") from None

    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {**parts[0], **cls.library_type.extra}


def stand_in_for_library(annotation: Any, found: LibraryType, form: Any, *, builds: bool) -> type[StandIn]:
    """A stand-in for `annotation`; `form` is the rewritten form of what was `found` for it."""
    members = {"library_type": found, "parts": (form,), "builds": builds, "origin": found.origin}
    return type(name_annotation(annotation), (LibraryStandIn,), members)
