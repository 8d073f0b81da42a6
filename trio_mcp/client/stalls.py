"""Being told that a call, or a task that is waited for, has stopped reporting.

Owns the progress handler that notices. Ends nothing by itself: for that there are
`idle_timeout` and the caller's scopes.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from trio_mcp.client.sink import ProgressHandler, ProgressSink, as_handler
from trio_mcp.runtime.lone import open_lone_nursery
from trio_mcp.runtime.stalls import watch_silence

StallHandler: TypeAlias = Callable[[float], Awaitable[None] | None]
"""Called as `on_stall(seconds)`, sync or async: for so long there was no progress."""


@asynccontextmanager
async def watch_stalls(
    handler: ProgressHandler | None = None, *, after: float, on_stall: StallHandler
) -> AsyncIterator[ProgressHandler]:
    """A progress handler for one call, that notices when nothing comes; checkpoints.

    Whenever no update has come for `after` seconds, from the beginning of the block on,
    `on_stall(after)` is called, sync or async: once for each silence. Give what the block gets to
    a call or a task as its `progress_handler`, and leave the block with it; it hands every update to
    `handler`, and the time which that takes is no silence.

    What `on_stall` raises ends the block and comes out of it, alone: so it can give up the call.
    Raises TypeError for what cannot be called, ValueError unless `after` is larger than 0.
    """
    inner = as_handler(handler)
    if isinstance(inner, ProgressSink):
        raise TypeError("watch_stalls takes a handler that is called with progress, total and message")
    if not callable(on_stall):
        raise TypeError(f"on_stall must be callable, not {on_stall!r}")
    if isinstance(after, bool) or not isinstance(after, (int, float)) or not after > 0:
        raise ValueError(f"after must be a number of seconds larger than 0, not {after!r}")
    last = trio.current_time()
    is_handling = False
    raised: BaseException | None = None

    def take(progress: float, total: float | None, message: str | None) -> Awaitable[None] | None:
        nonlocal last
        last = trio.current_time()
        pending = None if inner is None else inner(progress, total, message)
        return finish(pending) if inspect.isawaitable(pending) else None

    async def finish(pending: Awaitable[None]) -> None:
        nonlocal last, is_handling
        is_handling = True
        try:
            await pending
        finally:
            is_handling = False
            last = trio.current_time()

    async def watch() -> None:
        nonlocal raised
        try:
            await watch_silence(
                lambda: trio.current_time() if is_handling else last, after, lambda: on_stall(after)
            )
        except Exception as error:
            raised = error
            nursery.cancel_scope.cancel()

    async with open_lone_nursery() as nursery:
        nursery.start_soon(watch)
        yield take
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
