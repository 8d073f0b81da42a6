"""JSON Schemas that a program gives for a tool, kept as they are.

Owns which parameter of the function takes the arguments then, and the check by the package jsonschema,
which is imported when such a tool is registered. No reference is ever fetched from a network.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, MutableMapping
from itertools import islice
from typing import Any, Final, Protocol

import attrs
import msgspec

from trio_mcp.errors import ArgumentError
from trio_mcp.schema.conversion import json_name
from trio_mcp.schema.flaws import encode_json
from trio_mcp.schema.parameters import is_context
from trio_mcp.schema.returns import Returns
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
) -> VerbatimParameters:
    """The parameters of a function whose arguments `schema` describes; raises the error of `subject`."""
    found = read_function_parameters(function, {context_type.__name__: context_type}, subject, rest=True)
    contexts = [p.name for p in found if is_context(p.annotation, context_type)]
    others = [p for p in found if p.name not in contexts]
    if len(contexts) > 1 or len(others) != 1 or not (others[0].is_rest or _takes_dict(others[0])):
        names = ", ".join(p.name for p in found) or "none"
        raise subject.flaw(f"with input_schema its function {_TAKES}; its parameters: {names}")
    kept, find_problem = _read_schema(schema, "input_schema", subject, validate=validate)
    context_name = contexts[0] if contexts else None
    if others[0].is_rest and context_name in kept.get("properties", ()):
        raise subject.flaw(f"the argument {context_name!r} has the name of the parameter for the context")
    return VerbatimParameters(kept, context_name, None if others[0].is_rest else others[0].name, find_problem)


def read_verbatim_returns(schema: Mapping[str, Any], subject: Subject, *, validate: bool) -> Returns:
    """The results that `schema` describes, which are objects; raises the error of `subject`."""
    kept, find_problem = _read_schema(schema, "output_schema", subject, validate=validate)

    def find_any_problem(value: Any) -> str | None:
        if not isinstance(value, dict):
            return f"expected object, got {json_name(value)}"
        return find_problem(value)

    return Returns(kept, False, Any, find_problem=find_any_problem)


def _takes_dict(parameter: Parameter) -> bool:
    kind = typing.get_origin(parameter.annotation) or parameter.annotation
    return any(kind is mapping for mapping in _MAPPINGS)


def _read_schema(
    schema: Mapping[str, Any], part: str, subject: Subject, *, validate: bool
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
    validator = _make_validator(kept, part, subject)
    return kept, lambda value: _find_problems(validator, value)


class _Problem(Protocol):
    message: str
    absolute_path: typing.Iterable[str | int]


class _Validator(Protocol):
    def iter_errors(self, instance: Any) -> typing.Iterator[_Problem]: ...


def _make_validator(schema: dict[str, Any], part: str, subject: Subject) -> _Validator:
    try:
        # Imported here: hardly any server needs it, and it takes longer than all of trio_mcp.
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for
        from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # it has no types
    except ImportError:
        raise subject.flaw(
            "to check values by it needs the package jsonschema: install trio-mcp[validation], or pass "
            "validate=False",
            part,
        ) from None
    dialect = Draft202012Validator if "$schema" not in schema else validator_for(schema, default=None)
    if dialect is None:
        raise subject.flaw(f"{schema['$schema']!r} is no dialect that jsonschema knows", part)
    try:
        dialect.check_schema(schema)
    except SchemaError as error:
        raise subject.flaw(f"it is no JSON Schema: {error.message}", part) from None
    dead = _find_dead_reference(schema, dialect.META_SCHEMA["$schema"], REGISTRY)
    if dead is not None:
        raise subject.flaw(f"the reference {dead!r} leads nowhere in the schema", part)
    # A registry of ours, because the default one fetches references from the network.
    validator: _Validator = dialect(schema, registry=REGISTRY)
    return validator


def _find_dead_reference(schema: dict[str, Any], dialect: str, registry: Any) -> str | None:
    """A reference that leads out of the schema, or nowhere."""
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    whole = specification_with(dialect).create_resource(schema)
    base = whole.id() or ""
    pending = [(whole, registry.with_resource(base, whole).resolver(base))]
    while pending:
        resource, resolver = pending.pop()
        members = resource.contents if isinstance(resource.contents, dict) else {}
        for reference in (members.get("$ref"), members.get("$dynamicRef")):
            if not isinstance(reference, str):
                continue
            try:
                resolver.lookup(reference)
            except Unresolvable:
                return reference
        for inner in resource.subresources():
            pending.append((inner, resolver.in_subresource(inner)))
    return None


def _find_problems(validator: _Validator, value: Any) -> str | None:
    try:
        found = list(islice(validator.iter_errors(value), _MOST_PROBLEMS + 1))
    except RecursionError:
        return "it is nested too deeply"
    shown = [_describe(problem) for problem in found[:_MOST_PROBLEMS]]
    if len(found) > len(shown):
        shown.append("and more")
    return "; ".join(shown) or None


def _describe(problem: _Problem) -> str:
    message = problem.message
    if len(message) > _LONGEST_PROBLEM:  # it quotes the value
        message = f"{message[: _LONGEST_PROBLEM // 2]} ... {message[-_LONGEST_PROBLEM // 2 :]}"
    path = ""
    for step in problem.absolute_path:
        path += f"[{step}]" if isinstance(step, int) else f".{step:.100}"
    return f"{path.lstrip('.')}: {message}" if path else message
