"""Objects in `Annotated`: what is honoured, and that nothing is dropped in silence."""

import dataclasses
import datetime
from typing import Annotated, Any

import annotated_types
import msgspec
import pydantic
import pytest
import typing_extensions

from trio_mcp import Server, ServerSettings
from trio_mcp.errors import ArgumentError, DefinitionError, ReturnError, ToolDefinitionError
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.returns import read_returns


class Context:
    pass


class Marker:
    def __repr__(self) -> str:
        return "Marker()"


@dataclasses.dataclass
class Holder:
    inside: list[Annotated[int, Marker()]]


@dataclasses.dataclass
class Described:
    count: int = pydantic.Field(3, ge=1, description="How many.")


def parameters_for(annotation: Any) -> Parameters:
    def tool(value): ...

    tool.__annotations__ = {"value": annotation}
    return read_parameters(tool, Context, dereference=True)


def convert(annotation: Any, text: bytes) -> Any:
    return parameters_for(annotation).convert(b'{"value": ' + text + b"}")["value"]


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (Annotated[int, Marker()], "Marker() in"),
        (Annotated[int, Marker], "Marker in"),
        (Annotated[int, annotated_types.Gt], "Gt in"),
        (Annotated[int, 5], "5 in"),
        (Annotated[int, lambda value: value], "<function <lambda>"),
        (list[Annotated[int, Marker()]] | None, "Marker() in"),
        (dict[Annotated[str, Marker()], int], "Marker() in"),
        (Holder, "field 'inside' of Holder: Marker() in"),
        (
            Annotated[datetime.datetime, annotated_types.Timezone("Europe/Paris")],
            "Timezone(tz='Europe/Paris') in",
        ),
    ],
)
def test_an_object_that_nobody_reads_is_refused(annotation, shown):
    with pytest.raises(ToolDefinitionError) as caught:
        parameters_for(annotation)
    message = str(caught.value)
    assert message.startswith(f"tool 'tool', parameter 'value': {shown}")
    assert 'unknown_metadata="ignore"' in message

    def tool(): ...

    tool.__annotations__ = {"return": annotation}
    with pytest.raises(ToolDefinitionError, match="return annotation: "):
        read_returns(tool)


async def test_a_setting_lets_unknown_objects_be_ignored() -> None:
    def tool(value: Annotated[int, Marker()]) -> Annotated[str, Marker()]: ...

    def page(value: Annotated[str, Marker()]) -> str: ...

    strict, lenient = Server("a"), Server("b", settings=ServerSettings(unknown_metadata="ignore"))
    for register in (
        lambda s: s.add_tool(tool),
        lambda s: s.prompt(page),
        lambda s: s.resource("x://{value}")(page),
    ):
        with pytest.raises(DefinitionError, match="Marker\\(\\) in Annotated means nothing here"):
            register(strict)
        register(lenient)
    assert lenient.tools["tool"].listing.input_schema["properties"] == {"value": {"type": "integer"}}
    with pytest.raises(ValueError, match="unknown_metadata"):
        ServerSettings(unknown_metadata="warn")


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Annotated[int, None], {"type": "integer"}),
        (Annotated[int, "How many."], {"type": "integer", "description": "How many."}),
        (Annotated[int, typing_extensions.Doc("How many.")], {"type": "integer", "description": "How many."}),
        (Annotated[int, annotated_types.Unit("m")], {"type": "integer"}),
        (
            Annotated[int, annotated_types.Interval(ge=1, lt=9)],
            {"type": "integer", "minimum": 1, "exclusiveMaximum": 9},
        ),
        (
            Annotated[list[int], annotated_types.Len(1, 2)],
            {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        ),
        (Annotated[str, msgspec.Meta(pattern="^a")], {"type": "string", "pattern": "^a"}),
        (annotated_types.LowerCase[str], {"type": "string"}),
        (pydantic.conint(strict=True, gt=0), {"type": "integer", "exclusiveMinimum": 0}),
        (pydantic.constr(min_length=1), {"type": "string", "minLength": 1}),
    ],
)
def test_what_is_honoured_is_no_unknown_object(annotation, schema):
    assert parameters_for(annotation).schema["properties"]["value"] == schema


class Percent(annotated_types.GroupedMetadata):
    def __iter__(self):
        yield annotated_types.Ge(0)
        yield annotated_types.Le(100)
        yield "A part."


def test_a_group_stands_for_what_is_in_it():
    schema = parameters_for(list[Annotated[int, Percent()]]).schema["properties"]["value"]["items"]
    assert schema == {"type": "integer", "minimum": 0, "maximum": 100, "description": "A part."}
    with pytest.raises(ArgumentError, match="value: expected int <= 100"):
        convert(Annotated[int, Percent()], b"101")


def test_a_predicate_is_asked_for_each_value():
    lower = Annotated[str, annotated_types.Predicate(str.islower), "A word."]
    assert convert(list[lower], b'["a"]') == ["a"]
    assert parameters_for(lower).schema["properties"]["value"]["description"] == "A word."
    with pytest.raises(ArgumentError, match=r"value\[1\]: not accepted by str.islower"):
        convert(list[lower], b'["a", "B"]')
    with pytest.raises(ArgumentError, match=r"value: not accepted by not str\.islower"):
        convert(Annotated[str, annotated_types.Predicate(annotated_types.Not(str.islower))], b'"a"')

    def tool() -> lower: ...

    with pytest.raises(ReturnError, match=r"not accepted by str\.islower"):
        read_returns(tool).to_builtins("B")


def test_a_time_zone_is_demanded_or_forbidden():
    aware = Annotated[datetime.datetime, annotated_types.Timezone(...)]
    assert convert(aware, b'"2020-01-01T00:00:00Z"').tzinfo is not None
    with pytest.raises(ArgumentError, match="value: "):
        convert(aware, b'"2020-01-01T00:00:00"')
    with pytest.raises(ArgumentError, match="value: "):
        convert(Annotated[datetime.datetime, annotated_types.Timezone(None)], b'"2020-01-01T00:00:00Z"')


def test_the_metadata_of_a_key_counts():
    keys = dict[Annotated[str, pydantic.Field(max_length=2)], int]
    assert convert(keys, b'{"ab": 1}') == {"ab": 1}
    with pytest.raises(ArgumentError, match="value: key: expected str of length <= 2"):
        convert(keys, b'{"abc": 1}')


def test_fields_that_are_the_defaults_of_a_dataclass_are_honoured():
    assert convert(Described, b"{}") == Described(3)
    assert parameters_for(Described).schema["properties"]["value"]["properties"]["count"] == {
        "default": 3,
        "description": "How many.",
        "minimum": 1,
        "title": "Count",
        "type": "integer",
    }
    with pytest.raises(ArgumentError, match=r"value\.count: input should be greater than or equal to 1"):
        convert(Described, b'{"count": 0}')
