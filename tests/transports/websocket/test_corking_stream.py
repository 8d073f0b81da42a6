"""CorkingStream over streams in memory: joined writes, the read-ahead cap, ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from tests.support.limits import HANG_SECONDS
from trio_mcp.transports.websocket.corking_stream import AHEAD_BYTES, WRITE_BYTES, CorkingStream


class WriteCounter(trio.abc.Stream):
    """A stream that counts the writes that reach `inner`."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.writes: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


def corking_pair(
    make: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair,
) -> tuple[CorkingStream, WriteCounter, trio.abc.Stream]:
    ours, peer = make()
    counter = WriteCounter(ours)
    return CorkingStream(counter), counter, peer


async def test_data_sent_while_corked_leaves_in_one_write():
    stream, counter, _ = corking_pair()
    stream.cork()
    await stream.send_all(b"a")
    await stream.send_all(b"b")
    assert counter.writes == []
    stream.uncork()
    await stream.flush()
    assert counter.writes == [b"ab"]


async def test_corked_data_leaves_before_the_next_write():
    stream, counter, _ = corking_pair()
    stream.cork()
    await stream.send_all(b"a")
    stream.uncork()
    await stream.send_all(b"b")
    assert counter.writes == [b"ab"]


async def test_closing_writes_the_corked_data():
    stream, _, peer = corking_pair()
    stream.cork()
    await stream.send_all(b"goodbye")
    await stream.aclose()
    assert await peer.receive_some() == b"goodbye"
    assert await peer.receive_some() == b""


async def test_closing_does_not_wait_long_for_a_peer_that_never_reads(autojump_clock):
    stream, _, _ = corking_pair(trio.testing.lockstep_stream_pair)
    stream.cork()
    await stream.send_all(b"goodbye")
    start = trio.current_time()
    await stream.aclose()
    assert trio.current_time() - start == pytest.approx(1.0)


async def test_writers_wait_for_each_other():
    stream, counter, peer = corking_pair(trio.testing.lockstep_stream_pair)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"first")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(stream.send_all, b"second")
        nursery.start_soon(stream.send_all, b"third")
        await trio.testing.wait_all_tasks_blocked()
        assert counter.writes == [b"first"]
        received = b""
        while len(received) < len(b"firstsecondthird"):
            received += await peer.receive_some()
    assert counter.writes[0] == b"first"
    assert len(counter.writes) == 2  # the sends that waited for the first write left together


async def test_nothing_is_written_after_an_interrupted_write():
    stream, _, _ = corking_pair(trio.testing.lockstep_stream_pair)
    with trio.move_on_after(0.01):
        await stream.send_all(b"half of a frame")
    with pytest.raises(trio.BrokenResourceError, match="cut short"):
        await stream.send_all(b"a frame")
    with trio.fail_after(HANG_SECONDS):
        await stream.aclose()


async def test_a_large_write_is_split_and_counts_as_a_sign_of_life(autojump_clock):
    stream, counter, peer = corking_pair(trio.testing.lockstep_stream_pair)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, bytes(WRITE_BYTES + 1))
        await trio.sleep(5)
        left = WRITE_BYTES
        while left:
            left -= len(await peer.receive_some(left))
        await trio.testing.wait_all_tasks_blocked()
        assert stream.last_heard == trio.current_time()
        await peer.receive_some()
    assert [len(data) for data in counter.writes] == [WRITE_BYTES, 1]


async def test_reading_ahead_is_capped_while_nobody_reads():
    stream, _, peer = corking_pair()
    await peer.send_all(bytes(3 * AHEAD_BYTES))
    received = 0

    async def read() -> None:
        nonlocal received
        while data := await stream.receive_some(65536):
            received += len(data)

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert AHEAD_BYTES <= received <= AHEAD_BYTES + 65536
            with stream.wanting():
                await trio.testing.wait_all_tasks_blocked()
            assert received == 3 * AHEAD_BYTES
            await peer.aclose()


async def test_discarded_data_is_read_without_a_cap():
    stream, _, peer = corking_pair()
    await peer.send_all(bytes(3 * AHEAD_BYTES))
    await peer.aclose()
    stream.discard()
    received = 0
    with trio.fail_after(HANG_SECONDS):
        while data := await stream.receive_some(65536):
            received += len(data)
    assert received == 3 * AHEAD_BYTES


@pytest.mark.parametrize("how", ["end of input", "closed", "before"])
async def test_the_end_cancels_a_task_that_waits(how):
    stream, _, peer = corking_pair()
    if how == "before":
        stream.end()
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope, stream.unless_ended(scope):
                if how == "end of input":
                    nursery.start_soon(stream.receive_some)
                    await peer.aclose()
                elif how == "closed":
                    nursery.start_soon(stream.aclose)
                await trio.sleep_forever()
    assert scope.cancelled_caught
