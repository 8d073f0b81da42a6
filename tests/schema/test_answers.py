"""The forms that a client can be asked to fill in."""

from typing import Annotated, Literal

import msgspec
import pytest

from trio_mcp.errors import ArgumentError
from trio_mcp.schema.answers import read_answer_form

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
