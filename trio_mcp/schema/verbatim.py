"""JSON Schemas that a program gives for a tool, kept as they are.

Owns which parameter of the function takes the arguments then, and how what does not fit is told. The check
itself is in `schema_check.py`.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, MutableMapping
from itertools import islice
from typing import Any, Final

import attrs
import msgspec

from trio_mcp.errors import ArgumentError
from trio_mcp.schema.conversion import json_name
from trio_mcp.schema.flaws import encode_json
from trio_mcp.schema.parameters import is_context
from trio_mcp.schema.returns import Returns
from trio_mcp.schema.schema_check import Problem, SchemaCheck
from trio_mcp.schema.signatures import Parameter, Subject, read_function_parameters
from trio_mcp.wire.codec import UNENCODABLE

_TAKES: Final = "takes all arguments as one dict, or as **arguments, and if it wants one a Context"
_MAPPINGS: Final = (dict, Mapping, MutableMapping, Any, object)
# A peer must not be able to make an answer much longer than its question.
_MOST_PROBLEMS: Final = 20
_LONGEST_PROBLEM: Final = 300


@attrs.frozen(eq=False)
class VerbatimParameters:
    """The arguments of a tool whose schema was given; `schema` and `context_name` as in `Parameters`."""

    schema: dict[str, Any]
    context_name: str | None
    # The parameter that takes all arguments; None if each is passed by its own name.
    _name: str | None
    _find_problem: Callable[[Any], str | None]

    def convert(self, arguments: msgspec.Raw | bytes | None) -> dict[str, Any]:
        """The keyword arguments, without the context; the values are those of JSON.

        Raises ArgumentError, which lists every problem.
        """
        try:
            given = {} if arguments is None else msgspec.json.decode(arguments)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"the arguments cannot be read: {error}") from None
        if not isinstance(given, dict):
            raise ArgumentError(f"the arguments must be an object, got {json_name(given)}")
        problem = self._find_problem(given)
        if problem is not None:
            raise ArgumentError(problem)
        if self._name is not None:
            return {self._name: given}
        if self.context_name in given:
            raise ArgumentError(f"unexpected argument {self.context_name!r}")
        return given


def read_verbatim_parameters(
    function: Callable[..., Any],
    context_type: type,
    schema: Mapping[str, Any],
    subject: Subject,
    *,
    validate: bool,
    is_known_good: bool = False,
) -> VerbatimParameters:
    """The parameters of a function whose arguments `schema` describes; raises the error of `subject`.

    Values are checked with `validate`, and the schema itself unless it `is_known_good`.
    """
    found = read_function_parameters(function, {context_type.__name__: context_type}, subject, rest=True)
    contexts = [p.name for p in found if is_context(p.annotation, context_type)]
    others = [p for p in found if p.name not in contexts]
    if len(contexts) > 1 or len(others) != 1 or not (others[0].is_rest or _takes_dict(others[0])):
        names = ", ".join(p.name for p in found) or "none"
        raise subject.flaw(f"with input_schema its function {_TAKES}; its parameters: {names}")
    kept, find_problem = _read_schema(schema, "input_schema", subject, validate, is_known_good)
    context_name = contexts[0] if contexts else None
    if others[0].is_rest and context_name in kept.get("properties", ()):
        raise subject.flaw(f"the argument {context_name!r} has the name of the parameter for the context")
    return VerbatimParameters(kept, context_name, None if others[0].is_rest else others[0].name, find_problem)


def read_verbatim_returns(
    schema: Mapping[str, Any], subject: Subject, *, validate: bool, is_known_good: bool = False
) -> Returns:
    """The results that `schema` describes, which are objects; raises the error of `subject`."""
    kept, find_problem = _read_schema(schema, "output_schema", subject, validate, is_known_good)

    def find_any_problem(value: Any) -> str | None:
        if not isinstance(value, dict):
            return f"expected object, got {json_name(value)}"
        return find_problem(value)

    return Returns(kept, False, Any, find_problem=find_any_problem)


def _takes_dict(parameter: Parameter) -> bool:
    kind = typing.get_origin(parameter.annotation) or parameter.annotation
    return any(kind is mapping for mapping in _MAPPINGS)


def _read_schema(
    schema: Mapping[str, Any], part: str, subject: Subject, validate: bool, is_known_good: bool
) -> tuple[dict[str, Any], Callable[[Any], str | None]]:
    """A copy of the schema, and what is wrong with a value by it."""
    if not isinstance(schema, Mapping):
        raise subject.flaw(f"a schema must be a dict, not {schema!r}", part)
    try:
        kept: dict[str, Any] = msgspec.json.decode(encode_json(dict(schema)))
    except UNENCODABLE as error:
        raise subject.flaw(f"it is not JSON: {error}", part) from None
    if kept.get("type") != "object":
        raise subject.flaw(f'MCP requires "type": "object", not {kept.get("type")!r}', part)
    if not validate:
        return kept, lambda value: None
    check = _make_check(kept, part, subject, is_known_good)
    return kept, lambda value: _find_problems(check, value)


def _make_check(schema: dict[str, Any], part: str, subject: Subject, is_known_good: bool) -> SchemaCheck:
    try:
        check = SchemaCheck(schema, is_known_good=is_known_good)
    except ImportError:
        raise subject.flaw(
            "to check values by it needs the package jsonschema: install trio-mcp[validation], or pass "
            "validate=False",
            part,
        ) from None
    except ValueError as error:
        raise subject.flaw(str(error), part) from None
    dead = None if is_known_good else check.find_dead_reference()
    if dead is not None:
        raise subject.flaw(f"the reference {dead!r} leads nowhere in the schema", part)
    return check


def _find_problems(check: SchemaCheck, value: Any) -> str | None:
    try:
        found = list(islice(check.iter_problems(value), _MOST_PROBLEMS + 1))
    except ValueError as error:
        return str(error)
    shown = [_describe(problem) for problem in found[:_MOST_PROBLEMS]]
    if len(found) > len(shown):
        shown.append("and more")
    return "; ".join(shown) or None


def _describe(problem: Problem) -> str:
    message = problem.message
    if len(message) > _LONGEST_PROBLEM:  # it quotes the value
        message = f"{message[: _LONGEST_PROBLEM // 2]} ... {message[-_LONGEST_PROBLEM // 2 :]}"
    path = ""
    for step in problem.absolute_path:
        path += f"[{step}]" if isinstance(step, int) else f".{step:.100}"
    return f"{path.lstrip('.')}: {message}" if path else message
