"""Noticing that something has gone silent, on Trio's clock."""

from __future__ import annotations

import pytest
import trio

from trio_mcp.concurrency.silence import watch_silence


class Watched:
    """Something that gives signs of life, and the times at which its silence was noticed."""

    def __init__(self) -> None:
        self.started = self.last = trio.current_time()
        self.noticed: list[float] = []

    def find_last(self) -> float:
        return self.last

    def note(self) -> None:
        self.noticed.append(round(trio.current_time() - self.started, 6))


async def test_each_silence_is_noticed_once_when_it_has_lasted(autojump_clock):
    watched = Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_silence, watched.find_last, 10, watched.note)
        await trio.sleep(35)
        watched.last = trio.current_time()
        await trio.sleep(35)
        nursery.cancel_scope.cancel()
    assert watched.noticed == [10, 45]


async def test_signs_of_life_postpone_the_callback(autojump_clock):
    watched = Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_silence, watched.find_last, 10, watched.note)
        for _ in range(10):
            await trio.sleep(9)
            watched.last = trio.current_time()
        nursery.cancel_scope.cancel()
    assert watched.noticed == []


async def test_an_async_callback_is_awaited(autojump_clock):
    watched = Watched()

    async def note_later() -> None:
        await trio.sleep(1)
        watched.note()

    with trio.move_on_after(20):
        await watch_silence(watched.find_last, 10, note_later)
    assert watched.noticed == [11]


async def test_an_exception_of_the_callback_ends_the_watch(autojump_clock):
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await watch_silence(trio.current_time, 0, fail)
