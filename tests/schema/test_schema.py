"""The JSON Schema of annotations; a schema never refuses a value that conversion accepts."""

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import typing
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from trio_mcp.errors import ArgumentError, ToolDefinitionError
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.returns import read_returns

T = TypeVar("T")


class Context:
    pass


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    FAST = "fast"


class Point(msgspec.Struct):
    """A place."""

    x: int
    y: int = 0


@dataclasses.dataclass
class Circle:
    radius: float


@dataclasses.dataclass
class Square:
    side: float
    tags: list[str] = dataclasses.field(default_factory=list)


@attrs.define
class Person:
    name: str
    age: int | None = None


class Movie(TypedDict):
    title: str
    year: typing.NotRequired[int]


class Pair(NamedTuple):
    left: int
    right: str = "r"


@dataclasses.dataclass
class Box(Generic[T]):
    value: T


@dataclasses.dataclass
class Drawing:
    """Shapes in one place."""

    shapes: list[Circle | Square]
    file: pathlib.Path
    parent: Optional["Drawing"] = None
    note: Annotated[str, "Free text."] = ""


@dataclasses.dataclass
class Branch:
    left: "Tree"
    right: "Tree"


@dataclasses.dataclass
class Tree:
    value: int
    branch: Branch | None = None


UserId = NewType("UserId", int)


class AtLeast:
    """In the style of annotated_types."""

    def __init__(self, ge: int) -> None:
        self.ge = ge


class Length:
    def __init__(self, min_length: int, max_length: int | None = None) -> None:
        self.min_length = min_length
        self.max_length = max_length


def parameters_for(annotation: Any) -> Parameters:
    def tool(value): ...

    tool.__annotations__ = {"value": annotation}
    return read_parameters(tool, Context)


def schema_for(annotation: Any) -> dict[str, Any]:
    schema = parameters_for(annotation).schema
    Draft202012Validator.check_schema(schema)
    return schema["properties"]["value"]


CIRCLE = {"$ref": "#/$defs/Circle"}
SQUARE = {"$ref": "#/$defs/Square"}
NULL = {"type": "null"}
INTEGER = {"type": "integer"}
STRING = {"type": "string"}
DATE_TIME = {"type": "string", "format": "date-time"}
PATH = {"type": "string", "format": "path"}

SCHEMAS: list[tuple[Any, dict[str, Any]]] = [
    (int, INTEGER),
    (float, {"type": "number"}),
    (bool, {"type": "boolean"}),
    (str, STRING),
    (None, NULL),
    (Any, {}),
    (object, {}),
    (typing.LiteralString, STRING),
    (bytes, {"type": "string", "contentEncoding": "base64"}),
    (datetime.datetime, DATE_TIME),
    (datetime.date, {"type": "string", "format": "date"}),
    (datetime.time, {"type": "string", "format": "time"}),
    (datetime.timedelta, {"type": "string", "format": "duration"}),
    (uuid.UUID, {"type": "string", "format": "uuid"}),
    (decimal.Decimal, {"type": ["string", "number"], "format": "decimal"}),
    (pathlib.Path, PATH),
    (pathlib.PurePosixPath, PATH),
    (list[pathlib.Path | None], {"type": "array", "items": {"anyOf": [PATH, NULL]}}),
    (list, {"type": "array"}),
    (dict, {"type": "object"}),
    (list[int], {"type": "array", "items": INTEGER}),
    (set[int], {"type": "array", "items": INTEGER}),
    (frozenset[int], {"type": "array", "items": INTEGER}),
    (collections.abc.Sequence[int], {"type": "array", "items": INTEGER}),
    (collections.abc.Iterable[int], {"type": "array", "items": INTEGER}),
    (tuple[int, ...], {"type": "array", "items": INTEGER}),
    (
        tuple[int, str],
        {"type": "array", "prefixItems": [INTEGER, STRING], "minItems": 2, "maxItems": 2, "items": False},
    ),
    (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
    (collections.abc.Mapping[str, int], {"type": "object", "additionalProperties": INTEGER}),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
    (Literal["a"], {"type": "string", "enum": ["a"]}),
    (Literal[1, 2], {"type": "integer", "enum": [1, 2]}),
    (
        Literal["a", 1],
        {"anyOf": [{"type": "integer", "enum": [1]}, {"type": "string", "enum": ["a"]}]},
    ),
    (Literal["a", None], {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]}),
    (
        Annotated[Literal["a", None], "One."],
        {"anyOf": [{"type": "string", "enum": ["a"]}, NULL], "description": "One."},
    ),
    (Literal["a"] | None, {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]}),
    (Color, {"$ref": "#/$defs/Color"}),
    (Level, {"$ref": "#/$defs/Level"}),
    (Mode, {"$ref": "#/$defs/Mode"}),
    (UserId, INTEGER),
    (int | None, {"anyOf": [INTEGER, NULL]}),
    (int | str, {"anyOf": [INTEGER, STRING]}),
    (Annotated[int, msgspec.Meta(ge=0, lt=9)], {"type": "integer", "minimum": 0, "exclusiveMaximum": 9}),
    (Annotated[int, "How many."], {"type": "integer", "description": "How many."}),
    (list[Annotated[int, "One."]], {"type": "array", "items": {"type": "integer", "description": "One."}}),
    (Annotated[int, AtLeast(3)], {"type": "integer", "minimum": 3}),
    (Annotated[int | None, AtLeast(3)], {"anyOf": [{"type": "integer", "minimum": 3}, NULL]}),
    (
        Annotated[str, Length(2, 5), "Short."],
        {**STRING, "minLength": 2, "maxLength": 5, "description": "Short."},
    ),
    (Annotated[list[int], Length(1)], {"type": "array", "items": INTEGER, "minItems": 1}),
    (list[Annotated[int, AtLeast(1)]], {"type": "array", "items": {"type": "integer", "minimum": 1}}),
    (Annotated[datetime.datetime, msgspec.Meta(tz=False)], STRING),
    (Circle | Square, {"anyOf": [CIRCLE, SQUARE]}),
    (Square | Circle | None, {"anyOf": [SQUARE, CIRCLE, NULL]}),
    (list[Circle | Square], {"type": "array", "items": {"anyOf": [CIRCLE, SQUARE]}}),
    (Circle | dict[str, int], {"anyOf": [CIRCLE, {"type": "object", "additionalProperties": INTEGER}]}),
    (str | datetime.datetime, {"anyOf": [STRING, DATE_TIME]}),
    (list[int] | set[str], {"anyOf": [{"type": "array", "items": i} for i in (INTEGER, STRING)]}),
    (pathlib.Path | int, {"anyOf": [PATH, INTEGER]}),
    (
        Annotated[Circle | Square, "A shape."],
        {"anyOf": [CIRCLE, SQUARE], "description": "A shape."},
    ),
    (Box[int], {"$ref": "#/$defs/Box_int_"}),
]


@pytest.mark.parametrize(("annotation", "expected"), SCHEMAS, ids=lambda value: repr(value)[:60])
def test_an_annotation_has_this_schema(annotation, expected):
    assert schema_for(annotation) == expected


@pytest.mark.parametrize(("enumeration", "name"), [(Color, "string"), (Level, "integer"), (Mode, "string")])
def test_an_enum_has_a_type(enumeration, name):
    (definition,) = parameters_for(enumeration).schema["$defs"].values()
    assert definition["type"] == name
    assert set(definition["enum"]) == {member.value for member in enumeration}


def test_classes_are_in_defs_under_their_names():
    schema = parameters_for(list[Point | None]).schema
    assert schema["$defs"] == {
        "Point": {
            "title": "Point",
            "description": "A place.",
            "type": "object",
            "properties": {"x": INTEGER, "y": {"type": "integer", "default": 0}},
            "required": ["x"],
        }
    }


def test_rewritten_classes_have_the_schema_that_msgspec_writes():
    definition = parameters_for(Drawing).schema["$defs"]["Drawing"]
    assert definition == {
        "title": "Drawing",
        "description": "Shapes in one place.",
        "type": "object",
        "properties": {
            "shapes": {"type": "array", "items": {"anyOf": [CIRCLE, SQUARE]}},
            "file": PATH,
            "parent": {"anyOf": [{"$ref": "#/$defs/Drawing"}, NULL], "default": None},
            "note": {"type": "string", "description": "Free text.", "default": ""},
        },
        "required": ["shapes", "file"],
    }


def test_a_generic_class_may_hold_a_refused_union():
    schema = parameters_for(Box[Circle | Square]).schema
    Draft202012Validator.check_schema(schema)
    (definition,) = (d for name, d in schema["$defs"].items() if name.startswith("Box"))
    assert definition["properties"]["value"] == {"anyOf": [CIRCLE, SQUARE]}


def test_equal_class_names_of_two_places_stay_apart():
    def other() -> type:
        @dataclasses.dataclass
        class Circle:
            diameter: float

        return Circle

    theirs = other()
    schema = parameters_for(list[Circle | theirs]).schema
    Draft202012Validator.check_schema(schema)
    required = [definition["required"] for definition in schema["$defs"].values()]
    assert sorted(required) == [["diameter"], ["radius"]]
    assert parameters_for(list[Circle | theirs]).convert(b'{"value": [{"diameter": 1}]}') == {
        "value": [theirs(1.0)]
    }


def test_equal_names_of_rewritten_classes_stay_apart():
    def make(extra: Any) -> type:
        made = dataclasses.make_dataclass("Same", [("value", Circle | extra)])
        made.__module__ = f"module_of_{extra.__name__}"
        return made

    schema = parameters_for(tuple[make(Square), make(Person)]).schema
    Draft202012Validator.check_schema(schema)
    assert len([name for name in schema["$defs"] if name.endswith("Same")]) == 2


def test_two_classes_with_one_full_name_are_kept_apart_or_refused():
    def make(field_type: type) -> type:
        return dataclasses.make_dataclass("Same", [("value", field_type)])

    refusal, types = "", []
    try:
        schema = parameters_for(tuple[make(int), make(str)]).schema
        types = [definition["properties"]["value"]["type"] for definition in schema["$defs"].values()]
    except ToolDefinitionError as error:  # msgspec before 0.23 has one name for both
        refusal = str(error)
    assert types == ["integer", "string"] or "two different classes" in refusal


def test_properties_named_like_keywords_are_schemas():
    Odd = TypedDict("Odd", {"default": "pathlib.Path", "enum": set[int], "$ref": int, "a-b": Circle | Square})
    schema = parameters_for(Odd).schema
    Draft202012Validator.check_schema(schema)
    assert schema["$defs"]["Odd"]["properties"] == {
        "default": PATH,
        "enum": {"type": "array", "items": INTEGER},
        "$ref": INTEGER,
        "a-b": {"anyOf": [CIRCLE, SQUARE]},
    }


ACCEPTING: list[Any] = [annotation for annotation, _ in SCHEMAS] + [
    Person,
    Movie,
    Pair,
    Tree,
    Drawing,
    Person | Movie | Pair,
    dict[str, Pair | list[int]],
    Literal["red"] | Level | Color,
]

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
texts = st.sampled_from(
    ["red", "fast", "a", "2020-01-01", "2020-01-01T10:00:00Z", "10:00:00", "PT1S", "aGk=", "1.5"]
)
names = st.sampled_from(
    ["radius", "side", "tags", "x", "y", "name", "age", "title", "year", "value", "branch", "left"]
)
values = st.recursive(
    scalars | texts | st.integers(0, 3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
PREPARED = [
    (parameters, Draft202012Validator(parameters.schema)) for parameters in map(parameters_for, ACCEPTING)
]


@given(values)
@settings(max_examples=300)
def test_what_conversion_accepts_the_schema_accepts(value):
    text = json.dumps({"value": value}).encode()
    for parameters, validator in PREPARED:
        try:
            parameters.convert(text)
        except ArgumentError:
            continue
        validator.validate({"value": value})


finite = st.floats(allow_nan=False, allow_infinity=False)
circles = st.builds(Circle, finite)
squares = st.builds(Square, finite, st.lists(st.text(), max_size=2))
shapes = circles | squares
people = st.builds(Person, st.text(), st.none() | st.integers())
drawings = st.recursive(
    st.builds(Drawing, st.lists(shapes, max_size=2), st.text().map(pathlib.Path), st.none(), st.text()),
    lambda inner: st.builds(
        Drawing, st.lists(shapes, max_size=2), st.just(pathlib.Path("p")), inner, st.text()
    ),
    max_leaves=3,
)
ROUND_TRIPS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (float, finite),
    (str, st.text()),
    (bytes, st.binary()),
    (datetime.datetime, st.datetimes(timezones=st.just(datetime.UTC))),
    (datetime.date, st.dates()),
    (datetime.time, st.times()),
    (datetime.timedelta, st.timedeltas()),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (uuid.UUID, st.uuids()),
    (Color | None, st.none() | st.sampled_from(Color)),
    (tuple[int, str], st.tuples(st.integers(), st.text())),
    (dict[int, set[str]], st.dictionaries(st.integers(), st.sets(st.text()))),
    (list[Circle | Square], st.lists(shapes)),
    (
        dict[str, Circle | list[Square] | None],
        st.dictionaries(st.text(), circles | st.lists(squares) | st.none()),
    ),
    (datetime.date | str, st.dates()),
    (Person, people),
    (Person | Circle, people | circles),
    (Pair, st.builds(Pair, st.integers(), st.text())),
    (Drawing, drawings),
    (Drawing | str, drawings | st.text()),
]


@pytest.mark.parametrize(("annotation", "strategy"), ROUND_TRIPS, ids=lambda value: repr(value)[:60])
@given(data=st.data())
@settings(max_examples=30)
def test_conversion_accepts_what_it_wrote(annotation, strategy, data):
    def tool() -> Any: ...

    tool.__annotations__ = {"return": annotation}
    parameters, returns = parameters_for(annotation), read_returns(tool)
    value = data.draw(strategy)
    written = returns.to_builtins(value)
    text = msgspec.json.encode({"value": written})
    assert parameters.convert(text) == {"value": value}
    Draft202012Validator(parameters.schema).validate(json.loads(text))
    if returns.schema is not None:
        whole = {"result": written} if returns.wrapped else written
        Draft202012Validator(returns.schema).validate(json.loads(msgspec.json.encode(whole)))
