"""Noticing that something has gone silent.

Owns the waiting, and that each silence is noticed once. Refuses to know what is watched and what is done
about it.
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

    `find_last` tells when the last sign was, on Trio's clock. `on_silence` is called once
    for each silence; the next silence begins with the next sign. Runs until it is cancelled, or raises
    what `on_silence` raises.
    """
    noticed: float | None = None
    while True:  # noqa: ASYNC913  # each turn sleeps
        last = find_last()
        if trio.current_time() < last + after:
            await trio.sleep_until(last + after)
            continue
        if last != noticed:
            noticed = last
            pending = on_silence()
            if inspect.isawaitable(pending):
                await pending
        await trio.sleep(after)  # no other silence can have lasted long enough before
