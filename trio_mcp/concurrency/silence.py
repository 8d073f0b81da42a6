"""Noticing that something has gone silent.

Owns the waiting: once for each silence, at the moment when it has lasted long enough.
Knows neither what is watched nor what is to be done.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import trio


async def watch_silence(
    find_last: Callable[[], float], after: float, on_silence: Callable[[], Awaitable[Any] | Any]
) -> None:
    """Call `on_silence()`, sync or async, whenever there was no sign of life for `after` seconds.

    `find_last` tells when the last sign was, on Trio's clock. Once for each silence; the next one
    begins with the next sign. Runs until it is cancelled, or raises what `on_silence` raises.
    """
    told: float | None = None
    while True:  # noqa: ASYNC913  # each turn sleeps
        last = find_last()
        if trio.current_time() < last + after:
            await trio.sleep_until(last + after)
            continue
        if last != told:
            told = last
            pending = on_silence()
            if inspect.isawaitable(pending):
                await pending
        await trio.sleep(after)  # no other silence can have lasted long enough before
