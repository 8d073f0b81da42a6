"""References in a JSON Schema: `$ref` to `$defs`, put in place of each other where clients need it.

Owns which definitions a schema keeps. Several hosts drop `$defs`, so that a model does not see what a
reference stands for. Knows nothing of Python types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

PREFIX: Final = "#/$defs/"
# Members of a schema that hold schemas by name, and those that hold values.
NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
VALUES: Final = frozenset({"default", "enum", "const", "examples", "mapping"})

_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
# How many schemas a schema without references may have, and how many times more than with them. Classes
# that each use another one twice would otherwise double it with every class.
_ROOM: Final = 2000
_GROWTH: Final = 4


def with_definitions(
    schema: dict[str, Any], definitions: Mapping[str, Any], *, dereference: bool = False
) -> dict[str, Any]:
    """`schema` with those of `definitions` that it refers to, directly or not, in `$defs`.

    With `dereference` they take the place of the references instead, except for definitions that refer to
    themselves. If the schema would become much larger by it, those that are used more than once stay too.
    """
    used = _reachable(references_in(schema), definitions)
    if dereference and used:
        graph = _Graph.read(schema, {name: definitions[name] for name in used})
        schema = graph.expand(schema)
        definitions = {name: graph.expand(definitions[name]) for name in used}
        used = _reachable(references_in(schema), definitions)
    if not used:
        return schema
    return {**schema, "$defs": {name: definitions[name] for name in definitions if name in used}}


def references_in(schema: Any) -> Iterator[str]:
    """The names of the definitions that `schema` refers to, once for each reference."""
    for part in _parts(schema):
        name = _target(part)
        if name is not None:
            yield name


def _target(schema: Mapping[str, Any]) -> str | None:
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith(PREFIX):
        return reference.removeprefix(PREFIX)
    return None


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema within `schema`, itself included."""
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        elif isinstance(part, dict):
            yield part
            for key, value in part.items():
                if key in NAMED:
                    pending += value.values()
                elif key not in VALUES:
                    pending.append(value)


def _reachable(names: Iterable[str], definitions: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found and name in definitions:
            found.add(name)
            pending += references_in(definitions[name])
    return found


class _Graph(Struct, frozen=True):
    """The definitions of one schema, and which of them stay definitions."""

    definitions: Mapping[str, Any]
    kept: frozenset[str]

    @classmethod
    def read(cls, schema: Any, definitions: Mapping[str, Any]) -> _Graph:
        uses = {name: list(references_in(definition)) for name, definition in definitions.items()}
        kept = {name for name in definitions if name in _reachable(uses[name], definitions)}
        sizes = {name: sum(1 for _ in _parts(definition)) for name, definition in definitions.items()}
        own = sum(1 for _ in _parts(schema))
        total: dict[str, int] = {}

        def measure(name: str) -> int:
            if name not in total:
                total[name] = sizes[name] + sum(measure(n) for n in uses[name] if n not in kept)
            return total[name]

        roots = list(references_in(schema))
        expanded = own + sum(map(measure, (*(n for n in roots if n not in kept), *kept)))
        if expanded > max(_ROOM, _GROWTH * (own + sum(sizes.values()))):
            counts = Counter(roots)
            for inside in uses.values():
                counts.update(inside)
            kept |= {name for name, count in counts.items() if count > 1}
        return cls(definitions, frozenset(kept))

    def expand(self, schema: Any) -> Any:
        """A copy of `schema` in which only the kept definitions are referred to."""
        if isinstance(schema, list):
            return [self.expand(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        expanded = {key: self._expand_member(key, value) for key, value in schema.items()}
        members = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
        if "discriminator" in expanded and any(n not in self.kept for n in references_in(members)):
            del expanded["discriminator"]  # its mapping names definitions that are gone
        name = _target(schema)
        if name is None or name in self.kept or name not in self.definitions:
            return expanded
        del expanded["$ref"]
        return merge_reference(self.expand(self.definitions[name]), expanded)

    def _expand_member(self, key: str, value: Any) -> Any:
        if key in NAMED:
            return {name: self.expand(schema) for name, schema in value.items()}
        return value if key in VALUES else self.expand(value)


def rename_references(schema: Any, names: Mapping[str, str]) -> Any:
    """A copy of `schema` that refers to definitions by their new names."""
    if not names:
        return schema
    if isinstance(schema, list):
        return [rename_references(item, names) for item in schema]
    if isinstance(schema, str) and schema.startswith(PREFIX):  # also in the mapping of a discriminator
        return PREFIX + names.get(schema.removeprefix(PREFIX), schema.removeprefix(PREFIX))
    if isinstance(schema, dict):
        return {key: rename_references(value, names) for key, value in schema.items()}
    return schema


def merge_reference(definition: dict[str, Any], siblings: dict[str, Any]) -> dict[str, Any]:
    """What `definition` and the members beside a reference to it say together."""
    clash = any(
        key in definition and definition[key] != siblings[key] for key in siblings if key not in _NOTES
    )
    return {**siblings, "allOf": [definition]} if clash else {**definition, **siblings}
