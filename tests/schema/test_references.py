"""Schemas without references: what is put in place, what stays in `$defs`, and how large it may become."""

import dataclasses
import enum
import json
from typing import Annotated, Any, Optional

import msgspec
import pytest
from jsonschema import Draft202012Validator

from trio_mcp import Server, ServerSettings
from trio_mcp.schema.answers import read_answer_form


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    """A place."""

    x: int
    color: Color = Color.RED


@dataclasses.dataclass
class Line:
    start: Annotated[Point, "Where it begins."]
    end: Point


@dataclasses.dataclass
class Node:
    place: Point
    next: Optional["Node"] = None


class Cat(msgspec.Struct, tag="cat"):
    name: str


class Dog(msgspec.Struct, tag="dog"):
    name: str


COLOR = {"title": "Color", "type": "string", "enum": ["red"]}
POINT = {
    "title": "Point",
    "description": "A place.",
    "type": "object",
    "properties": {"x": {"type": "integer"}, "color": {**COLOR, "default": "red"}},
    "required": ["x"],
}


def register(annotation: Any, **settings: Any) -> Any:
    server = Server("schemas", settings=ServerSettings(**settings))

    def tool(value): ...

    tool.__annotations__ = {"value": annotation, "return": annotation}
    server.add_tool(tool)
    listing = server.tools["tool"].listing
    Draft202012Validator.check_schema(listing.input_schema)
    Draft202012Validator.check_schema(listing.output_schema)
    return listing


def test_classes_take_the_place_of_references_and_what_stood_beside_them_stays():
    listing = register(Line)
    assert listing.output_schema["properties"] == {
        "start": {**POINT, "description": "Where it begins."},
        "end": POINT,
    }
    for schema in (listing.input_schema, listing.output_schema):
        assert "$ref" not in json.dumps(schema)
        assert "$defs" not in schema


def test_only_definitions_that_refer_to_themselves_stay():
    schema = register(list[Node]).input_schema
    assert schema["properties"]["value"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert list(schema["$defs"]) == ["Node"]
    assert schema["$defs"]["Node"]["properties"]["place"] == POINT
    Draft202012Validator(schema).validate({"value": [{"place": {"x": 1}, "next": {"place": {"x": 2}}}]})


def test_a_setting_keeps_references():
    schema = register(Line, dereference_schemas=False).input_schema
    assert schema["properties"]["value"] == {"$ref": "#/$defs/Line"}
    assert set(schema["$defs"]) == {"Line", "Point", "Color"}


def test_a_discriminator_does_not_name_what_is_gone():
    (value,) = register(Cat | Dog).input_schema["properties"].values()
    assert [choice["title"] for choice in value["anyOf"]] == ["Cat", "Dog"]
    assert "discriminator" not in value
    kept = register(Cat | Dog, dereference_schemas=False).input_schema["properties"]["value"]
    assert set(kept["discriminator"]["mapping"].values()) == {"#/$defs/Cat", "#/$defs/Dog"}


def test_a_default_beside_a_reference_stays():
    server = Server("schemas")

    @server.tool
    def paint(color: Color = Color.RED) -> None:
        """Paint.

        Args:
            color: Which one.
        """

    properties = server.tools["paint"].listing.input_schema["properties"]
    assert properties["color"] == {**COLOR, "description": "Which one.", "default": "red"}


def test_classes_that_double_each_other_do_not_blow_up_the_schema():
    inner: Any = Point
    for level in range(40):
        inner = dataclasses.make_dataclass(f"Level{level}", [("left", inner), ("right", inner)])
    schema = register(inner).input_schema
    assert len(json.dumps(schema)) < 100_000
    assert "Level10" in schema["$defs"]
    assert "Level39" not in schema["$defs"]


@pytest.mark.parametrize("used", ["enum", "list"])
def test_forms_have_neither_references_nor_enums_without_a_type(used):
    form = dataclasses.make_dataclass("Form", [("color", Color if used == "enum" else list[Color])])
    schema = read_answer_form(form).schema
    found = schema["properties"]["color"]
    assert (found if used == "enum" else found["items"]) == COLOR
