"""Checks JSON values by a JSON Schema that somebody else has written, with the library `jsonschema`.

Owns which dialects there are, and that no reference is ever fetched from a network. Refuses to know what a
schema is for, and how a problem is told. The library is imported when a check is made: hardly any program
needs it, and it takes longer to import than all of trio_mcp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol


class Problem(Protocol):
    """One thing that is wrong with a value: a `jsonschema.ValidationError`."""

    message: str
    json_path: str
    absolute_path: Iterable[str | int]


class SchemaCheck:
    """Checks values by one schema, whose dialect is 2020-12 if it names none.

    With `is_known_good` the schema itself is not checked, which takes longer than to check a value.
    Raises ValueError for what is no JSON Schema of a known dialect, and ImportError without the extra
    `validation`.
    """

    def __init__(self, schema: dict[str, Any], *, is_known_good: bool = False) -> None:
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for
        from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # it has no types

        name = schema.get("$schema", Draft202012Validator.META_SCHEMA["$schema"])
        dialect: Any = validator_for({"$schema": name}, default=None) if isinstance(name, str) else None
        if dialect is None:
            raise ValueError(f"{name!r} is no dialect that jsonschema knows")
        try:
            if not is_known_good:
                dialect.check_schema(schema)
        except SchemaError as error:
            raise ValueError(f"it is no JSON Schema: {error.message}") from None
        except (RecursionError, re.error) as error:
            raise ValueError(f"it is no JSON Schema: {error}") from None
        self._schema = schema
        self._dialect = dialect
        self._registry = REGISTRY
        # With a registry of ours, because the default one fetches references from the network.
        self._validator = dialect(schema, registry=REGISTRY)

    def find_dead_reference(self) -> str | None:
        """A reference that leads out of the schema, or nowhere; None if there is none."""
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import specification_with

        whole = specification_with(self._dialect.META_SCHEMA["$schema"]).create_resource(self._schema)
        base = whole.id() or ""
        pending = [(whole, self._registry.with_resource(base, whole).resolver(base))]
        while pending:
            resource, resolver = pending.pop()
            members = resource.contents if isinstance(resource.contents, dict) else {}
            for reference in (members.get("$ref"), members.get("$dynamicRef")):
                if not isinstance(reference, str):
                    continue
                try:
                    resolver.lookup(reference)
                except Unresolvable:
                    return reference
            for inner in resource.subresources():
                pending.append((inner, resolver.in_subresource(inner)))
        return None

    def iter_problems(self, value: Any) -> Iterator[Problem]:
        """What is wrong with `value`, problem by problem; raises as `find_problem`."""
        from referencing.exceptions import Unresolvable

        try:
            yield from self._validator.iter_errors(value)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except (Unresolvable, re.error) as error:
            raise ValueError(str(error)) from None

    def find_problem(self, value: Any) -> Problem | None:
        """The most telling problem of `value`; None if it fits.

        Raises ValueError if the check comes to no end, or the schema has a reference that leads nowhere.
        """
        from jsonschema.exceptions import best_match

        found: Problem | None = best_match(self.iter_problems(value))
        return found
