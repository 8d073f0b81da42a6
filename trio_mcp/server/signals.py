"""Signals that end a server which owns its process.

Owns which signals these are, and what the first and the second do. Knows nothing of what is served. A
server inside a program of somebody else's leaves signals alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import trio
from msgspec import Struct, field

ENDING: Final = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has one
)
"""A supervisor asks the process to end, or its terminal has gone."""


class EndSignal(Struct, eq=False):
    """The signal that has ended the work, or None."""

    number: int | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


def find_free(numbers: Iterable[int]) -> list[int]:
    """Those signals that nobody has taken: they still do what Python lets them do by default.

    None of them in a thread that is not the main one, where signals cannot be handled.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    return [number for number in numbers if signal.getsignal(number) in defaults]


async def run_until_signal(work: Callable[[], Awaitable[object]], numbers: Iterable[int]) -> int | None:
    """Run `work` until it ends or a signal comes; returns the signal's number, or None. Checkpoints.

    The first signal cancels `work`, so that it cleans up; the second ends the process at once. Both do so
    whatever the event loop is doing, and never raise within a handler.
    """
    end = EndSignal()
    with _handled(end, numbers), end.scope:
        await work()
    return end.number


@contextmanager
def _handled(end: EndSignal, numbers: Iterable[int]) -> Iterator[None]:
    token = trio.lowlevel.current_trio_token()

    def handle(number: int, frame: FrameType | None) -> None:
        if end.number is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        end.number = number
        token.run_sync_soon(end.scope.cancel)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
