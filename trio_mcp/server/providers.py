"""What provides the parameters of a handler that have `Depends`, as their signatures say it.

Owns the reading of those signatures, and how each kind of function is called. `injection.py` makes a handler
of what is found.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Annotated, Any, Final, TypeAlias

import attrs

from trio_mcp.errors import DefinitionError
from trio_mcp.schema.parameters import is_context
from trio_mcp.schema.signatures import (
    Subject,
    bound_names,
    make_resolver,
    name_function,
    read_return_annotation,
    read_signature,
    unwrap,
)
from trio_mcp.server.context import Context
from trio_mcp.server.dependency_run import CONTEXTLIB_CODE
from trio_mcp.server.depends import Dependency

Function: TypeAlias = Callable[..., Any]

_MANAGERS: Final = (AbstractAsyncContextManager, AbstractContextManager)
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_REST: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@attrs.frozen(eq=False)
class Needs:
    """What a function is given beside its arguments, by the names of its parameters."""

    contexts: Sequence[str]
    dependencies: Mapping[str, Dependency]
    arguments: Sequence[inspect.Parameter]
    """All other parameters, with resolved annotations."""


@attrs.frozen(eq=False)
class Provider:
    """A function that provides a value, with the providers of what it needs, by parameter.

    It is called by `call`, in a worker thread if it `may_block`; if it `enters`, that returns a context
    manager.
    """

    function: Function
    contexts: Sequence[str]
    needs: Mapping[str, Need]
    call: Function
    may_block: bool
    enters: bool


@attrs.frozen(eq=False)
class Need:
    """What one parameter receives: the mark in the signature, and what provides it."""

    dependency: Dependency
    provider: Provider


def read_needs(function: Function, subject: Subject) -> Needs:
    """What `function` needs; raises the DefinitionError of `subject` for what cannot be provided."""
    resolve = make_resolver(function, {Context.__name__: Context}, subject)
    bound = bound_names(function)
    contexts: list[str] = []
    dependencies: dict[str, Dependency] = {}
    arguments: list[inspect.Parameter] = []
    for parameter in read_signature(function, subject).parameters.values():
        part = f"parameter {parameter.name!r}"
        is_marked = isinstance(parameter.default, Dependency)
        if parameter.name in bound and not is_marked:
            continue  # a partial passes it already
        try:
            annotation = _resolve(resolve, parameter, part)
        except DefinitionError:
            if not is_marked or parameter.default.function is None:
                raise
            annotation = Any  # its name may exist for type checkers only
        dependency = _find_dependency(parameter, annotation, subject, part)
        has_name = parameter.kind in _BY_NAME
        if dependency is not None and not has_name:
            raise subject.flaw("it cannot be passed by name, as everything is that is provided", part)
        if dependency is not None:
            dependencies[parameter.name] = dependency
        elif has_name and is_context(annotation, Context):
            contexts.append(parameter.name)
        else:
            arguments.append(parameter.replace(annotation=annotation))
    return Needs(contexts, dependencies, arguments)


def _resolve(resolve: Callable[[Any, str], Any], parameter: inspect.Parameter, part: str) -> Any:
    empty = parameter.annotation is parameter.empty
    return parameter.annotation if empty else resolve(parameter.annotation, part)


def _find_dependency(
    parameter: inspect.Parameter, annotation: Any, subject: Subject, part: str
) -> Dependency | None:
    """The `Depends` of a parameter, which has its function; None if there is none."""
    bare = annotation = getattr(annotation, "__value__", annotation)  # of `type Name = Annotated[...]`
    marks: list[Dependency] = []
    if typing.get_origin(annotation) is Annotated:
        bare = annotation.__origin__
        marks += (item for item in annotation.__metadata__ if isinstance(item, Dependency))
    if isinstance(parameter.default, Dependency):
        marks.append(parameter.default)
    if _is_marked_inside(bare):
        raise subject.flaw("Depends stands beside the whole type: Annotated[Db, Depends(get_db)]", part)
    if len(marks) > 1:
        raise subject.flaw(f"it has several dependencies: {', '.join(map(repr, marks))}", part)
    if not marks or marks[0].function is not None:
        return marks[0] if marks else None
    if not isinstance(bare, type):
        raise subject.flaw(
            "Depends() stands for the class of the annotation, and there is none: name a function", part
        )
    return attrs.evolve(marks[0], function=bare)


def _is_marked_inside(annotation: Any) -> bool:
    if isinstance(annotation, Dependency):
        return True
    metadata = getattr(annotation, "__metadata__", ()) if typing.get_origin(annotation) is Annotated else ()
    return any(map(_is_marked_inside, (*typing.get_args(annotation), *metadata)))


class ProviderReader:
    """Reads the functions on which one handler depends, each once.

    All of them are read when the handler is registered: names that their annotations use may be known only
    then. Raises the DefinitionError of `subject` if nobody can give a function what it needs.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._known: list[Provider] = []

    def find(
        self, dependencies: Mapping[str, Dependency], path: Sequence[Function] = ()
    ) -> Mapping[str, Need]:
        """What provides each of the dependencies, which the functions in `path` need."""
        found = {}
        for name, dependency in dependencies.items():
            assert dependency.function is not None, "_find_dependency has found it"
            found[name] = Need(dependency, self.read(dependency.function, path))
        return found

    def read(self, function: Function, path: Sequence[Function] = ()) -> Provider:
        """What provides a value by `function`."""
        for provider in self._known:
            if is_same(provider.function, function):
                return provider
        name = f"dependency {name_function(function)}"
        path = (*path, function)
        if any(is_same(one, function) for one in path[:-1]):
            raise self._subject.flaw(f"it needs itself: {' -> '.join(map(name_function, path))}", name)
        subject = Subject(f"{self._subject.text}, {name}", self._subject.error)
        needs = read_needs(function, subject)
        for parameter in needs.arguments:
            if parameter.default is parameter.empty and parameter.kind not in _REST:
                raise subject.flaw(
                    "nobody gives it a value: a parameter of a dependency needs a Depends, a default, or the "
                    "annotation Context",
                    f"parameter {parameter.name!r}",
                )
        provider = _make_provider(function, needs.contexts, self.find(needs.dependencies, path), subject)
        self._known.append(provider)
        return provider


def _make_provider(
    function: Function, contexts: Sequence[str], needs: Mapping[str, Need], subject: Subject
) -> Provider:
    """How `function` is called, and whether what it returns is entered."""
    inner = unwrap(function)
    may_block = enters = False
    call = function
    if inspect.isasyncgenfunction(inner):
        call, enters = asynccontextmanager(function), True
    elif inspect.isgeneratorfunction(inner):
        call, enters = contextmanager(function), True
    elif getattr(inner, "__code__", None) in CONTEXTLIB_CODE:
        enters = True
    elif isinstance(function, type):
        may_block = not hasattr(function, "__aenter__")
        enters = not may_block or hasattr(function, "__enter__")
    elif not inspect.iscoroutinefunction(inner):
        may_block, enters = True, _is_said_to_manage(function, subject)
    return Provider(function, contexts, needs, call, may_block, enters)


def _is_said_to_manage(function: Function, subject: Subject) -> bool:
    """Whether a function says by its annotation that it returns a context manager."""
    try:
        returned = read_return_annotation(function, subject)
    except DefinitionError:
        return False
    return (typing.get_origin(returned) or returned) in _MANAGERS


def is_same(one: Function, other: Function) -> bool:
    """Whether both are one function, or one method of one object."""
    return one is other or (inspect.ismethod(one) and inspect.ismethod(other) and one == other)
