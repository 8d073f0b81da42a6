"""Handlers with parameters that `Depends` fills: how they are found, and in which order theirs are made.

Owns the reading of signatures with `Depends`, the order in which dependencies are made, and what takes the
place of one in a test. All of that is settled at registration; `dependency_run.py` makes and cleans up.
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
from msgspec import Struct

from trio_mcp.errors import DefinitionError
from trio_mcp.schema.parameters import is_context
from trio_mcp.schema.signatures import (
    Subject,
    bound_names,
    documented_objects,
    make_resolver,
    name_function,
    read_return_annotation,
    read_signature,
    unwrap,
)
from trio_mcp.server.context import Context
from trio_mcp.server.dependency_run import CONTEXTLIB_CODE, Run, Step
from trio_mcp.server.depends import Dependency

Function: TypeAlias = Callable[..., Any]
Overrides: TypeAlias = Sequence[tuple[Function, Function]]
"""What takes the place of which dependency."""

CONTEXT_NAME: Final = "__context"
"""The parameter of a handler that takes no Context itself: no argument has such a name."""

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


class Injected(Struct, frozen=True, eq=False):
    """A handler in place of one that has dependencies; its signature is what clients see.

    It `holds_thread` if a worker thread waits while the handler, or what it depends on, uses its Context.
    """

    function: Function
    holds_thread: bool


@attrs.define(eq=False)
class _Plan:
    """In which order the dependencies of one handler are made, with the overrides for which that holds."""

    needs: Needs
    subject: Subject
    overrides: Overrides = ()
    steps: Sequence[Step] = ()
    sources: Mapping[str, int] = attrs.field(factory=dict)
    """The dependency of each parameter of the handler, by its place among the steps."""

    def settle(self, overrides: Overrides) -> None:
        """Find the order; raises DefinitionError for a function that cannot be a dependency."""
        order = _Order(self.subject)
        needed = self.needs.dependencies.items()
        sources = {name: order.place(dependency, overrides, ()) for name, dependency in needed}
        self.overrides, self.steps, self.sources = overrides, order.steps, sources


def inject(function: Function, subject: Subject) -> Injected | None:
    """The handler that makes the dependencies of `function` and calls it; None if it has none.

    Raises the DefinitionError of `subject`, which names the parameter and the dependency.
    """
    needs = read_needs(function, subject)
    if not needs.dependencies:
        return None
    plan = _Plan(needs, subject)
    plan.settle(())
    is_async = inspect.iscoroutinefunction(unwrap(function))
    hidden = () if needs.contexts else (CONTEXT_NAME,)
    context_name = (*needs.contexts, *hidden)[0]

    async def call(**given: Any) -> Any:
        context: Context = given[context_name]
        for name in hidden:
            del given[name]
        overrides: Overrides = () if context.server is None else context.server.definition.overrides
        if overrides is not plan.overrides:
            plan.settle(overrides)
        return await Run(context, function, is_async, given, plan.steps, plan.sources).run()

    call.__name__ = name_function(function)
    call.__doc__ = next(filter(None, (found.__doc__ for found in documented_objects(function))), None)
    # What inspect reads; a type checker knows no such attribute of a function.
    vars(call)["__signature__"] = _visible_signature(function, needs, hidden, subject)
    holds_thread = not is_async or any(step.in_thread and step.contexts for step in plan.steps)
    return Injected(call, holds_thread)


def _visible_signature(
    function: Function, needs: Needs, hidden: Sequence[str], subject: Subject
) -> inspect.Signature:
    """The signature of `function` without what is provided, and with a parameter for the context."""
    contexts = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Context)
        for name in (*needs.contexts, *hidden)
    ]
    rest = [parameter for parameter in needs.arguments if parameter.kind is parameter.VAR_KEYWORD]
    named = [parameter for parameter in needs.arguments if parameter.kind is not parameter.VAR_KEYWORD]
    try:
        returned = read_return_annotation(function, subject)
    except DefinitionError:  # it is not read if the program gives a schema of the result
        returned = read_signature(function, subject).return_annotation
    return inspect.Signature([*named, *contexts, *rest], return_annotation=returned)


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
        raise subject.flaw("Depends must stand outside: Annotated[list[Item], Depends(get_items)]", part)
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


class _Order:
    """The steps by which dependencies are made, each behind those that it needs."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.steps: list[Step] = []
        self._shared: list[tuple[Function, int]] = []

    def place(self, dependency: Dependency, overrides: Overrides, path: Sequence[Function]) -> int:
        """The place among the steps of what `dependency` provides; `path` are the functions that need it."""
        function = dependency.function
        assert function is not None, "_find_dependency has found it"
        thread = dependency.thread
        replacement = next((other for one, other in reversed(overrides) if is_same(one, function)), None)
        if replacement is not None:
            # It may depend on what it replaces.
            overrides = [pair for pair in overrides if not is_same(pair[0], function)]
            function, thread = replacement, False
        if dependency.use_cache:
            known = next((place for one, place in self._shared if is_same(one, function)), None)
            if known is not None:
                return known
        path = (*path, function)
        if any(is_same(one, function) for one in path[:-1]):
            names = " -> ".join(map(name_function, path))
            raise self._subject.flaw(f"it needs itself: {names}", f"dependency {name_function(function)}")
        needs = read_provider(function, self._subject)
        sources = {name: self.place(inner, overrides, path) for name, inner in needs.dependencies.items()}
        self.steps.append(_make_step(function, needs.contexts, sources, self._subject, thread=thread))
        place = len(self.steps) - 1
        if dependency.use_cache:
            self._shared.append((function, place))
        return place


def is_same(one: Function, other: Function) -> bool:
    """Whether both are one function, or one method of one object."""
    return one is other or (inspect.ismethod(one) and inspect.ismethod(other) and one == other)


def read_provider(function: Function, subject: Subject) -> Needs:
    """What a dependency needs; raises the DefinitionError of `subject` for what nobody can give it."""
    subject = Subject(f"{subject.text}, dependency {name_function(function)}", subject.error)
    needs = read_needs(function, subject)
    for parameter in needs.arguments:
        if parameter.default is parameter.empty and parameter.kind not in _REST:
            raise subject.flaw(
                "nobody gives it a value: a parameter of a dependency needs a Depends, a default, or the "
                "annotation Context",
                f"parameter {parameter.name!r}",
            )
    return needs


def check_replacement(dependency: Any, replacement: Any) -> None:
    """Refuse what cannot take the place of a dependency; raises TypeError and DefinitionError."""
    for given in (dependency, replacement):
        if not callable(given):
            raise TypeError(f"one function takes the place of another, and {given!r} is none")
    subject = Subject(f"the replacement of {name_function(dependency)}", DefinitionError)
    _Order(subject).place(Dependency(replacement, use_cache=True, thread=False), (), ())


def _make_step(
    function: Function, contexts: Sequence[str], sources: Mapping[str, int], subject: Subject, *, thread: bool
) -> Step:
    """How `function` is called, and whether what it returns is entered."""
    inner = unwrap(function)
    is_async, in_place, enters = inspect.iscoroutinefunction(inner), False, False
    if inspect.isasyncgenfunction(inner):
        function, in_place, enters = asynccontextmanager(function), True, True
    elif inspect.isgeneratorfunction(inner):
        function, in_place, enters = contextmanager(function), True, True
    elif getattr(inner, "__code__", None) in CONTEXTLIB_CODE:
        in_place = enters = True
    elif isinstance(function, type):
        in_place = hasattr(function, "__aenter__")
        enters = in_place or hasattr(function, "__enter__")
    elif not is_async:
        enters = _is_said_to_manage(function, subject)
    in_thread = thread and not (is_async or in_place)
    return Step(function, tuple(contexts), tuple(sources.items()), in_thread, enters, thread)


def _is_said_to_manage(function: Function, subject: Subject) -> bool:
    """Whether a function says by its annotation that it returns a context manager."""
    try:
        returned = read_return_annotation(function, subject)
    except DefinitionError:
        return False
    return (typing.get_origin(returned) or returned) in _MANAGERS
