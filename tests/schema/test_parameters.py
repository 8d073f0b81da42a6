"""The conversion of JSON arguments to keyword arguments: accepted values, refusals, and their messages."""

import dataclasses
import datetime
import decimal
import enum
import pathlib
import subprocess
import sys
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import attrs
import msgspec
import pytest

from trio_mcp.errors import ArgumentError, ToolDefinitionError
from trio_mcp.schema.parameters import read_parameters
from trio_mcp.wire.errors import MCPError


class Context:
    pass


class SpecialContext(Context):
    pass


@dataclasses.dataclass
class Circle:
    radius: float


@dataclasses.dataclass
class Square:
    side: float


@attrs.define
class Counter:
    count: int


@attrs.define
class Converted:
    names: frozenset[str] = attrs.field(converter=frozenset)
    count: int = attrs.field(default=0, validator=attrs.validators.ge(0))


class Tagged(msgspec.Struct, tag="tagged", rename="camel", forbid_unknown_fields=True):
    the_shape: Circle | Square
    the_size: int = 1


class Row(NamedTuple):
    shape: Circle | Square
    weight: int = 1


class Options(TypedDict, total=False):
    shape: Circle | Square
    depth: int


@dataclasses.dataclass
class Node:
    value: int
    children: dict[str, "Node | Leaf"] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Leaf:
    name: str


def convert(annotation: Any, text: bytes) -> Any:
    def tool(value): ...

    tool.__annotations__ = {"value": annotation}
    return read_parameters(tool, Context).convert(b'{"value": ' + text + b"}")["value"]


def refusal(annotation: Any, text: bytes) -> str:
    with pytest.raises(ArgumentError) as caught:
        convert(annotation, text)
    return str(caught.value)


UTC = datetime.UTC


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, b"3", 3),
        (int, b"1180591620717411303424", 2**70),
        (float, b"3", 3.0),
        (bytes, b'"aGk="', b"hi"),
        (set[int], b"[1, 1, 2]", {1, 2}),
        (tuple[int, str], b'[1, "a"]', (1, "a")),
        (pathlib.Path, b'"/tmp/x"', pathlib.Path("/tmp/x")),
        (dict[str, list[pathlib.Path]], b'{"a": ["b"]}', {"a": [pathlib.Path("b")]}),
        (pathlib.Path | None, b"null", None),
        (int | pathlib.Path, b'"3"', pathlib.Path("3")),
        (decimal.Decimal, b"1.50", decimal.Decimal("1.50")),
        (Optional[Counter], b'{"count": 1}', Counter(1)),  # noqa: UP045
        (Circle | Square, b'{"side": 1}', Square(1.0)),
        (Circle | dict[str, float], b'{"radius": 1}', Circle(1.0)),
        (dict[str, float] | Circle, b'{"radius": 1}', {"radius": 1.0}),
        (str | datetime.date, b'"2020-01-01"', "2020-01-01"),
        (datetime.date | str, b'"2020-01-01"', datetime.date(2020, 1, 1)),
        (datetime.date | str, b'"soon"', "soon"),
        (list[int] | set[str], b'["a"]', {"a"}),
        (list[int] | set[str], b"[1]", [1]),
        (dict[str, Circle | Square], b'{"a": {"side": 2}}', {"a": Square(2.0)}),
        (list[Circle | Square] | None, b"null", None),
        (dict[int, datetime.date | str], b'{"1": "2020-01-01"}', {1: datetime.date(2020, 1, 1)}),
        (Converted, b'{"names": ["a"]}', Converted(["a"])),
        (
            Tagged,
            b'{"type": "tagged", "theShape": {"side": 1}}',
            Tagged(Square(1.0)),
        ),
        (Row, b'[{"radius": 1}]', Row(Circle(1.0))),
        (Options, b"{}", {}),
        (Options, b'{"shape": {"side": 1}}', {"shape": Square(1.0)}),
        (
            Node,
            b'{"value": 1, "children": {"a": {"value": 2}, "b": {"name": "x"}}}',
            Node(1, {"a": Node(2), "b": Leaf("x")}),
        ),
        (Any, b'{"a": [1, null]}', {"a": [1, None]}),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_arguments_are_converted_to_their_annotations(annotation, text, expected):
    converted = convert(annotation, text)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "text", "message"),
    [
        (int, b'"3"', "value: expected int, got str"),
        (Row, b'[{"radius": 1}, 2, 3]', "value: expected array of at most length 2, got 3"),
        (int, b"3.5", "value: expected int, got float"),
        (int, b"true", "value: expected int, got bool"),
        (int, b"null", "value: expected int, got null"),
        (str, b"3", "value: expected str, got int"),
        (float, b'"nan"', "value: expected float, got str"),
        (bool, b"1", "value: expected bool, got int"),
        (pathlib.Path, b"3", "value: expected path, got int"),
        (list[pathlib.Path], b'["a", {}]', "value[1]: expected path, got object"),
        (Literal["a"], b'"b"', "value: not an allowed value: 'b'"),
        (list[Counter], b'[{"count": "1"}]', "value[0].count: expected int, got str"),
        (list[Counter], b"[{}]", "value[0]: missing required field 'count'"),
        (
            dict[str, Counter],
            b'{"a": {"count": 1}, "b c": {}}',
            "value['b c']: missing required field 'count'",
        ),
        (dict[str, dict[str, int]], b'{"a": {"b": 1, "c": "x"}}', "value['a']['c']: expected int, got str"),
        (dict[int, int], b'{"x": 1}', "value: key: expected int, got str"),
        (datetime.date, b'"soon"', "value: invalid RFC3339 encoded date"),
        (Annotated[int, msgspec.Meta(ge=1)], b"0", "value: expected int >= 1"),
        (int | str, b"1.5", "value: expected int | str, got float"),
        (
            int | bytes | str,
            b"1.5",
            "value: expected int or bytes or str (int: expected int, got float; "
            "bytes: expected bytes, got float; str: expected str, got float)",
        ),
        (
            dict[str, list[Circle | Square]],
            b'{"a": [{"radius": "1"}]}',
            "value['a'][0]: expected Circle or Square (Circle: radius: expected float, got str; "
            "Square: missing required field 'side')",
        ),
        (
            Node,
            b'{"value": 1, "children": {"a": {"value": "2"}}}',
            "value.children['a']: expected Node or Leaf (Node: value: expected int, got str; "
            "Leaf: missing required field 'name')",
        ),
        (Options, b'{"depth": "1"}', "value.depth: expected int, got str"),
        (Row, b"[]", "value: expected array of at least length 1, got 0"),
        (Converted, b'{"names": [], "count": -1}', "value: 'count' must be >= 0: -1"),
        (Tagged, b'{"type": "x"}', "value.type: invalid value 'x'"),
        (list[Converted], b'[{"names": [1]}]', "value[0].names[0]: expected str, got int"),
        (Tagged, b'{"type": "tagged", "theShape": {"side": 1}, "x": 1}', "value: unexpected field 'x'"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_refused_argument_is_named_by_its_path(annotation, text, message):
    assert refusal(annotation, text) == message


class Level(enum.IntEnum):
    LOW = 1


Limited = Annotated[int, msgspec.Meta(ge=2)]


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, b"3.0", 3),
        (int, b"1e3", 1000),
        (int, b"-0.0", 0),
        (int, b"1e20", 10**20),
        (int, b"12345678901234567.0", 12345678901234567),
        (int, b"1e23", 10**23),
        (int | str, b"3.0", 3),
        (int | None, b"3.0", 3),
        (Limited, b"3.0", 3),
        (Limited | None, b"3.0", 3),
        (list[int], b"[1, 2.0]", [1, 2]),
        (dict[str, int], b'{"a": 2.0}', {"a": 2}),
        (set[int], b"[2.0]", {2}),
        (tuple[int, str], b'[2.0, "a"]', (2, "a")),
        (Counter, b'{"count": 2.0}', Counter(2)),
        (list[Counter | None], b'[null, {"count": 2.0}]', [None, Counter(2)]),
        (Node, b'{"value": 1.0, "children": {"a": {"value": 2.0}}}', Node(1, {"a": Node(2)})),
        (Tagged, b'{"type": "tagged", "theShape": {"side": 1}, "theSize": 2.0}', Tagged(Square(1.0), 2)),
        (Options, b'{"depth": 2.0}', {"depth": 2}),
        (Row, b'[{"radius": 1}, 2.0]', Row(Circle(1.0), 2)),
        (Literal[1, "a"], b"1.0", 1),
        (Level, b"1.0", Level.LOW),
        (int | float, b"3.0", 3.0),
        (list[int | float], b"[3.0]", [3.0]),
        (Any, b"3.0", 3.0),
        (float, b"3.0", 3.0),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_whole_number_with_a_point_or_an_exponent_is_an_integer(annotation, text, expected):
    """JSON Schema, "integer": any number with a zero fractional part."""
    converted = convert(annotation, text)
    assert repr(converted) == repr(expected)
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "text", "message"),
    [
        (int, b"1e-400", "value: expected int, got float"),
        (list[int], b"[1.0, 2.5]", "value[1]: expected int, got float"),
        (list[int], b"[1.0, true]", "value[1]: expected int, got bool"),
        (Limited, b"1.0", "value: expected int >= 2"),
        (dict[str, Counter], b'{"a": {"count": 1.0}, "b": {"count": 1.5}}', "value['b'].count: expected int"),
        (bool, b"1.0", "value: expected bool, got float"),
        (str, b"1.0", "value: expected str, got float"),
        (Level, b"2.0", "value: not an allowed value: 2"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_other_numbers_are_no_integers(annotation, text, message):
    assert refusal(annotation, text).startswith(message)


def test_whole_floats_of_one_argument_leave_the_others_alone():
    def tool(a: int, b: float, c: int | float = 0): ...

    given = read_parameters(tool, Context).convert(b'{"a": 1.0, "b": 2.0, "c": 3.0}')
    assert repr(given) == "{'a': 1, 'b': 2.0, 'c': 3.0}"


def test_every_problem_is_listed():
    def tool(a: int, b: str, c: float = 0.0): ...

    with pytest.raises(ArgumentError) as caught:
        read_parameters(tool, Context).convert(b'{"a": "x", "d": 1, "c": "y"}')
    assert str(caught.value) == (
        "missing required argument 'b'; a: expected int, got str; unexpected argument 'd'; "
        "c: expected float, got str"
    )


def test_a_long_list_of_problems_is_cut():
    def tool(): ...

    many = msgspec.json.encode({f"a{n}": n for n in range(100)})
    with pytest.raises(ArgumentError, match=r"; and 80 more$"):
        read_parameters(tool, Context).convert(many)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (None, "missing required argument 'n'"),
        (b"{}", "missing required argument 'n'"),
        (b"[]", "the arguments must be an object, got array"),
        (b"null", "the arguments must be an object, got null"),
        (b"{", "the arguments are not valid JSON"),
        (b'{"n": NaN}', "the arguments are not valid JSON"),
        (b'{"n": "\\ud800"}', "the arguments are not valid JSON"),
        (b'{"n": 1e999}', "the arguments are not valid JSON"),
        (b'{"n": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"n": ' + b"1" * 5000 + b"}", "the arguments are not valid JSON"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_arguments_that_are_not_a_json_object_are_refused(arguments, message):
    def tool(n: int, other: Any = None): ...

    with pytest.raises(ArgumentError, match=message):
        read_parameters(tool, Context).convert(arguments)


def test_arguments_may_be_raw_json():
    def tool(n: int): ...

    raw = msgspec.json.decode(b'{"n": 1}', type=msgspec.Raw)
    assert read_parameters(tool, Context).convert(raw) == {"n": 1}


def test_arguments_that_are_not_given_are_left_to_the_default():
    def tool(a: int, b: int | None = 5, *, c: list[int] = [], d: object = object()): ...  # noqa: B006

    parameters = read_parameters(tool, Context)
    assert parameters.convert(b'{"a": 1}') == {"a": 1}
    assert parameters.convert(b'{"a": 1, "b": null}') == {"a": 1, "b": None}
    assert parameters.schema == {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 5},
            "c": {"type": "array", "items": {"type": "integer"}, "default": []},
            "d": {},
        },
        "required": ["a"],
        "additionalProperties": False,
    }


def test_defaults_that_a_caller_could_not_give_are_not_shown():
    def tool(
        a: int = None,  # type: ignore[assignment]  # noqa: RUF013
        b: float = float("nan"),
        c: pathlib.Path = pathlib.Path("x"),
        d: tuple[int, ...] = (1, 2),
    ): ...

    properties = read_parameters(tool, Context).schema["properties"]
    assert {name: schema.get("default") for name, schema in properties.items()} == {
        "a": None,
        "b": None,
        "c": "x",
        "d": [1, 2],
    }
    assert properties["a"] == {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
    assert "default" not in properties["b"]


def test_a_function_without_parameters_takes_no_arguments():
    def tool(): ...

    parameters = read_parameters(tool, Context)
    assert parameters.schema == {"type": "object", "properties": {}, "additionalProperties": False}
    assert parameters.convert(None) == {}


def test_descriptions_come_from_the_annotation_then_from_the_docstring():
    def tool(a: Annotated[int, "Annotated."], b: int, c, d: int = 0):
        """Do it.

        Args:
            a: Not this.
            b: From the docstring,
                on two lines.
            c (str): Has no annotation.
        """

    properties = read_parameters(tool, Context).schema["properties"]
    assert properties == {
        "a": {"type": "integer", "description": "Annotated."},
        "b": {"type": "integer", "description": "From the docstring, on two lines."},
        "c": {"description": "Has no annotation."},
        "d": {"type": "integer", "default": 0},
    }


@pytest.mark.parametrize(
    "annotation",
    [
        Context,
        SpecialContext,
        Context | None,
        Optional[Context],  # noqa: UP045
        Annotated[Context, "ours"],
        Annotated[Context | None, "ours"],
        "Context",
        "Context | None",
    ],
)
def test_context_is_found_by_its_type(annotation):
    def tool(n: int, anything): ...

    tool.__annotations__["anything"] = annotation
    parameters = read_parameters(tool, Context)
    assert parameters.context_name == "anything"
    assert list(parameters.schema["properties"]) == ["n"]
    assert parameters.convert(b'{"n": 1}') == {"n": 1}
    with pytest.raises(ArgumentError, match="unexpected argument 'anything'"):
        parameters.convert(b'{"n": 1, "anything": 1}')


def test_context_is_found_by_a_name_that_exists_for_type_checkers_only():
    namespace: dict[str, Any] = {}
    exec("def tool(ctx: 'Context', n: 'int'): ...", namespace)
    assert read_parameters(namespace["tool"], Context).context_name == "ctx"


def test_two_contexts_are_refused():
    def tool(a: Context, b: Context | None): ...

    with pytest.raises(ToolDefinitionError, match="'tool' has several context parameters: a, b"):
        read_parameters(tool, Context)


def test_a_union_of_context_and_data_is_refused():
    def tool(a: Context | int): ...

    with pytest.raises(ToolDefinitionError, match="parameter 'a': Context has no JSON form"):
        read_parameters(tool, Context)


def test_definition_errors_are_type_errors_and_ours():
    assert issubclass(ToolDefinitionError, TypeError)
    assert issubclass(ToolDefinitionError, MCPError)
    assert issubclass(ArgumentError, MCPError)


def test_the_bad_key_among_many_is_named():
    text = msgspec.json.encode({f"k{n}": "x" if n == 777 else n for n in range(1000)})
    assert refusal(dict[str, int], text) == "value['k777']: expected int, got str"


def test_heavy_packages_are_imported_only_when_needed():
    program = """
import sys
from trio_mcp.schema.parameters import read_parameters
from trio_mcp.schema.returns import read_returns
def plain(a: int, b: list[str] | None = None) -> dict[str, int]:
    "Adds: all of it."
def documented(a: int):
    ''':param a: The number.'''
def union(a: bytes | str): ...
both = ["cattrs", "docstring_parser"]
for function, expected in ((plain, []), (documented, both[1:]), (union, both)):
    read_parameters(function, BaseException)
    read_returns(function)
    assert [name for name in both if name in sys.modules] == expected, function
"""
    subprocess.run([sys.executable, "-c", program], check=True)
