"""Tools whose JSON Schemas are given: kept as they are, checked, and passed to the function."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conftest import Wire
from trio_mcp import ArgumentError, Context, Server, ToolDefinitionError, ToolError, ToolResult, open_client

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA: dict[str, Any] = {
    "$schema": DIALECT,
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "second": {"$ref": "#addressDef"},
        "by": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
        "ages": {"type": "array", "items": {"type": "integer"}},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"by": {"const": "phone"}}, "required": ["by"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
RESULT = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}


def take(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments


async def take_rest(ctx: Context, **arguments: Any) -> list[Any]:
    return [arguments, ctx.protocol_version]


async def test_given_schemas_are_listed_as_they_are(wire: Wire) -> None:
    server = Server("verbatim")
    given = {**SCHEMA, "properties": dict(SCHEMA["properties"])}
    server.add_tool(take, input_schema=given, output_schema={**RESULT, "x-note": [1, None, 1.5]})
    given["properties"].clear()  # a later change is none of the tool
    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        await client.list_tools()
    (tool,) = next(
        message["result"]["tools"]
        for message in recorder.received_messages()
        if "tools" in message.get("result", {})
    )
    assert tool["inputSchema"] == SCHEMA
    assert list(tool["inputSchema"]) == list(SCHEMA)
    assert tool["outputSchema"] == {**RESULT, "x-note": [1, None, 1.5]}


async def test_arguments_reach_the_function_as_json_values_in_one_dict_or_by_name(wire: Wire) -> None:
    server = Server("passing")
    server.add_tool(take, input_schema=SCHEMA)
    server.add_tool(take_rest, input_schema=SCHEMA)
    arguments = {"email": "a@b", "address": {"city": "Rome", "zip": 5}, "ages": [1, 2]}
    async with wire.open(server) as client:
        assert (await client.call_tool("take", arguments)).data == arguments
        result = await client.call_tool("take_rest", arguments)
        assert result.data == [arguments, wire.protocol]


async def test_arguments_that_do_not_fit_are_all_named_and_the_function_is_not_called(wire: Wire) -> None:
    server, called = Server("checking"), []
    server.add_tool(lambda arguments: called.append(arguments), name="take", input_schema=SCHEMA)
    wrong = {"name": 5, "address": {"city": 7}, "ages": [1, "x"], "by": "phone", "email": "", "more": 1}
    async with wire.open(server) as client:
        with pytest.raises(ToolError) as refused:
            await client.call_tool("take", wrong)
        with pytest.raises(ToolError) as empty:
            await client.call_tool("take")
    for words in (
        "name: 5 is not of type 'string'",
        "address.city: 7 is not of type 'string'",
        "ages[1]: 'x' is not of type 'integer'",
        "'phone' is a required property",
        "'more' was unexpected",
    ):
        assert words in str(refused.value)
    assert "'email' is a required property" in str(empty.value)
    assert called == []


async def test_an_answer_is_not_much_longer_than_what_is_wrong_with_a_call() -> None:
    server = Server("long")
    schema = {
        "type": "object",
        "properties": {"all": {"items": {"type": "string"}}, "text": {"type": "null"}},
    }
    server.add_tool(take, input_schema=schema)
    async with open_client(server) as client:
        with pytest.raises(ToolError) as many:
            await client.call_tool("take", {"all": [1] * 5000})
        with pytest.raises(ToolError) as long:
            await client.call_tool("take", {"text": "x" * 100_000})
    assert str(many.value).count("is not of type") == 20
    assert str(many.value).endswith("; and more")
    assert len(str(long.value)) < 500


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"count": "5"}, "count: '5' is not of type 'integer'"),
        ({}, "'count' is a required property"),
        ("text", "expected object, got str"),
        (None, "expected object, got null"),
        ([1], "expected object, got array"),
        (ToolResult(structured_content={"count": None}), "None is not of type 'integer'"),
        (ToolResult(content=["text"]), "needs structured_content"),
    ],
    ids=["type", "required", "text", "none", "list", "structured", "unstructured"],
)
async def test_a_result_that_does_not_fit_the_given_schema_is_an_error(value: Any, words: str) -> None:
    server = Server("results")
    server.add_tool(lambda: value, name="it", output_schema=RESULT)
    async with open_client(server) as client:
        with pytest.raises(ToolError, match=words):
            await client.call_tool("it")


@pytest.mark.parametrize(
    "value",
    [{"count": 5, "more": [1]}, ToolResult(structured_content={"count": 5, "more": [1]})],
    ids=["dict", "result"],
)
async def test_a_result_that_fits_is_structured_content(wire: Wire, value: Any) -> None:
    server = Server("results")
    server.add_tool(lambda: value, name="it", output_schema=RESULT)
    async with wire.open(server) as client:
        assert (await client.call_tool("it")).structured_content == {"count": 5, "more": [1]}


async def test_an_error_result_need_not_fit() -> None:
    server = Server("results")
    failed = ToolResult(content=["no"], structured_content={"reason": "full"}, is_error=True)
    server.add_tool(lambda: failed, name="it", output_schema=RESULT)
    async with open_client(server) as client:
        result = await client.call_tool("it", raise_on_error=False)
    assert result.structured_content == {"reason": "full"}


async def test_without_validation_values_pass_unchecked_but_results_are_objects() -> None:
    server = Server("unchecked")
    server.add_tool(
        take, input_schema=SCHEMA, output_schema={"type": "object", "required": 7}, validate=False
    )
    server.add_tool(lambda: [1], name="list", output_schema=RESULT, validate=False)
    async with open_client(server) as client:
        assert (await client.call_tool("take", {"more": 1})).data == {"more": 1}
        with pytest.raises(ToolError, match="expected object, got array"):
            await client.call_tool("list")


async def test_a_call_by_another_tool_is_checked_by_the_given_schema_as_well() -> None:
    server = Server("child")
    server.add_tool(take, input_schema=SCHEMA)

    @server.tool
    async def outer(ctx: Context, email: Any) -> Any:
        return (await ctx.call_tool("take", {"email": email})).data

    async with open_client(server) as client:
        assert (await client.call_tool("outer", {"email": "a@b"})).data == {"email": "a@b"}
        with pytest.raises(ToolError, match="email: 5 is not of type 'string'"):
            await client.call_tool("outer", {"email": 5})


async def test_an_argument_with_the_name_of_the_context_does_not_take_its_place() -> None:
    server = Server("context")
    server.add_tool(take_rest, input_schema={"type": "object"})
    async with open_client(server) as client:
        with pytest.raises(ToolError, match="unexpected argument 'ctx'"):
            await client.call_tool("take_rest", {"ctx": 1})


def no_arguments() -> None:
    pass


def two(first: dict[str, Any], second: dict[str, Any]) -> None:
    pass


def named(name: str) -> None:
    pass


def beside(first: int, **others: Any) -> None:
    pass


@pytest.mark.parametrize(
    "function", [no_arguments, two, named, beside], ids=lambda function: function.__name__
)
def test_a_function_that_cannot_take_all_arguments_is_refused(function: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="takes all arguments as one dict, or as \\*\\*arguments"):
        Server("x").add_tool(function, input_schema=SCHEMA)


def test_rest_arguments_need_a_given_schema() -> None:
    with pytest.raises(ToolDefinitionError, match="cannot be called by name"):
        Server("x").add_tool(take_rest)


def untyped(arguments: Any) -> None:
    pass


def mapping(arguments: Mapping[str, Any]) -> None:
    pass


def unannotated(arguments):  # type: ignore[no-untyped-def]  # it has no hints on purpose
    pass


@pytest.mark.parametrize(
    "function", [untyped, mapping, unannotated, take], ids=lambda function: function.__name__
)
def test_one_parameter_for_a_dict_may_be_annotated_in_several_ways(function: Any) -> None:
    server = Server("x")
    server.add_tool(function, input_schema=SCHEMA)
    assert server.tools[function.__name__].listing.input_schema == SCHEMA


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, 'requires "type": "object", not None'),
        ({"type": "array"}, "not 'array'"),
        (5, "a schema must be a dict, not 5"),
        ({"type": "object", "default": {1, 2}, "x": object()}, "it is not JSON"),
        ({"type": "object", "properties": 5}, "it is no JSON Schema: 5 is not of type 'object'"),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/no"}}},
            "'#/\\$defs/no' leads nowhere in the schema",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "#no"}}}, "'#no' leads nowhere"),
        ({"type": "object", "$ref": "https://example.com/schema"}, "'https://example.com/schema' leads"),
        ({"type": "object", "allOf": [{"not": {"$dynamicRef": "file:///etc/x"}}]}, "'file:///etc/x' leads"),
        ({"$schema": "https://example.com/mine", "type": "object"}, "is no dialect"),
        ({"$schema": 5, "type": "object"}, "5 is no dialect"),
        ({"$schema": [], "type": "object"}, "is no dialect"),
        (
            {"type": "object", "properties": {"ctx": {}}},
            "'ctx' has the name of the parameter for the context",
        ),
    ],
)
def test_a_schema_that_is_none_is_refused_at_registration(schema: Any, words: str) -> None:
    with pytest.raises(ToolDefinitionError, match=words) as refused:
        Server("x").add_tool(take_rest, input_schema=schema)
    assert str(refused.value).startswith("tool 'take_rest'")


def test_references_to_the_dialect_and_to_ids_of_the_schema_itself_are_found() -> None:
    schema = {
        "$id": "https://example.com/root",
        "type": "object",
        "properties": {"a": {"$ref": "inner"}, "b": {"$ref": "#here"}, "c": {"$ref": DIALECT}},
        "$defs": {"one": {"$id": "inner", "type": "string"}, "two": {"$anchor": "here"}},
    }
    server = Server("x")
    server.add_tool(take, input_schema=schema)
    with pytest.raises(ArgumentError, match="a: 5 is not of type 'string'"):
        server.tools["take"].parameters.convert(b'{"a": 5}')


@pytest.mark.parametrize(
    ("dialect", "problem"),
    [("http://json-schema.org/draft-07/schema#", None), (DIALECT, "a[1]: 5 is not of type 'string'")],
)
def test_the_dialect_of_the_schema_decides_what_its_words_mean(dialect: str, problem: str | None) -> None:
    # Only 2020-12 knows `prefixItems`.
    items = {"prefixItems": [{}, {"type": "string"}]}
    server = Server("x")
    server.add_tool(take, input_schema={"$schema": dialect, "type": "object", "properties": {"a": items}})
    convert = server.tools["take"].parameters.convert
    if problem is None:
        assert convert(b'{"a": [1, 5]}') == {"arguments": {"a": [1, 5]}}
    else:
        with pytest.raises(ArgumentError, match="5 is not of type 'string'"):
            convert(b'{"a": [1, 5]}')


def test_deep_arguments_are_refused_not_a_crash() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    server = Server("x")
    server.add_tool(take, input_schema=schema)
    depth = 900
    text = b'{"a":' * depth + b"{}" + b"}" * depth
    with pytest.raises(ArgumentError, match="nested too deeply"):
        server.tools["take"].parameters.convert(text)


@pytest.mark.parametrize("text", [b"[1]", b"5", b"null", b'{"a"'])
def test_arguments_that_are_no_object_are_refused(text: bytes) -> None:
    server = Server("x")
    server.add_tool(take, input_schema={"type": "object"})
    with pytest.raises(ArgumentError, match=r"must be an object|cannot be read"):
        server.tools["take"].parameters.convert(text)


@pytest.mark.parametrize("part", ["input_schema", "output_schema"])
def test_without_jsonschema_registration_says_what_to_do(monkeypatch: Any, part: str) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    server = Server("x")
    given: Any = {part: {"type": "object"}}
    with pytest.raises(ToolDefinitionError, match=r"install trio-mcp\[validation\], or pass validate=False"):
        server.add_tool(take, **given)
    server.add_tool(take, **given, validate=False)
    assert list(server.tools) == ["take"]
