"""Unions that msgspec refuses: members are strict, the declared order counts, and time is linear."""

import dataclasses
import datetime
import enum
import pathlib
from typing import Any

import pytest

from trio_mcp.errors import ArgumentError
from trio_mcp.schema.parameters import read_parameters


class Context:
    pass


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


@dataclasses.dataclass
class Circle:
    radius: float


@dataclasses.dataclass
class Square:
    side: float


@dataclasses.dataclass
class Node:
    value: int
    children: dict[str, "Node | Leaf"] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Leaf:
    name: str


@dataclasses.dataclass
class Left:
    child: "Left | Right | int"


@dataclasses.dataclass
class Right:
    child: "Left | Right | int"


def convert(annotation: Any, text: bytes) -> Any:
    def tool(value): ...

    tool.__annotations__ = {"value": annotation}
    return read_parameters(tool, Context).convert(b'{"value": ' + text + b"}")["value"]


def refusal(annotation: Any, text: bytes) -> str:
    with pytest.raises(ArgumentError) as caught:
        convert(annotation, text)
    return str(caught.value)


TEXTS = {int: b"7", float: b"1.5", str: b'"3"', bool: b"true", type(None): b"null", list: b"[]", dict: b"{}"}


@pytest.mark.parametrize("wrong", TEXTS)
@pytest.mark.parametrize(
    ("member", "fits"),
    [
        (int, {int}),
        (float, {int, float}),
        (bool, {bool}),
        (str, {str}),
        (pathlib.Path, {str}),
        (bytes, set()),
        (datetime.date, set()),
        (Level, set()),
        (Mode, set()),
        (list[int], {list}),
        (set[str], {list}),
        (tuple[int, int], set()),
        (dict[str, int], {dict}),
    ],
)
def test_members_never_coerce(member, fits, wrong):
    # The two classes make msgspec refuse the union.
    annotation = Circle | Square | member
    if wrong in fits:
        convert(annotation, TEXTS[wrong])
    else:
        assert refusal(annotation, TEXTS[wrong]).startswith("value: expected Circle or Square or ")


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (Level | int, b"1", Level.LOW),
        (Level | int, b"2", 2),
        (int | Level, b"1", 1),
        (Mode | str, b'"fast"', Mode.FAST),
        (str | Mode, b'"fast"', "fast"),
        (Mode | Level | Circle | Square, b"1", Level.LOW),
    ],
)
def test_the_first_member_in_declared_order_wins(annotation, text, expected):
    assert convert(annotation, text) is expected or convert(annotation, text) == expected
    assert type(convert(annotation, text)) is type(expected)


def test_unknown_fields_do_not_disqualify_a_class():
    # As in a class that is no member of a union, so that the order alone decides.
    assert convert(Circle | Square, b'{"radius": 1, "side": 2}') == Circle(1.0)
    assert convert(Square | Circle, b'{"radius": 1, "side": 2}') == Square(2.0)


def test_nested_unions_take_linear_time():
    # Naive backtracking would try 2**60 ways.
    depth = 60
    text = b'{"child": ' * depth + b'"wrong"' + b"}" * depth
    message = refusal(Left | Right, text)
    assert message.startswith("value: expected Left or Right")
    assert len(message) < 1000


def test_nested_mappings_of_unions_take_linear_time():
    depth = 40
    text = b'{"value": 1, "children": {"x": {"name": "leaf"}, "a": ' * depth + b"3" + b"}}" * depth
    assert refusal(Node, text).startswith("value.children['a']: expected Node or Leaf")


def test_nesting_without_end_is_refused():
    text = b'{"child": ' * 900 + b"1" + b"}" * 900
    assert "deep" in refusal(Left | Right, text)
