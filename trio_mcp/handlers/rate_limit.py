"""Fewer updates for a handler that is dear: at most so many a second, and never without the ends.

Owns when an update is due. The first of a call is handed over at once, one that was
held back as soon as its time comes, and the last before the call returns.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import trio

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallTimeout
from trio_mcp.handlers.sink import Progress, ProgressHandler, ProgressReceiver, ProgressSink, as_sink
from trio_mcp.validators import is_number, require_positive


def rate_limited(handler: ProgressHandler | ProgressSink, per_second: float) -> ProgressSink:
    """Hand over to `handler` at most `per_second` updates of each call a second.

    The first of a call comes at once. Of those that come too early the newest is kept,
    and handed over when its time has come, or when the call ends: so the last one is
    never lost. Where the call is cancelled or runs into a timeout, nobody waits for it.
    Raises ValueError for a rate that is none, TypeError for what is no progress handler.
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
    """A receiver that hands over to `receive` once in `interval` seconds; checkpoints."""
    limiter = _Limiter(receive, interval)
    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(limiter.hand_over_late)
        try:
            yield limiter.receive
        except (trio.Cancelled, CallTimeout):
            raise  # whoever waited has gone
        except BaseException:
            # An error is an answer too, which the last update comes before. A cancellation replaces it.
            await limiter.finish()  # noqa: ASYNC120
            raise
        else:
            await limiter.finish()
        nursery.cancel_scope.cancel()


class _Limiter:
    """The updates of one call: the newest that was not due is held."""

    def __init__(self, receive: ProgressReceiver, interval: float) -> None:
        self._receive = receive
        self._interval = interval
        self._due = -math.inf
        self._held: Progress | None = None
        self._is_busy = False  # while the receiver awaits, since it never runs twice at once
        self._changed = trio.lowlevel.ParkingLot()

    def receive(self, update: Progress) -> Awaitable[None] | None:
        """Hand over what is due, or hold it."""
        if not self._is_busy and trio.current_time() >= self._due:
            return self._hand_over(update)
        self._held = update
        self._changed.unpark_all()
        return None

    async def hand_over_late(self) -> None:
        """Hand over what was held when it is due, until this is cancelled."""
        while True:
            while self._held is None or self._is_busy:
                await self._changed.park()
            await trio.sleep_until(self._due)
            if trio.current_time() >= self._due:  # nothing has come through meanwhile
                await self._hand_over_held()

    async def finish(self) -> None:
        """Hand over what is held, due or not."""
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
        except BaseException as error:  # noqa: ASYNC103  # contain_failure raises it
            contain_failure(error, "a progress handler failed; the call goes on")

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
