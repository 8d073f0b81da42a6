"""Handlers that are no tools: what a decorator makes of the function, and how it is called.

It is called in place if it is async, in a worker thread if not. `ToolDefinition.call` does the same by
itself, because a call of a tool is on the hot path.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import trio

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Completable(Protocol):
    """A prompt or a resource template, whose arguments or variables functions complete."""

    def add_completer(self, name: str, function: Callable[..., Any]) -> None:
        """Let `function` complete `name`; raises DefinitionError if it cannot."""


class CompletableFunction(Generic[P, R]):
    """What `@server.prompt` and `@server.resource` make of a function: it is called as before.

    It can also be given functions that complete its arguments.
    """

    def __init__(self, function: Callable[P, R], definition: Completable) -> None:
        self.function = function
        self.definition = definition
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<CompletableFunction {self.function!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def complete(self, name: str, /) -> Callable[[F], F]:
        """Register a function that completes an argument: `@my_prompt.complete("style")` (MCP completion).

        `name` is an argument of the prompt, or a variable of the resource's template. The function, sync or
        async, gets the text typed so far, and the others that have a value already, as a dict of texts, if
        it has a second parameter. A parameter annotated with `Context` receives the context. It returns a
        list of texts, the best first, or a `Completion`. Raises PromptDefinitionError or
        ResourceDefinitionError for an unknown name, for one that has a function already, and for a function
        with other parameters.
        """

        def register(function: F) -> F:
            self.definition.add_completer(name, function)
            return function

        return register


def bare_function(function: Any) -> Any:
    """The function that was decorated already, as a prompt or resource; any other as it is."""
    return function.function if isinstance(function, CompletableFunction) else function


async def call_function(
    function: Callable[..., Any], kwargs: Mapping[str, Any], limiter: trio.CapacityLimiter, *, is_async: bool
) -> Any:
    """Call `function` with `kwargs`, and return what it returns.

    A sync function runs in a worker thread, which is abandoned if the request is cancelled.
    """
    if is_async:
        return await function(**kwargs)
    value = await trio.to_thread.run_sync(
        functools.partial(function, **kwargs), abandon_on_cancel=True, limiter=limiter
    )
    # It may be a lambda around an async function.
    return await value if inspect.isawaitable(value) else value
