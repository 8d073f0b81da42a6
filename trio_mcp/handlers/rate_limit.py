"""Limiting the rate of updates for an expensive handler, without losing the first or the last.

Owns when an update is due. The first update of a call is handed over at once, one that was held
back at the time when it is due, and the last before the call returns. Refuses to know what the
handler does.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import trio

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallTimeout
from trio_mcp.handlers.sink import Progress, ProgressHandler, ProgressReceiver, ProgressSink, as_sink
from trio_mcp.validators import is_number, require_positive

logger = logging.getLogger("trio_mcp.handlers")


def rate_limited(handler: ProgressHandler | ProgressSink, per_second: float) -> ProgressSink:
    """Make a handler that passes at most `per_second` updates of each call a second to `handler`.

    The first update of a call is passed on at once. Of those that arrive too early the newest is
    kept, and passed on when it is due or when the call ends, so the last one is never lost. If the
    call is cancelled or ends by a timeout, an update that is kept is dropped. Raises ValueError for
    a rate that is not positive, TypeError for one that is not a number or for no progress handler.
    """
    if not is_number(per_second):
        raise TypeError(f"per_second must be a number, not {per_second!r}")
    require_positive("per_second", per_second)
    return _RateLimited(as_sink(handler), 1 / per_second)


class _RateLimited(ProgressSink):
    def __init__(self, sink: ProgressSink, interval: float) -> None:
        self._sink = sink
        self._interval = interval

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        async with self._sink.open_call(tool) as receive, open_limiter(receive, self._interval) as limited:
            yield limited


@asynccontextmanager
async def open_limiter(receive: ProgressReceiver, interval: float) -> AsyncIterator[ProgressReceiver]:
    """Open a receiver that calls `receive` at most once in `interval` seconds; checkpoints."""
    limiter = _Limiter(receive, interval)
    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(limiter.hand_over_late)
        try:
            yield limiter.receive
        except (trio.Cancelled, CallTimeout):
            raise  # nobody waits for the call any more
        except BaseException:
            # Cleans up and raises again: an error is an answer too, and the last update comes before it.
            await limiter.finish()  # noqa: ASYNC120
            raise
        else:
            await limiter.finish()
        nursery.cancel_scope.cancel()


class _Limiter:
    """Limits the updates of one call; the newest one that was not due is held."""

    def __init__(self, receive: ProgressReceiver, interval: float) -> None:
        self._receive = receive
        self._interval = interval
        self._due = -math.inf
        self._held: Progress | None = None
        self._is_busy = False  # whether an async receiver is running; it never runs twice at once
        self._changed = trio.lowlevel.ParkingLot()

    def receive(self, update: Progress) -> Awaitable[None] | None:
        """Hand over an update if it is due, else hold it."""
        if not self._is_busy and trio.current_time() >= self._due:
            return self._hand_over(update)
        self._held = update
        self._changed.unpark_all()
        return None

    async def hand_over_late(self) -> None:
        """Hand over each held update when it is due; runs until cancelled."""
        while True:
            while self._held is None or self._is_busy:
                await self._changed.park()
            await trio.sleep_until(self._due)
            if trio.current_time() >= self._due:  # no other update was handed over meanwhile
                await self._hand_over_held()

    async def finish(self) -> None:
        """Hand over the held update, even if it is not due."""
        while self._is_busy:
            await self._changed.park()
        await self._hand_over_held()

    async def _hand_over_held(self) -> None:
        if self._held is None or self._is_busy:
            return
        try:
            pending = self._hand_over(self._held)
            if pending is not None:
                await pending
        except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything
            contain_failure(error, "a progress handler", logger, "failed; the call goes on")

    def _hand_over(self, update: Progress) -> Awaitable[None] | None:
        self._held = None
        self._due = trio.current_time() + self._interval
        pending = self._receive(update)
        if pending is None or not inspect.isawaitable(pending):
            return None
        self._is_busy = True
        return self._wait(pending)

    async def _wait(self, pending: Awaitable[None]) -> None:
        try:
            await pending
        finally:
            self._is_busy = False
            self._changed.unpark_all()
