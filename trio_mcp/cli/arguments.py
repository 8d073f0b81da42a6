"""Turns `key=value` on the command line into the arguments of a tool.

Owns how a text becomes a value of the type that the tool's schema wants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from trio_mcp.cli.schemas import Schema, type_of
from trio_mcp.cli.status import CommandError
from trio_mcp.wire.messages import Tool


def read_arguments(tool: Tool, pairs: Sequence[str], json_text: str | None = None) -> dict[str, Any]:
    """The arguments for `tool`: the members of `json_text`, a JSON object, and `pairs`.

    The value of a text parameter is taken literally; any other value is read as JSON, or
    is text if it is not JSON. A key given several times makes a list. Raises CommandError
    for an argument that the tool does not have, and for one that it needs but is not given.
    """
    schema = Schema.of(tool.input_schema, tool.input_schema)
    arguments = {} if json_text is None else _read_object(json_text)
    given = _read_pairs(pairs)
    twice = sorted(arguments.keys() & given.keys())
    if twice:
        raise CommandError(f"{twice[0]!r} is given both in --json and as {twice[0]}=")
    arguments |= {key: read_value(key, texts, schema) for key, texts in given.items()}
    _check_names(tool, schema, arguments)
    return arguments


def read_value(key: str, texts: Sequence[str], schema: Schema) -> Any:
    """The value of `key`, from all the texts that were given for it."""
    parameter = schema.properties.get(key, Schema({}, schema.root))
    if "array" not in parameter.types:
        if len(texts) > 1 and parameter.types:
            raise CommandError(f"{key!r} is given {len(texts)} times, but is no list: {parameter.describe()}")
        values = [_convert(text, parameter) for text in texts]
        return values if len(texts) > 1 else values[0]
    if len(texts) == 1:
        whole = _convert(texts[0], parameter)
        if type_of(whole) in parameter.types:
            return whole
    return [_convert(text, parameter.items) for text in texts]


def suggest(name: str, known: Sequence[str]) -> str:
    """A hint at what may have been meant by `name`: close matches among `known`, or all of it."""
    close = get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"it has {', '.join(map(repr, known))}" if known else "it has none"


def _convert(text: str, parameter: Schema) -> Any:
    types = parameter.types
    if types == {"string"}:
        return text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    # If text is allowed as well, only a value of another type that the schema names is not text.
    fits = type_of(value) in types or (type_of(value) == "integer" and "number" in types)
    return text if "string" in types and (isinstance(value, str) or not fits) else value


def _read_object(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CommandError(f"--json is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CommandError(f"--json must be a JSON object, not {text!r}")
    return value


def _read_pairs(pairs: Sequence[str]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise CommandError(f"{pair!r} is no argument: write key=value")
        given.setdefault(key, []).append(text)
    return given


def _check_names(tool: Tool, schema: Schema, arguments: Mapping[str, Any]) -> None:
    known = schema.properties
    if schema.is_closed:
        for key in arguments:
            if key not in known:
                raise CommandError(f"{tool.name!r} has no parameter {key!r}: {suggest(key, list(known))}")
    missing = [key for key in known if key in schema.required and key not in arguments]
    if missing:
        needs = ", ".join(f"{key} ({known[key].describe()})" for key in missing)
        raise CommandError(f"{tool.name!r} needs {needs}")
