"""Handlers with parameters that `Depends` fills: what is called in their place, and what clients see of it.

Owns the order in which the dependencies of a handler are made, also if something takes the place of one in a
test. It is settled before a call; `dependency_run.py` makes them and cleans up.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from trio_mcp.errors import DefinitionError
from trio_mcp.schema.signatures import (
    Subject,
    documented_objects,
    name_function,
    read_return_annotation,
    read_signature,
    unwrap,
)
from trio_mcp.server.context import Context
from trio_mcp.server.dependency_run import Run, Step
from trio_mcp.server.providers import Function, Need, Needs, Provider, ProviderReader, is_same, read_needs

CONTEXT_NAME: Final = "__context"
"""The parameter of a handler that takes no Context itself: no argument has such a name."""

Overrides: TypeAlias = Sequence[tuple[Function, Provider]]
"""What takes the place of which dependency; the last one counts."""


class Injected(Struct, frozen=True, eq=False):
    """A handler in place of one that has dependencies; its signature is what clients see.

    It `holds_thread` if a worker thread waits while the handler, or what it depends on, uses its Context.
    """

    function: Function
    holds_thread: bool


def inject(function: Function, subject: Subject) -> Injected | None:
    """The handler that makes the dependencies of `function` and calls it; None if it has none.

    Raises the DefinitionError of `subject`, which names the parameter and the dependency.
    """
    needs = read_needs(function, subject)
    if not needs.dependencies:
        return None
    plan = _Plan(ProviderReader(subject).find(needs.dependencies))
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


class _Plan:
    """In which order the dependencies of one handler are made, with the overrides for which that holds.

    `sources` are the dependencies of the handler's parameters, by their places among the `steps`.
    """

    def __init__(self, needs: Mapping[str, Need]) -> None:
        self._needs = needs
        self.settle(())

    def settle(self, overrides: Overrides) -> None:
        """Find the order."""
        order = _Order()
        self.sources = {name: order.place(need, overrides) for name, need in self._needs.items()}
        self.steps, self.overrides = order.steps, overrides


class _Order:
    """The steps by which dependencies are made, each behind those that it needs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._shared: list[tuple[Function, int]] = []

    def place(self, need: Need, overrides: Overrides) -> int:
        """The place among the steps of what a parameter needs, which has a step from now on."""
        provider, thread = need.provider, need.dependency.thread
        replaced = provider.function
        for one, replacement in overrides:
            if is_same(one, replaced):
                provider, thread = replacement, False
        if provider is not need.provider:
            # It may depend on what it replaces.
            overrides = [pair for pair in overrides if not is_same(pair[0], replaced)]
        for function, known in self._shared if need.dependency.use_cache else ():
            if is_same(function, provider.function):
                return known
        sources = tuple((name, self.place(inner, overrides)) for name, inner in provider.needs.items())
        in_thread = thread and provider.may_block
        self.steps.append(
            Step(provider.call, tuple(provider.contexts), sources, in_thread, provider.enters, thread)
        )
        place = len(self.steps) - 1
        if need.dependency.use_cache:
            self._shared.append((provider.function, place))
        return place
