"""Noticing that a call, or a task that is waited for, has stopped reporting.

Owns the progress handler that notices it. Refuses to end anything by itself: for that there are
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
"""Called as `on_stall(seconds)`, sync or async, if there was no progress for that long."""


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
    """Open a progress handler for one call that notices when no updates arrive; entering checkpoints.

    If no update has arrived for `after` seconds, beginning with the start of the block,
    `on_stall(after)` is called, sync or async, once for each silence. Pass the handler that the block
    yields to a call or a task as its `progress_handler`, and leave the block when that has ended. It
    passes every update to `handler`; time that `handler` takes is not a silence. For a `ProgressSink`
    the block yields a sink, which opens and closes the given one with the call.

    An exception of `on_stall` ends the block and is raised by it, not wrapped in a group: so
    `on_stall` can end the call. Raises TypeError if `on_stall` cannot be called, ValueError unless
    `after` is larger than 0.
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
        except Exception as error:  # of the user's `on_stall`; raised again when the block has ended
            raised = error
            nursery.cancel_scope.cancel()

    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(watch)
        yield (
            _Watched(handler, signs)
            if isinstance(handler, ProgressSink)
            else partial(signs.hand_over, handler)
        )
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


class _SignsOfLife:
    """The time of the last update; while the handler is running, that is now."""

    def __init__(self) -> None:
        self._last = trio.current_time()
        self._at_work = 0  # a sink may serve several calls at once

    def find_last(self) -> float:
        """The time of the last sign, on Trio's clock."""
        return trio.current_time() if self._at_work else self._last

    def begin_work(self) -> None:
        """Note that the handler starts to run; `end_work` must follow."""
        self._at_work += 1

    def end_work(self) -> None:
        """Note that the handler has finished."""
        self._at_work -= 1
        self._last = trio.current_time()

    def hand_over(
        self, handler: Callable[..., Awaitable[None] | None] | None, *update: Any
    ) -> Awaitable[None] | None:
        """Pass an update to `handler`, and note the time."""
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
    """Passes updates to a sink; the time in which that opens and closes is not a silence."""

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
                    yield partial(signs.hand_over, receive)
                finally:
                    signs.begin_work()
        finally:
            signs.end_work()
