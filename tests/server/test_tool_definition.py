"""What is refused when a tool is registered, what is warned of, and what is honoured."""

import dataclasses
import datetime
import enum
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import attrs
import msgspec
import pytest

from tests.conftest import Wire
from trio_mcp import Context, Server, ToolDefinitionError


def _name(value):
    return re.sub(r" at 0x\w+|counter=\d+", "", repr(value))[:60]


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int = None  # type: ignore[assignment]  # as many people write it


def property_of(function: Any, name: str = "x") -> dict[str, Any]:
    server = Server("definitions")
    server.add_tool(function, name="tool")
    found: dict[str, Any] = server.tools["tool"].listing.input_schema["properties"][name]
    return found


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (int, "5"),
        (int, object()),
        (int, ...),
        (str, 5),
        (bool, 0),
        (Color, "red"),
        (list[Color], ["red"]),
        (Point, {"x": 1}),
        (datetime.date, "2020-01-01"),
        (Literal["a"], "b"),
        (int, dataclasses.field(default=5)),
        (Any, dataclasses.field(default=5)),
        (Any, attrs.field(default=5)),
        (Any, msgspec.field(default=5)),
    ],
    ids=_name,
)
def test_a_default_that_is_no_value_of_the_type_is_refused(annotation, default):
    def tool(x=default): ...

    tool.__annotations__ = {"x": annotation}
    with pytest.raises(ToolDefinitionError, match=r"tool 'tool', parameter 'x': the default .* is no "):
        property_of(tool)


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (float, 1),
        (float, float("nan")),
        (Sequence[str], ()),
        (list[int], (1, 2)),
        (set[int], {1}),
        (Color, Color.RED),
        (Point, Point(1)),
        (dict[str, Point], {"a": Point(1)}),
        (int | None, None),
        (Annotated[int, msgspec.Meta(ge=1)], 0),
        (object, object()),
        (datetime.date, datetime.date(2020, 1, 1)),
    ],
    ids=_name,
)
def test_a_default_of_the_type_is_accepted(annotation, default):
    def tool(x=default): ...

    tool.__annotations__ = {"x": annotation}
    property_of(tool)


async def test_a_default_of_none_means_that_null_may_be_sent(wire: Wire) -> None:
    server = Server("nulls")

    @server.tool
    def describe(
        x: int = None,  # type: ignore[assignment]  # noqa: RUF013  # as many people write it
        y: Annotated[str, "Why."] = None,  # type: ignore[assignment]  # noqa: RUF013
        z: Point = Point(1),  # noqa: B008  # a default that is no constant
    ) -> str:
        return repr((x, y, z.x))

    properties = server.tools["describe"].listing.input_schema["properties"]
    null = {"type": "null"}
    assert properties["x"] == {"anyOf": [{"type": "integer"}, null], "default": None}
    assert properties["y"] == {"anyOf": [{"type": "string"}, null], "description": "Why.", "default": None}
    assert properties["z"]["properties"]["x"] == {"anyOf": [{"type": "integer"}, null], "default": None}
    async with wire.open(server) as client:
        arguments = {"x": None, "y": None, "z": {"x": None}}
        assert (await client.call_tool("describe", arguments)).data == "(None, None, None)"
        assert (await client.call_tool("describe", {"x": 2})).data == "(2, None, 1)"


def test_a_method_that_is_not_bound_is_refused_with_the_cure():
    server = Server("methods")
    with pytest.raises(ToolDefinitionError, match=r"parameter 'self'.*add_tool\(instance.method\)"):

        class Tools:
            @server.tool
            def tool(self, x: int) -> int:
                return x

    with pytest.raises(ToolDefinitionError, match=r"cannot be a tool.*add_tool\(instance.method\)"):

        class Others:
            @server.tool
            @classmethod
            def tool(cls, x: int) -> int:
                return x

    class Unbound:
        def tool(self, x: int) -> int:
            return x

        @server.tool
        @staticmethod
        async def static(x: int) -> int:
            return x

    with pytest.raises(ToolDefinitionError, match="parameter 'self'"):
        server.add_tool(Unbound.tool)
    server.add_tool(Unbound().tool)
    assert list(server.tools["tool"].listing.input_schema["properties"]) == ["x"]
    assert server.tools["static"].is_async


@pytest.mark.parametrize("name", ["a b", "a.b", "größe", "x" * 65, "x" * 129])
def test_a_name_that_hosts_refuse_is_warned_of_where_it_is_given(name):
    server = Server("names")
    with pytest.warns(UserWarning, match="A-Z, a-z, 0-9, _ and -") as caught:
        server.tool(name=name)(lambda: None)
    assert caught[0].filename == __file__
    assert list(server.tools) == [name]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00", "a\x1b[2J", "a\x9b", "\ud800", 5])
def test_a_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(ToolDefinitionError, match="the name of a tool must"):
        Server("names").tool(name=name)(lambda: None)


def test_a_tool_may_be_given_its_name_first():
    server = Server("names")

    @server.tool("other", title="Other")
    def tool() -> None: ...

    assert server.tools["other"].listing.title == "Other"
    with pytest.raises(ToolDefinitionError, match="one name"):
        server.tool("a", name="b")
    with pytest.raises(ToolDefinitionError, match="it is no function"):
        server.tool(5)  # type: ignore[call-overload]  # no function


def test_an_argument_with_two_leading_underscores_is_refused():
    def tool(__token: int): ...

    with pytest.raises(ToolDefinitionError, match=r"parameter '__token'.*call it 'token'"):
        property_of(tool)


def test_a_context_with_type_parameters_is_refused_with_the_cure():
    def tool(x: int, ctx: "Context[int, str]"): ...

    with pytest.raises(
        ToolDefinitionError, match=r"parameter 'ctx'.*Context has no type parameters.*Context alone"
    ):
        property_of(tool)
    with pytest.raises(ToolDefinitionError, match="Context alone"):
        Context[int, str]


def test_a_field_of_pydantic_is_honoured_as_a_default_and_in_annotated():
    pydantic = pytest.importorskip("pydantic")
    field = pydantic.Field

    def tool(
        x: int = field(5, description="How many.", ge=1, title="X", examples=[2]),
        y: str = field(pattern="^a", max_length=3),
        z: Annotated[list[int], field(default_factory=list, min_length=0)] = field(...),  # noqa: B008  # pydantic's way
        a: Annotated[int, field(7, multiple_of=7)] = 14,
        b=field(None, deprecated=True),  # noqa: B008  # pydantic's way
        c: Annotated[int, field(3)] = field(default=4),
    ): ...

    server = Server("fields")
    server.add_tool(tool)
    schema = server.tools["tool"].listing.input_schema
    assert schema["properties"] == {
        "x": {
            "type": "integer",
            "title": "X",
            "description": "How many.",
            "examples": [2],
            "minimum": 1,
            "default": 5,
        },
        "y": {"type": "string", "pattern": "^a", "maxLength": 3},
        "z": {"type": "array", "items": {"type": "integer"}, "minItems": 0},
        "a": {"type": "integer", "multipleOf": 7, "default": 14},
        "b": {"deprecated": True, "default": None},
        "c": {"type": "integer", "default": 4},
    }
    assert schema["required"] == ["y", "z"]
    given = server.tools["tool"].parameters.convert(b'{"y": "a", "z": [1]}')
    assert given == {"x": 5, "y": "a", "z": [1], "b": None, "c": 4}


def test_what_a_field_of_pydantic_says_that_a_parameter_cannot_be_is_refused_by_name():
    pydantic = pytest.importorskip("pydantic")
    for name, field in {
        "exclude": pydantic.Field(5, exclude=True),
        "frozen": pydantic.Field(5, frozen=True),
        "max_digits": pydantic.Field(5, max_digits=3),
        "serialization_alias": pydantic.Field(5, serialization_alias="y"),
        "validation_alias": pydantic.Field(5, validation_alias=pydantic.AliasPath("y", 0)),
    }.items():

        def tool(x: int = field): ...

        with pytest.raises(ToolDefinitionError, match=rf"tool 'tool', parameter 'x': .*{name}"):
            property_of(tool)
    for bad in (pydantic.Field("5"), pydantic.Field(default_factory=str)):

        def other(x: int = bad): ...

        with pytest.raises(ToolDefinitionError, match="is no int"):
            property_of(other)
