"""The conversion of returned values to JSON: schemas, wrapping, and values that do not match."""

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import types
import typing
import uuid
from typing import Annotated, Any, NamedTuple, Optional, TypedDict

import attrs
import msgspec
import pytest
from jsonschema import Draft202012Validator

from trio_mcp.errors import ReturnError, ToolDefinitionError
from trio_mcp.schema.returns import Returns, read_returns


class Content:
    pass


@attrs.define
class Picture(Content):
    data: bytes


@dataclasses.dataclass
class Circle:
    radius: float


@dataclasses.dataclass
class Square:
    side: float


@attrs.define
class Item:
    count: int
    _secret: str = "hidden"


@attrs.define
class Locked:
    _key: str
    count: int = 0


@dataclasses.dataclass
class Report:
    items: list[Item]
    values: list[float] = dataclasses.field(default_factory=list)


class Camel(msgspec.Struct, rename="camel", omit_defaults=True):
    first_name: str
    last_name: str = ""


class Movie(TypedDict, total=False):
    title: str


class Pair(NamedTuple):
    left: int
    right: int


@dataclasses.dataclass
class Node:
    value: int
    next: Optional["Node"] = None


@dataclasses.dataclass
class Group:
    members: list["Group | Circle"]
    place: pathlib.Path


class Color(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


def returns_of(annotation: Any) -> Returns:
    def tool(): ...

    tool.__annotations__ = {"return": annotation}
    returns = read_returns(tool, (Content,))
    if returns.schema is not None:
        Draft202012Validator.check_schema(returns.schema)
        assert returns.schema["type"] == "object"
    return returns


def unannotated() -> Returns:
    def tool(): ...

    return read_returns(tool)


INTEGER = {"type": "integer"}
PATH = {"type": "string", "format": "path"}
CIRCLE, GROUP, NODE = ({"$ref": f"#/$defs/{name}"} for name in ("Circle", "Group", "Node"))


@pytest.mark.parametrize(
    "annotation",
    [
        None,
        str,
        Any,
        object,
        typing.NoReturn,
        Annotated[str, "text"],
        Content,
        Picture,
        list[Content],
        list[Picture | str],
        tuple[Picture, ...],
        collections.abc.Sequence[Content],
        Picture | None,
        str | Picture,
        Annotated[list[Picture], "pictures"],
        "str",
        "list[Picture]",
    ],
)
def test_results_without_a_schema(annotation):
    returns = returns_of(annotation)
    assert returns.schema is None
    assert not returns.wrapped


def test_a_result_without_an_annotation_has_no_schema():
    assert unannotated().schema is None


@pytest.mark.parametrize(
    ("annotation", "properties"),
    [
        (Circle, {"radius": {"type": "number"}}),
        (Camel, {"firstName": {"type": "string"}, "lastName": {"type": "string", "default": ""}}),
        (Movie, {"title": {"type": "string"}}),
        (Item, {"count": INTEGER}),
        (Group, {"members": {"type": "array", "items": {"anyOf": [GROUP, CIRCLE]}}, "place": PATH}),
        (Node, {"value": INTEGER, "next": {"anyOf": [NODE, {"type": "null"}], "default": None}}),
    ],
)
def test_objects_are_not_wrapped(annotation, properties):
    returns = returns_of(annotation)
    assert not returns.wrapped
    assert returns.schema["title"] == annotation.__name__
    assert returns.schema["properties"] == properties


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (dict, {"type": "object"}),
        (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
        (collections.abc.Mapping[str, int], {"type": "object", "additionalProperties": INTEGER}),
        (
            Annotated[dict[str, int], "All."],
            {"type": "object", "additionalProperties": INTEGER, "description": "All."},
        ),
    ],
)
def test_mappings_are_not_wrapped(annotation, schema):
    returns = returns_of(annotation)
    assert not returns.wrapped
    assert returns.schema == schema


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (int, INTEGER),
        (bool, {"type": "boolean"}),
        (list[int], {"type": "array", "items": INTEGER}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (datetime.datetime, {"type": "string"}),
        (decimal.Decimal, {"type": "string", "format": "decimal"}),
        (pathlib.Path, {"type": "string", "format": "path"}),
        (Color, {"$ref": "#/$defs/Color"}),
        (Pair, {"$ref": "#/$defs/Pair"}),
        (Circle | None, {"anyOf": [{"$ref": "#/$defs/Circle"}, {"type": "null"}]}),
        (Circle | Square, {"anyOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Square"}]}),
    ],
)
def test_other_types_are_wrapped(annotation, schema):
    returns = returns_of(annotation)
    assert returns.wrapped
    definitions = returns.schema.pop("$defs", {})
    assert returns.schema == {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    assert set(definitions) <= {"Color", "Pair", "Circle", "Square"}


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (complex, "complex has no JSON form"),
        (list[Content | complex], None),
        (dict[str, type], "type has no JSON form"),
        (collections.abc.AsyncIterator[int], "AsyncIterator"),
        ("Missing", "'Missing' cannot be resolved"),
    ],
)
def test_a_result_without_a_json_form_is_refused(annotation, reason):
    if reason is None:
        assert returns_of(annotation).schema is None
        return
    with pytest.raises(ToolDefinitionError) as caught:
        returns_of(annotation)
    assert str(caught.value).startswith("tool 'tool', return annotation: ")
    assert reason in str(caught.value)


A, B = pathlib.Path("a"), pathlib.Path("b")


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3),
        (str, "a", "a"),
        (str, Text("a"), "a"),
        (None, None, None),
        (bytes, b"hi", "aGk="),
        (pathlib.Path, pathlib.Path("x"), "x"),
        (datetime.date, datetime.date(2020, 1, 1), "2020-01-01"),
        (uuid.UUID, uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (set[int], {1}, [1]),
        (Color, Color.RED, "red"),
        (Circle, Circle(1.0), {"radius": 1.0}),
        (Circle, {"radius": 1}, {"radius": 1}),
        (Camel, Camel("A"), {"firstName": "A"}),
        (Item, Item(1, "s"), {"count": 1}),
        (Locked, Locked("k", 1), {"count": 1}),
        (Movie, {"title": "T"}, {"title": "T"}),
        (list[Circle | Square], [Square(1.0), Circle(2.0)], [{"side": 1.0}, {"radius": 2.0}]),
        (Group, Group([Group([], B)], A), {"members": [{"members": [], "place": "b"}], "place": "a"}),
        (Node, Node(1, Node(2)), {"value": 1, "next": {"value": 2, "next": None}}),
        (dict[datetime.date, int], {datetime.date(2020, 1, 1): 1}, {"2020-01-01": 1}),
        (dict[str, int], types.MappingProxyType({"a": 1}), {"a": 1}),
        (list[int], collections.deque([1]), [1]),
        (list[int], range(2), [0, 1]),
        (Any, {"a": Circle(1.0), "b": pathlib.Path("x")}, {"a": {"radius": 1.0}, "b": "x"}),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_result_becomes_builtins(annotation, value, expected):
    returns = returns_of(annotation)
    structured = returns.to_builtins(value)
    assert structured == expected
    assert type(structured) is type(expected)
    if returns.schema is not None:
        whole = {"result": structured} if returns.wrapped else structured
        Draft202012Validator(returns.schema).validate(whole)


MISMATCH = "returned value does not match its annotation: "


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "3", MISMATCH + "expected int, got str"),
        (int, None, MISMATCH + "expected int, got null"),
        (str, 3, MISMATCH + "expected str, got int"),
        (None, 3, MISMATCH + "expected null, got int"),
        (Report, Report([Item("1")]), MISMATCH + "items[0].count: expected int, got str"),
        (Circle, Square(1.0), MISMATCH + "missing required field 'radius'"),
        (dict[str, int], {"a": 1, "b": "x"}, MISMATCH + "['b']: expected int, got str"),
        (
            list[Circle | Square],
            [Circle(1.0), {"side": "x"}],
            MISMATCH + "[1]: expected Circle or Square (Circle: missing required field 'radius'; "
            "Square: side: expected float, got str)",
        ),
        (Report, Report([], [0.0, 1.0, 2.0, float("nan")]), "result.values[3]: nan is not JSON"),
        (Any, {"a": [None, float("inf")]}, "result.a[1]: inf is not JSON"),
        (Any, {"a b": float("-inf")}, "result['a b']: -inf is not JSON"),
        (float, float("nan"), "result: nan is not JSON"),
        (str, "\ud800", "result: a lone surrogate is not JSON"),
        (Any, {"a": ["ok", "\udfff"]}, "result.a[1]: a lone surrogate is not JSON"),
        (Any, {"a": {"\ud800": 1}}, "result.a: a lone surrogate in the key '\\ud800' is not JSON"),
        (Any, {"a": [1, object()]}, "result.a[1]: object has no JSON form"),
        (Any, [Circle(1j)], "result[0].radius: complex has no JSON form"),
        (Any, {None: 1}, "result: Only dicts with str-like or number-like keys are supported"),
        (Any, (n for n in range(3)), "result: generator has no JSON form"),
        (Any, 10**5000, "result: "),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_bad_results_name_the_path(annotation, value, message):
    with pytest.raises(ReturnError) as caught:
        returns_of(annotation).to_builtins(value)
    assert str(caught.value).startswith(message)


def test_null_is_not_mistaken_for_a_bad_number():
    value = {"a": None, "b": "null", "c": [1.0, None]}
    assert unannotated().to_builtins(value) == value


def test_results_that_contain_themselves_are_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ReturnError, match="contains itself"):
        unannotated().to_builtins(endless)


def test_checking_runs_no_code_of_rewritten_classes():
    made = []

    @dataclasses.dataclass
    class Noisy:
        shape: Circle | Square

        def __post_init__(self) -> None:
            made.append(self)

    returns = returns_of(Noisy)
    value = Noisy(Circle(1.0))
    assert returns.to_builtins(value) == {"shape": {"radius": 1.0}}
    assert len(made) == 1
