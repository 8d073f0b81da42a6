"""Frames in memory: they go through a channel, or directly to a reader."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

import pytest
import trio
import trio.testing

from trio_mcp.transports.memory import memory_pair
from trio_mcp.wire.frames import InFrame, Notification

ONE, TWO, THREE = (Notification(f"notifications/{name}") for name in ("one", "two", "three"))


async def test_frames_sent_before_the_reader_is_set_arrive_first():
    ours, theirs = memory_pair()
    taken: list[InFrame] = []

    def accept(frames: Sequence[InFrame]) -> bool:
        taken.extend(frames)
        return False

    async with trio.open_nursery() as nursery:
        await ours.send_frames([ONE])
        nursery.start_soon(ours.send_frames, [TWO])  # waits: one write is prepared already
        await trio.testing.wait_all_tasks_blocked()
        assert not ours.send_now(THREE)
        nursery.start_soon(theirs.deliver_frames, accept, trio.lowlevel.checkpoint)
        await trio.testing.wait_all_tasks_blocked()
        assert ours.send_now(THREE)
        assert taken == [ONE, TWO, THREE]
        nursery.cancel_scope.cancel()


async def test_a_reader_that_is_full_makes_the_sender_wait():
    ours, theirs = memory_pair()
    room = trio.Event()
    sent: list[str] = []

    async def send() -> None:
        await ours.send_frames([ONE])
        sent.append("one")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.deliver_frames, lambda frames: True, room.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert (sent, ours.send_now(TWO)) == ([], False)
        room.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (sent, ours.send_now(TWO)) == (["one"], True)
        nursery.cancel_scope.cancel()


async def test_a_reader_that_makes_its_peer_send_more_is_not_entered_again():
    ours, theirs = memory_pair()
    results: list[bool] = []

    def accept(frames: Sequence[InFrame]) -> bool:
        results.append(ours.send_now(TWO))
        return False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.deliver_frames, accept, trio.lowlevel.checkpoint)
        await trio.testing.wait_all_tasks_blocked()
        assert ours.send_now(ONE)
        assert results == [False]
        nursery.cancel_scope.cancel()


async def test_the_reader_runs_in_its_own_context():
    where: ContextVar[str] = ContextVar("where")
    ours, theirs = memory_pair()
    seen: list[str] = []

    def accept(frames: Sequence[InFrame]) -> bool:
        seen.append(where.get())
        return False

    async with trio.open_nursery() as nursery:
        where.set("reader")
        nursery.start_soon(theirs.deliver_frames, accept, trio.lowlevel.checkpoint)
        await trio.testing.wait_all_tasks_blocked()
        where.set("sender")
        await ours.send_frames([ONE])
        assert ours.send_now(TWO)
        nursery.cancel_scope.cancel()
    assert seen == ["reader", "reader"]


async def test_an_exception_of_the_reader_does_not_reach_the_sender():
    ours, theirs = memory_pair()

    def accept(frames: Sequence[InFrame]) -> bool:
        raise ArithmeticError

    async def read() -> None:
        with pytest.raises(ArithmeticError):
            await theirs.deliver_frames(accept, trio.lowlevel.checkpoint)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await ours.send_frames([ONE])


async def test_closing_ends_both_directions():
    ours, theirs = memory_pair()

    async def read() -> None:
        with pytest.raises(trio.EndOfChannel):
            await theirs.deliver_frames(lambda frames: False, trio.lowlevel.checkpoint)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()
    assert not ours.send_now(ONE)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_frames([ONE])
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_frames([ONE])
