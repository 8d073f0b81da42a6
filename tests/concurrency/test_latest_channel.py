"""The channel that holds the newest value only."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_mcp.concurrency.latest_channel import LatestChannel


async def test_a_slow_reader_gets_the_newest_value():
    channel = LatestChannel[int]()
    for value in range(5):
        channel.offer(value)
    assert await channel.receive.receive() == 4


async def test_a_waiting_reader_gets_each_value():
    channel = LatestChannel[int]()
    received: list[int] = []

    async def read() -> None:
        async for value in channel.receive:
            received.append(value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for value in range(3):
            await trio.testing.wait_all_tasks_blocked()
            channel.offer(value)
        channel.close()
    assert received == [0, 1, 2]


async def test_the_newest_value_can_be_read_after_close():
    channel = LatestChannel[int]()
    channel.offer(1)
    channel.close()
    channel.offer(2)
    assert await channel.receive.receive() == 1
    with pytest.raises(trio.EndOfChannel):
        await channel.receive.receive()


async def test_a_reader_that_has_closed_its_end_does_not_disturb_the_sender():
    channel = LatestChannel[int]()
    channel.receive.close()
    channel.offer(1)
    channel.offer(2)
    channel.close()
