"""`from __future__ import annotations` within a function: hints name what only that function knows."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, NamedTuple, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from trio_mcp.errors import ToolDefinitionError
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.returns import read_returns


class Context:
    pass


def build_data() -> Parameters:
    @dataclasses.dataclass
    class Inner:
        n: int

    @dataclasses.dataclass
    class Outer:
        inner: Inner
        more: list[Inner] = dataclasses.field(default_factory=list)

    def tool(value: Outer) -> Outer: ...

    assert read_returns(tool).to_builtins(Outer(Inner(1))) == {"inner": {"n": 1}, "more": []}
    return read_parameters(tool, Context)


def build_attrs() -> Parameters:
    @attrs.define
    class Inner:
        n: int

    @attrs.define
    class Outer:
        inner: Inner

    def tool(value: Outer): ...

    return read_parameters(tool, Context)


def build_typed_dict() -> Parameters:
    class Inner(TypedDict):
        n: int

    class Outer(TypedDict):
        inner: Inner

    def tool(value: Outer | None): ...

    return read_parameters(tool, Context)


def build_model() -> Parameters:
    class Inner(pydantic.BaseModel):
        n: int

    class Outer(pydantic.BaseModel):
        inner: Inner

    def tool(value: Outer) -> Outer: ...

    assert read_returns(tool).to_builtins(Outer(inner=Inner(n=1))) == {"inner": {"n": 1}}
    return read_parameters(tool, Context)


def build_method() -> Parameters:
    class Inner(NamedTuple):
        n: int

    class Tools:
        def tool(self, value: dict[str, Inner]): ...

    return read_parameters(Tools().tool, Context)


def build_deeper() -> Parameters:
    limit = 3

    def inside() -> Parameters:
        bound = msgspec.Meta(le=limit)

        def tool(value: dict[str, Annotated[int, bound]]): ...

        return read_parameters(functools.partial(tool), Context)

    return inside()


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (build_data, b'{"inner": {"n": 1}}'),
        (build_attrs, b'{"inner": {"n": 1}}'),
        (build_typed_dict, b'{"inner": {"n": 1}}'),
        (build_model, b'{"inner": {"n": 1}}'),
        (build_method, b'{"inner": [1]}'),
        (build_deeper, b'{"inner": 1}'),
    ],
)
def test_names_of_a_function_that_is_running_are_known(build, text):
    value = build().convert(b'{"value": ' + text + b"}")["value"]
    inner = value["inner"] if isinstance(value, dict) else value.inner
    assert msgspec.json.encode(inner, enc_hook=lambda model: model.model_dump()) in (b'{"n":1}', b"[1]", b"1")


def test_names_of_a_function_that_has_returned_are_refused_with_the_reason():
    def make():
        class Local(msgspec.Struct):
            n: int

        def tool(value: Local): ...

        return tool

    with pytest.raises(
        ToolDefinitionError,
        match=r"'value': 'Local' cannot be resolved: .*; names of a function are known while it runs",
    ):
        read_parameters(make(), Context)


def test_names_of_other_functions_are_not_taken():
    class Local(msgspec.Struct):
        n: int

    def tool(value: Local): ...

    tool.__qualname__ = "elsewhere.<locals>.tool"
    with pytest.raises(ToolDefinitionError, match="'Local' cannot be resolved"):
        read_parameters(tool, Context)
