"""Functions around a handler, each of which is given the way to the next one inside it.

Owns their order, and the checks of what they hand on and return. Knows neither requests nor what the
innermost one does. It is imported when a server is first given middleware.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Any, Final, Generic, TypeVar

from trio_mcp.schema.signatures import unwrap

C = TypeVar("C")
R = TypeVar("R")


class Layers(Generic[C, R]):
    """What runs around one kind of handler: the function that was added first is the outermost.

    `run(context)` calls them all, and `innermost` in their middle. More may be added at any time, from any
    thread; what is running goes on with those that it began with.
    """

    def __init__(
        self, innermost: Callable[[C], Awaitable[R]], context_type: type[C], result_type: type[R]
    ) -> None:
        self._innermost: Final = innermost
        self._context_type: Final = context_type
        self._result_type: Final = result_type
        self._functions: tuple[Callable[[C, Callable[[C], Awaitable[R]]], Awaitable[R]], ...] = ()
        self._lock = Lock()
        self.run: Callable[[C], Awaitable[R]] = innermost

    def __repr__(self) -> str:
        return f"<Layers: {', '.join(map(_name, self._functions)) or 'none'}>"

    def __len__(self) -> int:
        return len(self._functions)

    def add(self, function: Callable[[C, Callable[[C], Awaitable[R]]], Awaitable[R]]) -> None:
        """Add a function, inside of all others; raises TypeError if it cannot be one."""
        _check(function)
        with self._lock:
            self._functions = (*self._functions, function)
            run = self._check_context(self._innermost, "call_next")
            for one in reversed(self._functions[1:]):
                run = self._check_context(self._wrap(one, run), "call_next")
            self.run = self._wrap(self._functions[0], run)

    def _wrap(
        self,
        function: Callable[[C, Callable[[C], Awaitable[R]]], Awaitable[R]],
        call_next: Callable[[C], Awaitable[R]],
    ) -> Callable[[C], Awaitable[R]]:
        expected = self._result_type

        async def run(context: C) -> R:
            result = await function(context, call_next)
            if not isinstance(result, expected):
                raise TypeError(
                    f"middleware {_name(function)} returned {result!r:.100}: it must return what call_next "
                    f"returned, or another {expected.__name__}"
                )
            return result

        return run

    def _check_context(self, run: Callable[[C], Awaitable[R]], name: str) -> Callable[[C], Awaitable[R]]:
        expected = self._context_type

        def call_next(context: C) -> Awaitable[R]:
            if not isinstance(context, expected):
                raise TypeError(
                    f"{name} takes the {expected.__name__} that the middleware was given, or one that its "
                    f"replace() has made, not {context!r:.100}"
                )
            return run(context)

        return call_next


def _check(function: Any) -> None:
    """Raise TypeError for what is no async function of a context and `call_next`."""
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"middleware must be an async function of (ctx, call_next), not {function!r}")
    if not inspect.iscoroutinefunction(unwrap(function)):
        raise TypeError(
            f"middleware {_name(function)} must be an async function: "
            "async def middleware(ctx, call_next): return await call_next(ctx)"
        )
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise TypeError(
            f"middleware {_name(function)} must take (ctx, call_next), and need no more: {error}"
        ) from None


def _name(function: Any) -> str:
    """How messages call a middleware."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__name__
