"""Annotations without a JSON form, and the messages that refuse them."""

import collections.abc
import dataclasses
import enum
import pathlib
import typing
from typing import Annotated, Any

import msgspec
import pytest

from trio_mcp.errors import ArgumentError, ToolDefinitionError
from trio_mcp.schema.parameters import Parameters, read_parameters


class Context:
    pass


@dataclasses.dataclass
class Circle:
    radius: float


@dataclasses.dataclass
class Square:
    side: float


class AtLeast:
    """In the style of annotated_types."""

    def __init__(self, ge: int) -> None:
        self.ge = ge


def parameters_for(annotation: Any) -> Parameters:
    def tool(value): ...

    tool.__annotations__ = {"value": annotation}
    return read_parameters(tool, Context)


class Plain:
    pass


@dataclasses.dataclass
class Holder:
    inside: list[Plain]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Plain, "Plain has no JSON form"),
        (list[Plain], "Plain has no JSON form"),
        (Plain | None, "Plain has no JSON form"),
        (Plain | int, "Plain has no JSON form"),
        (Holder, "field 'inside' of Holder: Plain has no JSON form"),
        (dict[str, Holder | Circle], "field 'inside' of Holder"),
        (typing.Callable[[int], int], "Callable"),
        (collections.abc.Callable, "Callable"),
        (type[int], "type"),
        (complex, "complex"),
        (range, "range"),
        (dict[tuple[int, int], int], "cannot be a key"),
        (dict[pathlib.Path, int], "cannot be a key"),
        (set[list[int]], "not hashable"),
        (frozenset[Circle], "not hashable"),
        (Annotated[int, msgspec.Meta(min_length=1)], "min_length"),
        (Annotated[int | None, msgspec.Meta(min_length=1)], "min_length"),
        (Annotated[Circle | Square, AtLeast(1)], "ge=1"),
        (5, "5"),
        (msgspec.msgpack.Ext, "Ext"),
        (enum.Enum("Odd", {"A": object()}), "Enum"),
    ],
)
def test_annotations_without_a_json_form_are_refused(annotation, reason):
    with pytest.raises(ToolDefinitionError) as caught:
        parameters_for(annotation)
    assert str(caught.value).startswith("tool 'tool', parameter 'value': ")
    assert reason in str(caught.value)


@dataclasses.dataclass
class Fixed:
    value: typing.Final[int]
    shape: Circle | Square


def test_final_fields_are_fields():
    properties = parameters_for(Fixed).schema["$defs"]["Fixed"]["properties"]
    assert properties["value"] == {"type": "integer"}


class Length:
    def __init__(self, min_length: int | None = None, max_length: int | None = None) -> None:
        self.min_length = min_length
        self.max_length = max_length


@dataclasses.dataclass
class Limited:
    count: Annotated[int, AtLeast(1)]
    names: list[Annotated[str, Length(2)]]


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "message"),
    [
        (Annotated[int, AtLeast(1)], b"1", b"0", "value: expected int >= 1"),
        (Annotated[int | None, AtLeast(1)], b"null", b"0", "value: expected int >= 1"),
        (list[Annotated[int, AtLeast(1)]], b"[1]", b"[1, 0]", "value[1]: expected int >= 1"),
        (Annotated[str, Length(2, 3)], b'"abc"', b'"abcd"', "value: expected str of length <= 3"),
        (
            Annotated[list[int], Length(max_length=1)],
            b"[1]",
            b"[1, 2]",
            "value: expected array of length <= 1",
        ),
        (Annotated[int | str, AtLeast(1), Length(2)], b'"ab"', b'"a"', "value: expected str of length >= 2"),
        (
            Limited,
            b'{"count": 1, "names": ["ab"]}',
            b'{"count": 1, "names": ["ab", "c"]}',
            "value.names[1]: expected str of length >= 2",
        ),
    ],
)
def test_constraints_of_other_packages_are_enforced(annotation, good, bad, message):
    parameters = parameters_for(annotation)
    parameters.convert(b'{"value": ' + good + b"}")
    with pytest.raises(ArgumentError) as caught:
        parameters.convert(b'{"value": ' + bad + b"}")
    assert str(caught.value) == message
