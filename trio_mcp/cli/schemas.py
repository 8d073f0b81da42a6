"""The JSON Schema of a parameter, as far as a command line needs it.

Owns the following of references and unions, and the words for types. A schema comes from any
server, so nothing here relies on its being valid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

import attrs

MAX_DEPTH: Final = 8
"""Schemas may refer to themselves; nobody reads a type that is nested deeper."""


@attrs.frozen
class Schema:
    """A schema, and the one that its references start from."""

    node: Mapping[str, Any]
    root: Mapping[str, Any]

    @classmethod
    def of(cls, node: Any, root: Mapping[str, Any]) -> Schema:
        """The schema that `node` is or refers to; `true` and anything invalid allow every value."""
        for _ in range(MAX_DEPTH):
            if not isinstance(node, Mapping):
                return cls({}, root)
            if "$ref" not in node:
                return cls(node, root)
            node = _look_up(node["$ref"], root)
        return cls({}, root)

    @property
    def properties(self) -> Mapping[str, Schema]:
        """The parameters of a tool, by name."""
        properties = self.node.get("properties")
        if not isinstance(properties, Mapping):
            return {}
        return {name: Schema.of(node, self.root) for name, node in properties.items()}

    @property
    def required(self) -> frozenset[str]:
        """The names of parameters that must be given."""
        required = self.node.get("required")
        return (
            frozenset(name for name in required if isinstance(name, str))
            if _is_list(required)
            else frozenset()
        )

    @property
    def is_closed(self) -> bool:
        """Whether no other parameters than `properties` may be given."""
        return self.node.get("additionalProperties") is False

    @property
    def items(self) -> Schema:
        """The schema of a list's items."""
        return next(
            (
                Schema.of(choice.node["items"], self.root)
                for choice in self._choices()
                if "items" in choice.node
            ),
            Schema({}, self.root),
        )

    @property
    def types(self) -> frozenset[str]:
        """The JSON types that are allowed, such as "string"; empty if all are."""
        found = [choice._own_types() for choice in self._choices()]
        return frozenset().union(*found) if all(found) else frozenset()

    @property
    def constants(self) -> list[tuple[Any, str]]:
        """The values that are allowed, each with its name; empty if the schema does not list them all."""
        found: list[tuple[Any, str]] = []
        for choice in self._choices():
            values = choice._constants()
            if not values:
                return []
            names = [choice.node.get("title")] if "const" in choice.node else choice.node.get("enumNames")
            if not _is_list(names) or len(names) != len(values):
                names = values
            found += [
                (value, name if isinstance(name, str) else json.dumps(value, ensure_ascii=False))
                for value, name in zip(values, names, strict=True)
            ]
        return found

    def describe(self, depth: int = 0) -> str:
        """The allowed types in a few characters: `integer`, `string[]`, `number | null`."""
        if depth > MAX_DEPTH:
            return "…"
        words: dict[str, None] = {}  # a set in order
        for choice in self._choices():
            for word in choice._words(depth):
                words[word] = None
        return " | ".join(words)

    def _choices(self, depth: int = 0) -> Iterator[Schema]:
        for key in ("anyOf", "oneOf"):
            members = self.node.get(key)
            if _is_list(members) and members and depth < MAX_DEPTH:
                for member in members:
                    yield from Schema.of(member, self.root)._choices(depth + 1)
                return
        yield self

    def _own_types(self) -> frozenset[str]:
        types = self.node.get("type")
        if isinstance(types, str):
            return frozenset({types})
        if _is_list(types):
            return frozenset(name for name in types if isinstance(name, str))
        return frozenset(type_of(value) for value in self._constants())

    def _constants(self) -> list[Any]:
        if "const" in self.node:
            return [self.node["const"]]
        values = self.node.get("enum")
        return list(values) if _is_list(values) else []

    def _words(self, depth: int) -> list[str]:
        constants = self._constants()
        if constants:
            return [json.dumps(value, ensure_ascii=False) for value in constants]
        return [self._word(name, depth) for name in sorted(self._own_types())] or ["any"]

    def _word(self, name: str, depth: int) -> str:
        if name == "array":
            item = Schema.of(self.node.get("items"), self.root).describe(depth + 1)
            return f"({item})[]" if "|" in item else f"{item}[]"
        title = self.node.get("title")
        return title if name == "object" and isinstance(title, str) and title else name


def _look_up(reference: Any, root: Mapping[str, Any]) -> Any:
    """Follow a JSON pointer within the root; None for any other reference."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    node: Any = root
    for part in reference.lstrip("#").split("/")[1:]:
        if not isinstance(node, Mapping):
            return None
        node = node.get(part.replace("~1", "/").replace("~0", "~"))
    return node


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def type_of(value: Any) -> str:
    """The JSON type of a decoded value."""
    # bool comes before int, because it is a subclass of it.
    names = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        type(None): "null",
    }
    return next((name for kind, name in names.items() if isinstance(value, kind)), "object")
