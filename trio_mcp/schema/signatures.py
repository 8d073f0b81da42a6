"""The signature of a function, with its annotations resolved.

Owns the ways in which Python hides a function (partial, methods, wrappers,
callable objects) and the names that its annotations may use. Knows nothing of
JSON.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from trio_mcp.errors import DefinitionError, ToolDefinitionError

Function = Callable[..., Any]


class Subject(msgspec.Struct, frozen=True):
    """What a function is to become: its kind and name for messages, and the exception for its flaws."""

    text: str
    error: type[DefinitionError] = ToolDefinitionError

    def flaw(self, problem: str, part: str = "") -> DefinitionError:
        """The exception that says `problem`, of the whole or of one `part`."""
        where = f"{self.text}, {part}" if part else self.text
        return self.error(f"{where}: {problem}")


def tool_subject(function: Function) -> Subject:
    """The subject of a function that is a tool under its own name."""
    return Subject(f"tool {name_function(function)!r}")


class Parameter(msgspec.Struct, frozen=True):
    """One parameter; `default` is `inspect.Parameter.empty` if it has none.

    `make_default` makes a default that Python itself would not pass; None if Python does.
    """

    name: str
    annotation: Any
    default: Any
    make_default: Callable[[], Any] | None = None
    target: str | None = None
    """The name that the function has for it, if clients know it under another one."""
    is_rest: bool = False
    """Whether it takes all arguments that have no parameter of their own, as `**arguments` does."""

    @property
    def own_name(self) -> str:
        """The name that the function has for it."""
        return self.target or self.name

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def name_function(function: Function) -> str:
    """The name for messages."""
    bare = _unbound(function)
    return getattr(bare, "__name__", None) or type(bare).__name__


def read_signature(function: Function, subject: Subject) -> inspect.Signature:
    """The signature as written; raises DefinitionError if the function has none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError, NameError) as error:
        raise subject.error(f"{subject.text} has no usable signature: {error}") from error


def read_function_parameters(
    function: Function, extra_names: Mapping[str, Any], subject: Subject, *, rest: bool = False
) -> list[Parameter]:
    """The parameters that a caller passes by name; raises the DefinitionError of `subject`.

    Arguments that a `functools.partial` has bound are not among them. `extra_names` resolve
    annotations whose names exist only under `if TYPE_CHECKING`. With `rest`, `**arguments` is allowed.
    """
    bound = bound_names(function)
    resolve = make_resolver(function, extra_names, subject)
    parameters = []
    for parameter in read_signature(function, subject).parameters.values():
        if parameter.name in bound:
            continue
        part = f"parameter {parameter.name!r}"
        is_rest = rest and parameter.kind is parameter.VAR_KEYWORD
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and not is_rest:
            shown = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
            raise subject.flaw(
                f"a {parameter.kind.description} parameter ({shown}) cannot be called by name; "
                "every argument has a name",
                part,
            )
        empty = parameter.annotation is parameter.empty
        annotation = Any if empty else resolve(parameter.annotation, part)
        if any(map(_is_foreign_dependency, (parameter.default, *getattr(annotation, "__metadata__", ())))):
            raise subject.flaw(
                "its Depends is another library's, which nobody would fill: import Depends from trio_mcp",
                part,
            )
        parameters.append(Parameter(parameter.name, annotation, parameter.default, is_rest=is_rest))
    return parameters


def _is_foreign_dependency(value: Any) -> bool:
    """Whether a mark in a signature is what FastAPI and FastMCP call Depends; ours is read before."""
    return type(value).__name__ in ("Depends", "_Depends")


def read_return_annotation(function: Function, subject: Subject) -> Any:
    """The resolved return annotation, or `inspect.Signature.empty`; raises the error of `subject`."""
    signature = read_signature(function, subject)
    if signature.return_annotation is signature.empty:
        return signature.empty
    resolve = make_resolver(function, {}, subject)
    return resolve(signature.return_annotation, "return annotation")


def _unbound(function: Function) -> Any:
    """The function or object inside of partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def bound_names(function: Function) -> set[str]:
    """The parameters that a `functools.partial` passes by name."""
    return set(function.keywords) if isinstance(function, functools.partial) else set()


def unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that decides whether a call is async."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return type(function).__call__


def documented_objects(function: Function) -> list[Any]:
    """The objects whose docstring may describe `function`, the nearest first."""
    bare = _unbound(function)
    if inspect.isroutine(bare) or isinstance(bare, type):
        return [bare]
    return [type(bare).__call__, type(bare)]


def _defining(function: Function) -> Any:
    """The plain function whose names the annotations use."""
    bare = _unbound(function)
    if isinstance(bare, type):
        bare = vars(bare).get("__init__", bare)
    elif not inspect.isroutine(bare):
        bare = type(bare).__call__
    # A wrapper with a signature of its own also has annotations of its own.
    bare = inspect.unwrap(bare, stop=lambda f: hasattr(f, "__signature__"))
    bare = getattr(bare, "__func__", bare)
    return _defining(bare) if isinstance(bare, functools.partial) else bare


def make_resolver(
    function: Function, extra_names: Mapping[str, Any], subject: Subject
) -> Callable[[Any, str], Any]:
    """A function that evaluates an annotation of `function`, which stands at a part ("parameter 'a'").

    It raises the DefinitionError of `subject` for what cannot be evaluated.
    """
    defining = _defining(function)
    module = sys.modules.get(getattr(defining, "__module__", None) or "")
    global_names = getattr(defining, "__globals__", None) or getattr(module, "__dict__", {})
    local_names = _closure(defining) | {p.__name__: p for p in getattr(defining, "__type_params__", ())}

    def resolve(annotation: Any, part: str) -> Any:
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        try:
            return _evaluate(holder, global_names, local_names)
        except NameError:
            pass
        except Exception as error:  # evaluating an annotation runs the author's code
            raise subject.flaw(f"{annotation!r} is not an annotation: {error}", part) from error
        from trio_mcp.schema.local_names import find_local_names  # hardly any server needs it

        around = find_local_names(defining, global_names)
        try:
            return _evaluate(holder, global_names, {**extra_names, **around, **local_names})
        except NameError as error:
            raise subject.flaw(
                f"{annotation!r} cannot be resolved: {error}; names of a function are known while it runs",
                part,
            ) from error

    return resolve


def _evaluate(holder: Any, global_names: dict[str, Any], local_names: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(holder, dict(global_names), dict(local_names), include_extras=True)
    return hints["it"]


def _closure(function: Any) -> dict[str, Any]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found = {}
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            # The variable is assigned after the function is defined.
            continue
    return found
