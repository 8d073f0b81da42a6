"""The forms that a client can be asked to fill in."""

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Literal

import attrs
import msgspec
import pytest

from trio_mcp.errors import ArgumentError
from trio_mcp.schema.answers import read_answer_form
from trio_mcp.schema.choices import titles

SIZES = [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}]


class Order(msgspec.Struct):
    size: Annotated[str, msgspec.Meta(extra_json_schema={"oneOf": SIZES})]
    others: list[Annotated[str, msgspec.Meta(extra_json_schema={"anyOf": SIZES})]]
    toppings: list[Literal["salt", "oil"]]


class Names(msgspec.Struct):
    names: list[str]


def test_choices_may_have_titles():
    """MCP elicitation 2025-11-25, "Requested Schema"."""
    assert read_answer_form(Order).schema["properties"] == {
        "size": {"type": "string", "oneOf": SIZES},
        "others": {"type": "array", "items": {"type": "string", "anyOf": SIZES}},
        "toppings": {"type": "array", "items": {"type": "string", "enum": ["oil", "salt"]}},
    }


def test_a_list_without_choices_is_refused():
    with pytest.raises(TypeError, match="'names' must be"):
        read_answer_form(Names)


class Amount(msgspec.Struct):
    count: int


def test_a_whole_number_in_an_answer_is_an_integer():
    form = read_answer_form(Amount)
    assert repr(form.convert({"count": 3.0})) == "Amount(count=3)"
    with pytest.raises(ArgumentError, match="count: expected int, got float"):
        form.convert({"count": 3.5})


class Color(enum.Enum):
    RED = "#f00"
    GREEN = "#0f0"


@attrs.frozen
class Everything:
    name: Annotated[str, msgspec.Meta(title="Your name", min_length=1, max_length=20)]
    nick: str | None
    mail: Annotated[str, msgspec.Meta(extra_json_schema={"format": "email"})] = "ada@example.com"
    born: datetime.date | None = None
    age: Annotated[int, msgspec.Meta(gt=0, lt=150), "In years"] = 30
    score: int | float = 95.5
    size: Annotated[Literal["s", "l"], titles(s="Small", l="Large")] = "s"
    color: Annotated[Color, titles({Color.RED: "Red"})] = Color.RED
    colors: list[Color] = attrs.Factory(lambda: [Color.RED])
    sizes: Annotated[
        list[Annotated[Literal["s", "l"], titles(s="Small")]], msgspec.Meta(min_length=1, max_length=2)
    ] = attrs.field(factory=lambda: ["l"])
    sure: bool = False


def test_a_form_says_all_that_the_type_says():
    """MCP elicitation, "Requested Schema": the restricted schema has a place for each of these."""
    schema = read_answer_form(Everything).schema
    assert schema["required"] == ["name"]
    assert schema["properties"] == {
        "name": {"type": "string", "title": "Your name", "minLength": 1, "maxLength": 20},
        "nick": {"type": "string"},
        "mail": {"type": "string", "format": "email", "default": "ada@example.com"},
        "born": {"type": "string", "format": "date"},
        "age": {"type": "integer", "minimum": 1, "maximum": 149, "description": "In years", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "size": {
            "type": "string",
            "oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}],
            "default": "s",
        },
        "color": {
            "type": "string",
            "title": "Color",
            "oneOf": [{"const": "#f00", "title": "Red"}, {"const": "#0f0", "title": "#0f0"}],
            "default": "#f00",
        },
        "colors": {
            "type": "array",
            "items": {"type": "string", "title": "Color", "enum": ["#0f0", "#f00"]},
            "default": ["#f00"],
        },
        "sizes": {
            "type": "array",
            "items": {
                "type": "string",
                "anyOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "l"}],
            },
            "minItems": 1,
            "maxItems": 2,
            "default": ["l"],
        },
        "sure": {"type": "boolean", "default": False},
    }


@dataclasses.dataclass
class Booking:
    seats: list[Literal["aisle", "window"]] = dataclasses.field(default_factory=lambda: ["aisle"])
    days: list[Literal["mon", "tue"]] | None = dataclasses.field(default_factory=list)
    number: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


def test_a_form_shows_no_default_that_is_another_one_each_time():
    properties = read_answer_form(Booking).schema["properties"]
    assert [properties[name].get("default") for name in properties] == [["aisle"], [], None]
    numbers = {read_answer_form(Booking).convert({}).number for _ in range(2)}
    assert len(numbers) == 2


def test_a_type_whose_metadata_has_no_hash_makes_a_form():
    assert read_answer_form(Annotated[str, ["no hash"]]).convert({"value": "x"}) == "x"


def test_what_an_answer_leaves_out_has_its_default():
    value = read_answer_form(Everything).convert({"name": "Ada", "sizes": ["s", "l"], "born": "1815-12-10"})
    assert value == Everything(name="Ada", nick=None, sizes=["s", "l"], born=datetime.date(1815, 12, 10))


@pytest.mark.parametrize(
    ("annotation", "field", "given", "value"),
    [
        (str, {"type": "string"}, "x", "x"),
        (int, {"type": "integer"}, 3, 3),
        (bool, {"type": "boolean"}, True, True),
        (Color, {"type": "string", "title": "Color", "enum": ["#0f0", "#f00"]}, "#f00", Color.RED),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, "b", "b"),
        (list[Literal["a", "b"]], {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}, [], []),
        (Annotated[int, msgspec.Meta(ge=1)], {"type": "integer", "minimum": 1}, 4, 4),
    ],
)
def test_a_single_value_is_a_form_of_one_field(annotation, field, given, value):
    form = read_answer_form(annotation)
    assert form.schema == {"type": "object", "properties": {"value": field}, "required": ["value"]}
    assert form.convert({"value": given}) == value


def test_a_form_without_fields_confirms():
    form = read_answer_form(None)
    assert form.schema == {"type": "object", "properties": {}}
    assert form.convert({}) is None
    assert form.convert(None) is None


@attrs.frozen
class Inner:
    name: str


@attrs.frozen
class Nested:
    inner: Inner


@attrs.frozen
class Priced:
    price: Annotated[float, msgspec.Meta(gt=0)]


@attrs.frozen
class Mistitled:
    size: Annotated[Literal["s"], titles(xl="Too large")]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Nested, "field 'inner' must be text"),
        (Priced, "field 'price': a form has no 'exclusiveMinimum'"),
        (Mistitled, "field 'size' has a title for 'xl', which is no choice"),
        (Literal[1, 2], "field 'value': the choices of a form are text, not 1"),
        (uuid.UUID, "field 'value': a form has the formats email, uri, date, date-time, not 'uuid'"),
        (bytes, "field 'value': a form has no 'contentEncoding'"),
        (str | int, "field 'value' must be text"),
        (decimal.Decimal, "field 'value' must be text"),
        (dict[str, str], "a form is a class with fields"),
        (list[Inner], "field 'value' must be text"),
    ],
)
def test_what_a_form_cannot_say_names_the_field(annotation, words):
    with pytest.raises(TypeError, match=words):
        read_answer_form(annotation)


def test_titles_alone_limit_a_text():
    form = read_answer_form(Annotated[str, titles(s="Small", l="Large")])
    assert form.convert({"value": "s"}) == "s"
    with pytest.raises(ArgumentError, match="value: expected one of 's', 'l', not 'xl'"):
        form.convert({"value": "xl"})
    with pytest.raises(TypeError, match="titles needs"):
        titles()
    with pytest.raises(TypeError, match="are text"):
        titles({1: "One"})
