"""JSON Schemas (2020-12) of rewritten annotations.

Owns the schemas of types that msgspec does not know, the shape of `$defs`, and the corrections
where msgspec's schema differs from what its decoder accepts. Knows nothing of functions.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trio_mcp.schema.conversion import PATHS, StandIn, to_json_value
from trio_mcp.schema.flaws import find_flaw
from trio_mcp.schema.problems import UnsupportedAnnotationError
from trio_mcp.schema.references import NAMED, PREFIX, VALUES
from trio_mcp.schema.rewriter import AnnotationRewriter

# Marks the place of a stand-in until all schemas are known.
_MARK = "trio_mcp stand-in"
_TYPE_NAMES: Mapping[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


class _DateTime(StandIn):
    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


class _Time(StandIn):
    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "string", "format": "time"}


class _Decimal(StandIn):
    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"type": ["string", "number"], "format": "decimal"}


# For arguments only, since a caller must know what to write. A result may lack the time zone that
# the format demands, and never has a decimal as a number.
ARGUMENT_STAND_INS: Mapping[Any, type[StandIn]] = {
    datetime.datetime: _DateTime,
    datetime.time: _Time,
    decimal.Decimal: _Decimal,
}


def describe_annotations(
    annotations: Sequence[Any], rewriter: AnnotationRewriter
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The schemas of `annotations`, as `rewriter` rewrote them, and the `$defs` that they refer to."""
    extras = [part for stand_in in rewriter.stand_ins for part in stand_in.parts]
    try:
        schemas, definitions = msgspec.json.schema_components(
            (*annotations, *extras), schema_hook=_mark, ref_template=PREFIX + "{name}"
        )
    except TypeError as error:
        raise UnsupportedAnnotationError(str(error)) from None
    except KeyError as error:
        # Before 0.23, msgspec has only one name for both: their module and qualified name.
        raise UnsupportedAnnotationError(f"two different classes are called {error}") from None
    described = iter(schemas[len(annotations) :])
    parts = {stand_in: [next(described) for _ in stand_in.parts] for stand_in in rewriter.stand_ins}
    if rewriter.adapters:
        from trio_mcp.schema.adapters import describe_adapters

        adapted, found = describe_adapters(rewriter.adapters, definitions)
        parts |= {stand_in: [schema] for stand_in, schema in adapted.items()}
        definitions = {**definitions, **found}
    finished = {name: _finish(definition, parts) for name, definition in definitions.items()}
    return [_finish(schema, parts) for schema in schemas[: len(annotations)]], finished


def _mark(annotation: type) -> dict[str, Any]:
    return {"type": "string", "format": "path"} if annotation in PATHS else {_MARK: annotation}


def _finish(schema: Any, parts: Mapping[type[StandIn], list[dict[str, Any]]]) -> Any:
    """A copy of `schema` with stand-ins resolved; it demands no more than the decoder enforces."""
    if isinstance(schema, list | tuple):
        return [_finish(item, parts) for item in schema]
    if not isinstance(schema, dict):
        return schema
    stand_in = schema.get(_MARK)
    if stand_in is not None:
        rest = {key: value for key, value in schema.items() if key != _MARK}
        return _finish(stand_in.describe(parts.get(stand_in, ())), parts) | rest
    finished = {key: _finish_member(key, value, parts) for key, value in schema.items()}
    # The decoder of a set accepts an array with duplicates.
    if finished.get("uniqueItems") is True:
        del finished["uniqueItems"]
    return _with_types(finished)


def _with_types(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with a `type` beside each `enum`, which some providers of models demand."""
    values = schema.get("enum")
    if "type" in schema or not isinstance(values, list):
        return schema
    groups: dict[str, list[Any]] = {}
    for value in values:
        groups.setdefault(_TYPE_NAMES.get(type(value), ""), []).append(value)
    if "" in groups or not groups or (len(groups) > 1 and "anyOf" in schema):
        return schema
    if len(groups) == 1:
        return {"type": next(iter(groups)), **schema}
    choices = [
        {"type": name} if name == "null" else {"type": name, "enum": group} for name, group in groups.items()
    ]
    choices.sort(key=lambda choice: choice["type"] == "null")
    return {key: value for key, value in schema.items() if key != "enum"} | {"anyOf": choices}


def _finish_member(key: str, value: Any, parts: Mapping[type[StandIn], list[dict[str, Any]]]) -> Any:
    if key in NAMED:
        return {name: _finish(schema, parts) for name, schema in value.items()}
    return value if key in VALUES else _finish(value, parts)


def object_schema(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """`schema` itself, not a reference to it, if it is the schema of an object."""
    reference = schema.get("$ref")
    if reference is None:
        return schema if schema.get("type") == "object" else None
    target: dict[str, Any] = definitions[reference.removeprefix(PREFIX)]
    if target.get("type") != "object":
        return None
    return target | {key: value for key, value in schema.items() if key != "$ref"}


def describe_default(default: Any) -> dict[str, Any]:
    """`{"default": ...}`, or nothing for a default that JSON cannot hold."""
    try:
        value = to_json_value(default)
        if find_flaw(value) is not None:
            return {}
        return {"default": msgspec.json.decode(msgspec.json.encode(value))}
    except (TypeError, ValueError, RecursionError):
        return {}
