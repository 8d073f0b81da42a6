"""Being told that a call, or a task that is waited for, has stopped reporting.

Owns the progress handler that notices. Ends nothing by itself: for that there are
`idle_timeout` and the caller's scopes.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, overload

import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.concurrency.silence import watch_silence
from trio_mcp.handlers.sink import ProgressHandler, ProgressReceiver, ProgressSink, as_handler
from trio_mcp.validators import require_seconds

StallHandler: TypeAlias = Callable[[float], Awaitable[None] | None]
"""Called as `on_stall(seconds)`, sync or async: for so long there was no progress."""


@overload
def watch_stalls(
    handler: ProgressSink, *, after: float, on_stall: StallHandler
) -> AbstractAsyncContextManager[ProgressSink]: ...
@overload
def watch_stalls(
    handler: ProgressHandler | None = None, *, after: float, on_stall: StallHandler
) -> AbstractAsyncContextManager[ProgressHandler]: ...
def watch_stalls(
    handler: ProgressHandler | ProgressSink | None = None, *, after: float, on_stall: StallHandler
) -> AbstractAsyncContextManager[Any]:
    """A progress handler for one call, that notices when nothing comes; entering checkpoints.

    Whenever no update has come for `after` seconds, from the beginning of the block on,
    `on_stall(after)` is called, sync or async: once for each silence. Give what the block gets to
    a call or a task as its `progress_handler`, and leave the block with it; it hands every update to
    `handler`, and the time which that takes is no silence. For a `ProgressSink` the block gets another one,
    which opens and closes it with the call.

    What `on_stall` raises ends the block and comes out of it, alone: so it can give up the call.
    Raises TypeError for what cannot be called, ValueError unless `after` is larger than 0.
    """
    checked = as_handler(handler)
    if not callable(on_stall):
        raise TypeError(f"on_stall must be callable, not {on_stall!r}")
    require_seconds("after", after)
    return _watch(checked, after, on_stall)


@asynccontextmanager
async def _watch(
    handler: ProgressHandler | ProgressSink | None, after: float, on_stall: StallHandler
) -> AsyncIterator[ProgressHandler | ProgressSink]:
    signs = _SignsOfLife()
    raised: BaseException | None = None

    async def watch() -> None:
        nonlocal raised
        try:
            await watch_silence(signs.find_last, after, lambda: on_stall(after))
        except Exception as error:
            raised = error
            nursery.cancel_scope.cancel()

    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(watch)
        yield _Watched(handler, signs) if isinstance(handler, ProgressSink) else partial(signs.take, handler)
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


class _SignsOfLife:
    """When the last update came; while the handler is at work, that is now."""

    def __init__(self) -> None:
        self._last = trio.current_time()
        self._at_work = 0  # a sink may serve several calls at once

    def find_last(self) -> float:
        """The time of the last sign, on Trio's clock."""
        return trio.current_time() if self._at_work else self._last

    def begin_work(self) -> None:
        """Note that the handler begins to work; each needs an `end_work`."""
        self._at_work += 1

    def end_work(self) -> None:
        """Note that it has done what it began."""
        self._at_work -= 1
        self._last = trio.current_time()

    def take(
        self, handler: Callable[..., Awaitable[None] | None] | None, *update: Any
    ) -> Awaitable[None] | None:
        """Hand an update over to `handler`."""
        self._last = trio.current_time()
        pending = None if handler is None else handler(*update)
        return self._finish(pending) if inspect.isawaitable(pending) else None

    async def _finish(self, pending: Awaitable[None]) -> None:
        self.begin_work()
        try:
            await pending
        finally:
            self.end_work()


class _Watched(ProgressSink):
    """Hands over to a sink; that opens and closes as ever, however long it takes."""

    def __init__(self, sink: ProgressSink, signs: _SignsOfLife) -> None:
        self._sink = sink
        self._signs = signs

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        signs = self._signs
        signs.begin_work()
        try:
            async with self._sink.open_call(tool) as receive:
                signs.end_work()
                try:
                    yield partial(signs.take, receive)
                finally:
                    signs.begin_work()
        finally:
            signs.end_work()
