"""`Depends`: how a program says that a parameter of a handler is no argument, but what a function provides.

Owns the mark that stands in a signature. It is read when a handler is registered (`injection.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, overload

import attrs

from trio_mcp.schema.signatures import name_function

if TYPE_CHECKING:
    from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager

T = TypeVar("T")


@attrs.frozen(eq=False, repr=False)
class Dependency:
    """What `Depends` returns: the function that provides a value, None for the class of the annotation."""

    function: Callable[..., Any] | None
    use_cache: bool
    thread: bool

    def __repr__(self) -> str:
        return f"Depends({'' if self.function is None else name_function(self.function)})"


@overload
def Depends(
    function: Callable[..., _AsyncGeneratorContextManager[T, Any]],
    *,
    use_cache: bool = True,
    thread: bool = True,
) -> T: ...


@overload
def Depends(
    function: Callable[..., _GeneratorContextManager[T, Any, Any]],
    *,
    use_cache: bool = True,
    thread: bool = True,
) -> T: ...


@overload
def Depends(
    function: Callable[..., AsyncIterator[T]], *, use_cache: bool = True, thread: bool = True
) -> T: ...


@overload
def Depends(function: Callable[..., Iterator[T]], *, use_cache: bool = True, thread: bool = True) -> T: ...


@overload
def Depends(function: Callable[..., Awaitable[T]], *, use_cache: bool = True, thread: bool = True) -> T: ...


@overload
def Depends(function: Callable[..., T], *, use_cache: bool = True, thread: bool = True) -> T: ...


@overload
def Depends(*, use_cache: bool = True, thread: bool = True) -> Any: ...


def Depends(  # noqa: N802  # it is written as a class is, as in other frameworks
    function: Callable[..., Any] | None = None, *, use_cache: bool = True, thread: bool = True
) -> Any:
    """Let `function` provide a parameter: `db: Annotated[Db, Depends(get_db)]` or `db: Db = Depends(get_db)`.

    It works in tools, prompts, resources, templates and functions that complete arguments; clients do not see
    the parameter. `function` is called anew for each run of the handler: a call, an attempt of a task, a call
    by another tool. It may be sync or async, return the value, or yield it once and clean up behind the
    `yield`; it may be a context manager made by `contextlib`, a function annotated to return one, or a class,
    which is entered if it is a context manager. Any other object that is returned is not entered, because
    others may share it. `Depends()` alone stands for the class of the annotation.

    The parameters of `function` may be provided in the same way, and one that is annotated with `Context`
    receives the context of the handler; all others need defaults. What several parameters depend on is made
    once for a run, unless `use_cache` is False.

    What is sync runs in a worker thread, also its cleanup, and in Trio's thread if `thread` is False: for
    what neither blocks nor computes for long. Cleanup runs in reverse order when the handler has ended,
    however it has ended, and before its result is sent. It is not cancelled with the call, but takes at most
    `ServerSettings.cleanup_timeout` seconds. What it raises is the failure of the call.

    The type checker sees the value. Raises TypeError for what is no function.
    """
    if function is not None and not callable(function):
        cure = "pass the function itself, and do not call it" if inspect.isawaitable(function) else ""
        cure = cure or "pass a function that returns it, such as a lambda"
        raise TypeError(f"Depends takes a function that provides the value, not {function!r}: {cure}")
    return Dependency(function, use_cache, thread)
