"""One run of a handler with its dependencies: they are made in order, and cleaned up in reverse.

Owns the worker threads of what is sync, and the time that cleanup may take. Which function needs which is
settled in `injection.py`.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from types import TracebackType
from typing import Any, Final

import trio
from msgspec import Struct

from trio_mcp.server.context import Context
from trio_mcp.session.settings import DEFAULT_CLEANUP_SECONDS
from trio_mcp.validators import describe_seconds

logger = logging.getLogger("trio_mcp.server")


class Step(Struct, frozen=True, eq=False):
    """How one dependency is made.

    `contexts` are its parameters that receive the context, `sources` those that earlier steps provide, with
    their places. If it `enters`, what the function returns is a context manager, whose value counts;
    `in_thread` says where the function is called, and `thread` where a sync context manager is entered and
    left.
    """

    function: Callable[..., Any]
    contexts: tuple[str, ...]
    sources: tuple[tuple[str, int], ...]
    in_thread: bool
    enters: bool
    thread: bool


class Run(Struct, frozen=True, eq=False):
    """One run of a handler: `function`, which is called with the arguments `given`.

    `sources` are its parameters that steps provide, with the places of those.
    """

    context: Context
    function: Callable[..., Any]
    is_async: bool
    given: dict[str, Any]
    steps: Sequence[Step]
    sources: Mapping[str, int]

    async def run(self) -> Any:
        """Make what the steps provide, call the function and clean up; returns its result. Checkpoints.

        Raises what the function and the dependencies raise, and TooSlowError if cleanup takes too long.
        """
        server = self.context.server
        seconds = DEFAULT_CLEANUP_SECONDS if server is None else server.settings.cleanup_timeout
        # This scope is around those that dependencies keep open, so that it can shield their end.
        scope = trio.CancelScope()
        try:
            with scope:
                return await self._run_within(scope, seconds)
        finally:
            if scope.cancel_called and not scope.cancelled_caught:
                text = "the dependencies of %s were not cleaned up within %s"
                logger.warning(text, self.context, describe_seconds(seconds))
        raise trio.TooSlowError(f"the cleanup of dependencies took longer than {describe_seconds(seconds)}")

    async def _run_within(self, scope: trio.CancelScope, seconds: float) -> Any:
        failure: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                try:
                    return await self._call(_Maker(stack, self.context.thread_limiter))
                except BaseException as error:
                    failure = error
                    raise
                finally:
                    # A call that is cancelled cleans up as well.
                    scope.shield = True
                    scope.deadline = trio.current_time() + seconds
        finally:
            scope.shield = False
        await trio.lowlevel.checkpoint_if_cancelled()
        raise RuntimeError("a dependency suppressed what ended the handler, which has no result") from failure

    async def _call(self, maker: _Maker) -> Any:
        values: list[Any] = []
        for step in self.steps:
            kwargs = dict.fromkeys(step.contexts, self.context)
            kwargs.update((name, values[place]) for name, place in step.sources)
            values.append(await maker.make(step, kwargs))
        given = self.given | {name: values[place] for name, place in self.sources.items()}
        if self.is_async:
            return await self.function(**given)
        return await maker.call_in_thread(functools.partial(self.function, **given))


class _Maker:
    """Makes the values of one run; what is to be cleaned up is in `stack`."""

    def __init__(self, stack: AsyncExitStack, limiter: trio.CapacityLimiter) -> None:
        self._stack = stack
        self._limiter = limiter
        self._has_managers = False

    async def make(self, step: Step, kwargs: Mapping[str, Any]) -> Any:
        """What the dependency of one step provides."""
        call = functools.partial(step.function, **kwargs)
        if step.in_thread:
            value = await self.call_in_thread(call)
        else:
            value = call()
            if inspect.isawaitable(value):
                value = await value
        if step.enters or isinstance(value, _ONE_SHOT):
            return await self._enter(value, in_thread=step.thread)
        return value

    async def call_in_thread(self, call: Callable[[], Any]) -> Any:
        """Call a sync function in a worker thread, and await what it returns, if that can be awaited.

        The thread is abandoned if the run is cancelled. If there is something to clean up by then, that waits
        until the thread has ended, which may use it.
        """

        def call_boxed() -> list[Any]:
            return [call()]  # Trio refuses a thread that returns a coroutine, as a lambda may

        if self._has_managers:
            threaded = _ThreadedCall(call_boxed)
            self._stack.push_async_callback(threaded.wait_ended)
            boxed = await threaded.run(self._limiter)
        else:
            boxed = await trio.to_thread.run_sync(call_boxed, abandon_on_cancel=True, limiter=self._limiter)
        value = boxed[0]
        return await value if inspect.isawaitable(value) else value

    async def _enter(self, manager: Any, *, in_thread: bool) -> Any:
        self._has_managers = True
        if isinstance(manager, AbstractAsyncContextManager):
            return await self._stack.enter_async_context(manager)
        if not isinstance(manager, AbstractContextManager):
            raise TypeError(f"a dependency should have made a context manager, and made {manager!r}")
        if not in_thread:
            return self._stack.enter_context(manager)
        threaded = _ThreadedManager(manager)
        self._stack.push_async_exit(threaded.leave)
        return await threaded.enter(self._limiter)


class _ThreadedCall:
    """A call in a worker thread whose end can be waited for, also if the thread was abandoned."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._has_begun = self._is_abandoned = False
        self._ended = trio.Event()

    async def run(self, limiter: trio.CapacityLimiter) -> Any:
        """Call the function; checkpoints."""
        work = functools.partial(self._work, trio.lowlevel.current_trio_token())
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)

    def _work(self, token: trio.lowlevel.TrioToken) -> Any:
        with self._lock:
            if self._is_abandoned:
                return None
            self._has_begun = True
        try:
            return self._call()
        finally:
            token.run_sync_soon(self._ended.set)

    async def wait_ended(self) -> None:
        """Wait until the thread has left the function. If it has not entered it yet, it never will."""
        with self._lock:
            self._is_abandoned = True
        if self._has_begun:
            await self._ended.wait()


class _ThreadedManager:
    """A sync context manager that worker threads enter and leave."""

    def __init__(self, manager: AbstractContextManager[Any]) -> None:
        self._manager = manager
        self._entering = _ThreadedCall(self._enter)
        self._lock = threading.Lock()
        self._is_entered = self._is_given_up = False

    async def enter(self, limiter: trio.CapacityLimiter) -> Any:
        """Enter it; checkpoints."""
        return await self._entering.run(limiter)

    def _enter(self) -> Any:
        value = self._manager.__enter__()
        with self._lock:
            self._is_entered = True
            if not self._is_given_up:
                return value
        self._manager.__exit__(None, None, None)  # nobody else does it any more
        return None

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Leave it, if it was entered; checkpoints."""
        try:
            await self._entering.wait_ended()
        finally:
            with self._lock:
                self._is_given_up = True
        if not self._is_entered:
            return False
        leave = functools.partial(self._manager.__exit__, kind, error, traceback)
        # Handlers may hold all threads of the server, and a cleanup must not wait for them.
        return await trio.to_thread.run_sync(leave, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))


@contextmanager
def _manager() -> Iterator[None]:
    yield


@asynccontextmanager
async def _async_manager() -> AsyncIterator[None]:
    yield


CONTEXTLIB_CODE: Final = (_manager.__code__, _async_manager.__code__)
"""The code of every function under `contextmanager`, and of every one under `asynccontextmanager`."""

_ONE_SHOT: Final = (type(_manager()), type(_async_manager()))
"""What functions under `contextmanager` and `asynccontextmanager` return: it has no use but to be entered."""
