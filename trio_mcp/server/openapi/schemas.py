"""Schemas of an OpenAPI document as JSON Schemas of the dialect 2020-12, which MCP asks for.

Owns what `nullable`, `readOnly`, `writeOnly` and the other words of OpenAPI mean there, and which definitions
a schema needs. Words that are no JSON Schema are left out, because models pay for each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any, Final

from trio_mcp.errors import DefinitionError
from trio_mcp.schema.references import with_definitions
from trio_mcp.schema.schema_check import SchemaCheck
from trio_mcp.server.openapi.document import Document

# Members that hold schemas: one, a list of them, or several by name.
_ONE: Final = frozenset(
    {
        *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
        *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
    }
)
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
_KEPT: Final = frozenset(
    {
        *("title", "description", "default", "enum", "const", "examples", "deprecated", "format"),
        *("multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minContains"),
        *("maxContains", "minProperties", "maxProperties", "dependentRequired"),
        *("contentEncoding", "contentMediaType"),
    }
)
_NOTES: Final = frozenset({"title", "description", "default", "examples", "deprecated"})
_COMBINED: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "const"})
_TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_MANY: Final = 30
"""To put more definitions in the place of references takes long, and most of them refer to each other."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class SchemaTranslator:
    """Translates schemas of one document; what they refer to is collected in `definitions`.

    `outgoing` is for what an API answers: then `writeOnly` properties are left out, and else `readOnly` ones.
    All operations of a document share one translator for each of both, so that a definition is translated,
    and with `check` examined, once.
    """

    def __init__(self, document: Document, *, outgoing: bool, check: bool) -> None:
        self.definitions: dict[str, Any] = {}
        self._checks = check
        self._checked: set[str] = set()
        self._document = document
        self._hidden = "writeOnly" if outgoing else "readOnly"
        self._names: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<SchemaTranslator of {len(self.definitions)} definitions without {self._hidden}>"

    def translate(self, schema: Any) -> Any:
        """A copy of `schema` in JSON Schema; raises DefinitionError for a reference that leads nowhere."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            return {}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            made = {"$ref": f"#/$defs/{self._define(reference)}"}
            if not self._document.is_3_0:  # in 3.0 what stands beside a reference means nothing
                made = {**self._translate_members(schema), **made}
        else:
            made = self._translate_members(schema)
        return _with_null(made) if schema.get("nullable") is True else made

    def complete(self, schema: dict[str, Any], *, dereference: bool) -> dict[str, Any]:
        """A translated schema with the definitions that it refers to, or with those in place of references.

        Raises DefinitionError for what is no JSON Schema.
        """
        made = with_definitions(schema, self.definitions)
        used = made.get("$defs", {})
        if self._checks:
            _check(schema)
            for name in used.keys() - self._checked:
                _check(self.definitions[name])
            self._checked |= used.keys()
        if dereference and 0 < len(used) <= _MANY:
            return with_definitions(schema, self.definitions, dereference=True)
        return made

    def is_hidden(self, schema: Any) -> bool:
        """Whether a property of this schema is left out."""
        if not isinstance(schema, dict):
            return False
        return schema.get(self._hidden) is True or self._document.resolve(schema).get(self._hidden) is True

    def _define(self, reference: str) -> str:
        name = self._names.get(reference)
        if name is None:
            target = self._document.look_up(reference)
            bare = _UNSAFE.sub("_", reference.rpartition("/")[2]) or "schema"
            name = unique_name(bare, self.definitions)
            self._names[reference] = name
            self.definitions[name] = {}  # its place, for references to it from within
            self.definitions[name] = self.translate(target)
        return name

    def _translate_members(self, schema: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _KEPT:
                made[key] = value
            elif key in _ONE:
                made[key] = self.translate(value)
            elif key in _LISTS and isinstance(value, list):
                made[key] = [self.translate(item) for item in value]
            elif key in _NAMED and isinstance(value, dict):
                made[key] = {
                    name: self.translate(item) for name, item in value.items() if not self.is_hidden(item)
                }
            elif key in _SPECIAL:
                _SPECIAL[key](value, made)
        if "example" in schema and "examples" not in made:
            made["examples"] = [schema["example"]]
        self._translate_required(schema, made)
        _translate_limits(schema, made)
        return made

    def _translate_required(self, schema: dict[str, Any], made: dict[str, Any]) -> None:
        required = schema.get("required")
        if not isinstance(required, list):  # a bool in documents that were Swagger once
            return
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        left = [name for name in required if not self.is_hidden(known.get(name))]
        if left:
            made["required"] = left


def _check(schema: Any) -> None:
    if not isinstance(schema, dict):
        return
    try:
        SchemaCheck(schema)
    except ValueError as error:
        raise DefinitionError(str(error)) from None
    except ImportError:  # registration says what to install
        return


def unique_name(name: str, taken: Container[str]) -> str:
    """`name`, or with a number behind it if it is among the `taken` ones."""
    return numbered_name(name, taken) if name in taken else name


def numbered_name(name: str, taken: Container[str]) -> str:
    """`name` with the first number behind it that makes it none of the `taken` ones."""
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _translate_type(value: Any, made: dict[str, Any]) -> None:
    names = value if isinstance(value, list) else [value]
    if all(isinstance(name, str) and name in _TYPES for name in names):
        made["type"] = value


def _translate_pattern(value: Any, made: dict[str, Any]) -> None:
    """Keep a pattern that Python can read; those of JavaScript have words of their own."""
    try:
        re.compile(value)
    except (re.error, TypeError, RecursionError):
        return
    made["pattern"] = value


_SPECIAL: Final[dict[str, Callable[[Any, dict[str, Any]], None]]] = {
    "type": _translate_type,
    "pattern": _translate_pattern,
}


def _translate_limits(schema: dict[str, Any], made: dict[str, Any]) -> None:
    """`minimum` and `maximum`, which OpenAPI 3.0 makes exclusive by a bool."""
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        value, other = schema.get(limit), schema.get(exclusive)
        if other is True:
            if value is not None:
                made[exclusive] = value
            continue
        if value is not None:
            made[limit] = value
        if other is not None and other is not False:
            made[exclusive] = other


def _with_null(made: dict[str, Any]) -> dict[str, Any]:
    """A schema that allows null as well."""
    if not _COMBINED & made.keys() and "type" in made:
        kinds = made["type"] if isinstance(made["type"], list) else [made["type"]]
        nullable = {**made, "type": kinds if "null" in kinds else [*kinds, "null"]}
        if "enum" in made and None not in made["enum"]:
            nullable["enum"] = [*made["enum"], None]
        return nullable
    notes = {key: value for key, value in made.items() if key in _NOTES}
    rest = {key: value for key, value in made.items() if key not in _NOTES}
    return {**notes, "anyOf": [rest, {"type": "null"}]} if rest else made
