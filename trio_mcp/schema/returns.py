"""The result of a tool: its schema, and its conversion from Python to JSON.

Owns which results have a schema, which are wrapped in an object, and the check
of a value against its annotation. Knows nothing of content blocks, except that
they have no schema.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Union

from msgspec import Struct

from trio_mcp.errors import ReturnError
from trio_mcp.schema.conversion import UnencodableError, convert, to_json_value
from trio_mcp.schema.description import describe_annotations, object_schema
from trio_mcp.schema.flaws import find_flaw, find_value
from trio_mcp.schema.problems import Problem, UnsupportedAnnotationError, find_problem
from trio_mcp.schema.references import with_definitions
from trio_mcp.schema.rewriter import AnnotationRewriter
from trio_mcp.schema.signatures import Subject, read_return_annotation, tool_subject

_UNIONS = (Union, types.UnionType)
_CONTAINERS = (list, tuple, set, frozenset, dict)
# Annotations that tell a schema nothing, or whose values become text anyway.
_WITHOUT_SCHEMA = (Any, object, None, type(None), str, typing.Never, typing.NoReturn)


class Returns(Struct, frozen=True, eq=False):
    """The result of one tool.

    `schema` is the schema of an object, or None. If `wrapped`, that object is
    `{"result": value}`; `to_builtins` gives the bare value either way.
    """

    schema: dict[str, Any] | None
    wrapped: bool
    # What values are checked against; Any if they are not checked.
    _annotation: Any
    is_open: bool = True
    """Whether the annotation admits any value, as a whole or inside of its containers."""
    find_problem: Callable[[Any], str | None] | None = None
    """What is wrong with a value by a schema that was given, of which the annotation tells nothing."""

    def to_builtins(self, value: Any) -> Any:
        """A returned value as builtins that JSON can hold, not wrapped.

        Raises ReturnError, naming the path, for a value that JSON cannot hold or
        that does not match its annotation.
        """
        is_text = type(value) is str  # as most tools return; only a lone surrogate can be wrong in it
        built = value if is_text else _build(value)
        flaw = None if is_text and value.isascii() else find_flaw(built)
        if flaw is not None:
            raise ReturnError(flaw.describe("result"))
        if self.find_problem is not None and (wrong := self.find_problem(built)) is not None:
            raise ReturnError(f"returned value does not match the output schema: {wrong}")
        if self._annotation is Any or (is_text and self._annotation is str):
            return built
        try:
            convert(built, self._annotation)
        except (ValueError, TypeError, RecursionError) as error:
            problem = find_problem(built, functools.partial(convert, annotation=self._annotation), error)
            raise ReturnError(
                f"returned value does not match its annotation: {problem.describe()}"
            ) from error
        return built


class BuiltReturns(Returns, frozen=True, eq=False, kw_only=True):
    """The result of a tool whose annotation pydantic reads, at least in part; `build` dumps it."""

    build: Callable[[Any], Any]

    def to_builtins(self, value: Any) -> Any:
        built = _checked(value, self.build)
        flaw = find_flaw(built)
        if flaw is not None:
            raise ReturnError(flaw.describe("result"))
        # The parts that pydantic has no say in are checked as any others.
        _checked(built, functools.partial(convert, annotation=self._annotation))
        return built


def _checked(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except (ValueError, TypeError, RecursionError) as error:
        problem = find_problem(value, check, error)
        raise ReturnError(f"returned value does not match its annotation: {problem.describe()}") from error


def _build(value: Any) -> Any:
    try:
        return to_json_value(value)
    except UnencodableError as error:
        problem = Problem(find_value(value, error.value), str(error))
        raise ReturnError(problem.describe("result")) from error
    except RecursionError as error:
        raise ReturnError("result: it contains itself, or is nested too deeply") from error
    except (TypeError, ValueError) as error:
        raise ReturnError(f"result: {error}") from error


def read_returns(
    function: Callable[..., Any],
    content_types: tuple[type, ...] = (),
    subject: Subject | None = None,
    *,
    dereference: bool = False,
    refuse_unknown: bool = True,
) -> Returns:
    """What a function returns, from its annotation.

    A result that is, or holds in a container or union, one of `content_types` has no
    schema and is not checked. `subject` is what the function is to become, by default a tool of its name.
    With `dereference`, the schema has no `$defs` but those that refer to themselves; with `refuse_unknown`,
    objects in `Annotated` that have no effect are refused. Raises the DefinitionError of `subject`.
    """
    subject = subject or tool_subject(function)
    annotation = read_return_annotation(function, subject)
    if annotation is inspect.Signature.empty or _is_content(annotation, content_types):
        return Returns(None, False, Any)
    bare = typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation
    is_plain = any(bare is plain for plain in _WITHOUT_SCHEMA)
    if is_plain and bare is annotation:
        return Returns(None, False, annotation if bare in (str, type(None)) else Any)
    try:
        rewriter = AnnotationRewriter(outgoing=True, refuse_unknown=refuse_unknown)
        form = rewriter.rewrite(annotation)
        rewriter.prepare([form])
        if is_plain:
            schema, wrapped, is_open = None, False, True
            form = form if bare in (str, type(None)) else Any
        else:
            schema, wrapped = _schema(annotation, dereference=dereference)
            is_open = _is_open(annotation)
        if rewriter.adapters:
            return _read_built(annotation, Returns(schema, wrapped, form, is_open))
    except (UnsupportedAnnotationError, RecursionError) as error:
        raise subject.flaw(str(error), "return annotation") from error
    return Returns(schema, wrapped, form, is_open)


def _read_built(annotation: Any, returns: Returns) -> Returns:
    from trio_mcp.schema.adapters import make_builder

    build = make_builder(annotation)
    if build is None:
        return returns
    return BuiltReturns(returns.schema, returns.wrapped, returns._annotation, returns.is_open, build=build)


def _schema(annotation: Any, *, dereference: bool) -> tuple[dict[str, Any], bool]:
    rewriter = AnnotationRewriter(outgoing=True, describing=True)
    (schema,), definitions = describe_annotations([rewriter.rewrite(annotation)], rewriter)
    whole = object_schema(schema, definitions)
    if whole is not None:
        return with_definitions(whole, definitions, dereference=dereference), False
    wrapper = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    return with_definitions(wrapper, definitions, dereference=dereference), True


def _is_content(annotation: Any, content_types: tuple[type, ...]) -> bool:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _is_content(args[0], content_types)
    if origin in _UNIONS or (isinstance(origin, type) and issubclass(origin, typing.Collection)):
        return any(_is_content(arg, content_types) for arg in args)
    return isinstance(annotation, type) and issubclass(annotation, content_types)


def _is_open(annotation: Any) -> bool:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _is_open(args[0])
    if origin in _UNIONS or (isinstance(origin, type) and issubclass(origin, typing.Collection)):
        return any(_is_open(arg) for arg in args)
    is_bare_container = isinstance(annotation, type) and annotation in _CONTAINERS
    return is_bare_container or annotation in (Any, object)


def find_return_type(function: Callable[..., Any]) -> Any:
    """What a function returns by its annotation; Any without one, or if it cannot be read."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return typing.get_type_hints(function).get("return", Any)
    except (NameError, TypeError):  # names that only a type checker has; a callable without annotations
        return Any
