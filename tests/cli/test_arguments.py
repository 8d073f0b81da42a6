"""key=value: the value that a text becomes, by the schema of its parameter."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp import Tool
from trio_mcp.cli.arguments import read_arguments, suggest
from trio_mcp.cli.schemas import Schema
from trio_mcp.cli.status import CommandError


def tool(required: tuple[str, ...] = (), *, closed: bool = True, **properties: Any) -> Tool:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": list(required)}
    if closed:
        schema["additionalProperties"] = False
    schema["$defs"] = {"Point": {"type": "object", "title": "Point"}, "Loop": {"$ref": "#/$defs/Loop"}}
    return Tool(name="tool", input_schema=schema)


def either(*names: str) -> dict[str, Any]:
    return {"anyOf": [{"type": name} for name in names]}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


TEXT, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "pairs", "value"),
    [
        (TEXT, ["x=5"], "5"),
        (TEXT, ["x="], ""),
        (TEXT, ["x=a=b"], "a=b"),
        (TEXT, ['x="quoted"'], '"quoted"'),
        (INTEGER, ["x=5"], 5),
        (INTEGER, ["x=-5"], -5),
        (INTEGER, ["x=five"], "five"),
        (NUMBER, ["x=1e3"], 1000.0),
        (NUMBER, ["x=NaN"], "NaN"),
        ({"type": "boolean"}, ["x=true"], True),
        ({"$ref": "#/$defs/Point"}, ['x={"y": 1}'], {"y": 1}),
        ({"$ref": "#/$defs/Loop"}, ["x=1"], 1),
        (either("string", "null"), ["x=null"], None),
        (either("string", "null"), ["x=5"], "5"),
        (either("string", "integer"), ["x=5"], 5),
        (either("string", "number"), ["x=5"], 5),
        (either("string", "integer"), ['x="5"'], '"5"'),
        ({"enum": ["1", "2"]}, ["x=1"], "1"),
        ({"enum": [1, 2]}, ["x=1"], 1),
        ({"type": ["string", "integer"]}, ["x=1"], 1),
        ({}, ["x=1"], 1),
        ({}, ["x=one"], "one"),
        (True, ["x=1", "x=2"], [1, 2]),
        (array(TEXT), ["x=1"], ["1"]),
        (array(TEXT), ["x=1", "x=b"], ["1", "b"]),
        (array(TEXT), ['x=["a", "b"]'], ["a", "b"]),
        (array(INTEGER), ["x=1", "x=2"], [1, 2]),
        (array(INTEGER), ["x=[]"], []),
        ({"anyOf": [array(INTEGER), {"type": "null"}]}, ["x=1"], [1]),
        ({"anyOf": [array(INTEGER), {"type": "null"}]}, ["x=null"], None),
    ],
)
def test_a_text_becomes_a_value_of_the_type_in_the_schema(schema: Any, pairs: list[str], value: Any) -> None:
    arguments = read_arguments(tool(x=schema), pairs)
    assert arguments == {"x": value}
    assert type(arguments["x"]) is type(value)


def test_pairs_are_added_to_the_json_arguments() -> None:
    described = tool(x=TEXT, y=INTEGER)
    assert read_arguments(described, ["y=2"], '{"x": "a"}') == {"x": "a", "y": 2}


def test_an_open_schema_accepts_unknown_names() -> None:
    assert read_arguments(tool(closed=False, x=TEXT), ["z=1"]) == {"z": 1}


@pytest.mark.parametrize(
    ("pairs", "json_text", "message"),
    [
        (["word"], None, "'word' is no argument: write key=value"),
        (["=5"], None, "'=5' is no argument"),
        (["nam=x"], None, "'tool' has no parameter 'nam': did you mean 'name'?"),
        (["zzz=x"], None, "'tool' has no parameter 'zzz': it has 'name', 'size'"),
        (["size=1", "size=2"], None, "'size' is given 2 times, but is no list: integer"),
        (["name=a"], None, "'tool' needs size (integer)"),
        (["name=a"], "{'", "--json is not JSON"),
        ([], "[1]", "--json must be a JSON object, not '[1]'"),
        (["name=a"], '{"name": "b"}', "'name' is given both in --json and as name="),
    ],
)
def test_arguments_that_cannot_be_passed_are_named(
    pairs: list[str], json_text: str | None, message: str
) -> None:
    with pytest.raises(CommandError) as caught:
        read_arguments(tool(("size",), name=TEXT, size=INTEGER), pairs, json_text)
    assert message in str(caught.value)


def test_close_matches_are_suggested_or_all_names() -> None:
    assert suggest("ad", ["add", "ask"]) == "did you mean 'add'?"
    assert suggest("xyz", ["add", "ask"]) == "it has 'add', 'ask'"
    assert suggest("xyz", []) == "it has none"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (INTEGER, "integer"),
        ({}, "any"),
        (True, "any"),
        ("nonsense", "any"),
        ({"type": 5}, "any"),
        (array(TEXT), "string[]"),
        ({"type": "array"}, "any[]"),
        (array(either("string", "null")), "(string | null)[]"),
        (either("integer", "null"), "integer | null"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": False}, "false"),
        ({"$ref": "#/$defs/Point"}, "Point"),
        ({"$ref": "#/$defs/None"}, "any"),
        ({"$ref": "https://example.org/schema"}, "any"),
        ({"$ref": 5}, "any"),
        ({"type": "object"}, "object"),
        ({"$ref": "#/$defs/List"}, "[]" * 9),
    ],
)
def test_a_schema_is_described_in_a_few_words(schema: Any, words: str) -> None:
    root = {"$defs": {"Point": {"type": "object", "title": "Point"}, "List": array({"$ref": "#/$defs/List"})}}
    assert Schema.of(schema, root).describe().removeprefix("…") == words


@pytest.mark.parametrize("schema", [{"properties": 5, "required": "x"}, {"required": [1, []]}, {"anyOf": []}])
def test_an_invalid_schema_raises_nothing(schema: Any) -> None:
    odd = Tool(name="tool", input_schema=schema)
    assert read_arguments(odd, ["x=1"]) == {"x": 1}
