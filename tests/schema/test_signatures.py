"""Functions of every kind, and annotations in every place."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import pytest

from trio_mcp.errors import ToolDefinitionError
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.returns import read_returns

if TYPE_CHECKING:
    from nowhere import Nothing


class Context:
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: list[Point] = dataclasses.field(default_factory=list)


def add(a: int, b: Point, c: str = "x") -> Point:
    return b


class Adder:
    def __init__(self, start: int = 0) -> None:
        self.start = start

    def __call__(self, a: int, b: Point) -> Point:
        return b

    def method(self, a: int, b: Point) -> Point:
        return b

    @classmethod
    def from_class(cls, a: int, b: Point) -> Point:
        return b

    @staticmethod
    def static(a: int, b: Point) -> Point:
        return b


@functools.wraps(add)
def wrapper(*args: Any, **kwargs: Any) -> Any:
    return add(*args, **kwargs)


def properties_of(function: Any) -> dict[str, Any]:
    schema = read_parameters(function, Context).schema["properties"]
    assert isinstance(schema, dict)
    return schema


INTEGER = {"type": "integer"}
POINT = {"$ref": "#/$defs/Point"}


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (add, "abc"),
        (wrapper, "abc"),
        (functools.partial(add), "abc"),
        (functools.partial(add, 1), "bc"),
        (functools.partial(add, c="y"), "ab"),
        (functools.partial(functools.partial(add, c="y"), 1), "b"),
        (functools.partial(wrapper, 1), "bc"),
        (Adder(), "ab"),
        (Adder().method, "ab"),
        (Adder.from_class, "ab"),
        (Adder.static, "ab"),
        (functools.partial(Adder().method, 1), "b"),
    ],
)
def test_every_kind_of_function_has_its_parameters(function, names):
    expected = {"a": INTEGER, "b": POINT, "c": {"type": "string", "default": "x"}}
    assert properties_of(function) == {name: expected[name] for name in names}
    assert read_returns(function).schema is not None


def test_converted_arguments_call_the_function():
    function = functools.partial(add, 1, c="y")
    kwargs = read_parameters(function, Context).convert(b'{"b": {"x": 1, "y": [{"x": 2}]}}')
    assert function(**kwargs) == Point(1, [Point(2)])


def test_annotations_may_name_variables_of_the_enclosing_function():
    @dataclasses.dataclass
    class Local:
        n: int

    def tool(value: Local) -> Local:
        return Local(value.n)

    parameters = read_parameters(tool, Context)
    assert parameters.convert(b'{"value": {"n": 1}}') == {"value": Local(1)}
    assert read_returns(tool).schema == {
        "title": "Local",
        "type": "object",
        "properties": {"n": INTEGER},
        "required": ["n"],
    }


def test_names_that_cannot_be_resolved_are_refused():
    def tool(good: int, bad: list[Nothing]) -> Nothing: ...

    with pytest.raises(
        ToolDefinitionError, match=r"tool 'tool', parameter 'bad': 'list.Nothing.' cannot be resolved"
    ):
        read_parameters(tool, Context)
    with pytest.raises(
        ToolDefinitionError, match="tool 'tool', return annotation: 'Nothing' cannot be resolved"
    ):
        read_returns(tool)


def test_names_in_classes_that_cannot_be_resolved_are_refused():
    @dataclasses.dataclass
    class Holder:
        inside: Nothing

    def tool(value): ...

    tool.__annotations__ = {"value": Holder}
    with pytest.raises(ToolDefinitionError, match=r"parameter 'value': .*Holder.* 'Nothing' is not defined"):
        read_parameters(tool, Context)


def positional(a: int, /, b: int): ...


def variadic(a: int, *rest: int): ...


def keywords(a: int, **options: int): ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (positional, r"tool 'positional', parameter 'a': a positional-only parameter \(a\) cannot"),
        (variadic, r"tool 'variadic', parameter 'rest': a variadic positional parameter \(\*rest\) cannot"),
        (
            keywords,
            r"tool 'keywords', parameter 'options': a variadic keyword parameter \(\*\*options\) cannot",
        ),
    ],
)
def test_parameters_without_a_name_are_refused(function, message):
    with pytest.raises(ToolDefinitionError, match=message):
        read_parameters(function, Context)


def test_annotations_that_are_not_python_are_refused():
    def tool(a): ...

    tool.__annotations__ = {"a": "int ["}
    with pytest.raises(
        ToolDefinitionError, match="tool 'tool', parameter 'a': 'int \\[' is not an annotation"
    ):
        read_parameters(tool, Context)


def test_a_function_without_a_signature_is_refused():
    with pytest.raises(ToolDefinitionError, match="'type' has no usable signature"):
        read_parameters(type, Context)


def test_parameters_may_be_named_like_methods_of_structs():
    def tool(self_: int, cls: int, type: int, name: int, encode: int) -> None: ...  # noqa: A002

    parameters: Parameters = read_parameters(tool, Context)
    names = list(parameters.schema["properties"])
    text = "{" + ", ".join(f'"{name}": {n}' for n, name in enumerate(names)) + "}"
    assert parameters.convert(text.encode()) == {name: n for n, name in enumerate(names)}
