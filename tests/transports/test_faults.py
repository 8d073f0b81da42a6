"""The faulty transports fail exactly as they promise."""

import pytest
import trio
import trio.testing

from tests.support.limits import HANG_SECONDS
from trio_mcp.testing.faults import (
    DroppingTransport,
    LockstepTransport,
    SlowTransport,
    StalledTransport,
    closing_at_byte,
)
from trio_mcp.transports.memory import memory_pair
from trio_mcp.wire.frames import Notification

FRAMES = [Notification("first"), Notification("second"), Notification("third")]


async def test_lockstep_passes_the_frames_that_the_test_releases():
    ours, peer = memory_pair()
    transport = LockstepTransport(ours)
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send_frames, FRAMES)
            for frame in FRAMES[:2]:
                assert await transport.release() == [frame]
                assert await peer.receive_frames() == [frame]
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            assert await transport.release() == FRAMES[2:]


async def test_lockstep_waits_for_frames_to_release():
    ours, peer = memory_pair()
    transport = LockstepTransport(ours)
    released = []
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def release():
                released.extend(await transport.release(2))

            @nursery.start_soon
            async def receive():
                for _ in range(2):
                    await peer.receive_frames()

            await trio.testing.wait_all_tasks_blocked()
            await transport.send_frames(FRAMES[:2])
    assert released == FRAMES[:2]


async def test_lockstep_does_not_hold_back_received_frames():
    ours, peer = memory_pair()
    await peer.send_frames(FRAMES)
    assert await LockstepTransport(ours).receive_frames() == FRAMES


async def test_closing_lockstep_wakes_the_sender():
    ours, peer = memory_pair()
    transport = LockstepTransport(ours)
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send():
                with pytest.raises(trio.ClosedResourceError):
                    await transport.send_frames(FRAMES)

            await trio.testing.wait_all_tasks_blocked()
            await transport.aclose()
        with pytest.raises(trio.EndOfChannel):
            await peer.receive_frames()
        with pytest.raises(trio.ClosedResourceError):
            await transport.release()


async def test_slow_delays_each_send(autojump_clock):
    ours, peer = memory_pair()
    transport = SlowTransport(ours, 3.0)
    start = trio.current_time()
    await transport.send_frames(FRAMES)
    assert trio.current_time() - start == pytest.approx(3.0)
    assert await peer.receive_frames() == FRAMES
    await peer.send_frames(FRAMES)
    assert await transport.receive_frames() == FRAMES
    await transport.aclose()
    with pytest.raises(trio.EndOfChannel):
        await peer.receive_frames()


async def test_stalled_blocks_until_resumed():
    ours, peer = memory_pair()
    transport = StalledTransport(ours)
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send_frames, FRAMES)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            await peer.send_frames(FRAMES)
            assert await transport.receive_frames() == FRAMES
            transport.resume()
            assert await peer.receive_frames() == FRAMES


async def test_stalled_may_start_resumed_and_stall_again():
    ours, peer = memory_pair()
    transport = StalledTransport(ours, stalled=False)
    await transport.send_frames(FRAMES)
    transport.stall()
    with trio.fail_after(HANG_SECONDS):
        assert await peer.receive_frames() == FRAMES
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send_frames, FRAMES)
            await trio.testing.wait_all_tasks_blocked()
            transport.stall()
            assert len(nursery.child_tasks) == 1
            transport.resume()


async def test_closing_stalled_wakes_the_sender():
    ours, _ = memory_pair()
    transport = StalledTransport(ours)
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send():
                with pytest.raises(trio.ClosedResourceError):
                    await transport.send_frames(FRAMES)

            await trio.testing.wait_all_tasks_blocked()
            await transport.aclose()


async def test_dropping_loses_the_matching_frames():
    ours, peer = memory_pair()
    transport = DroppingTransport(ours, lambda frame: frame.method == "second")
    with trio.fail_after(HANG_SECONDS):
        await transport.send_frames(FRAMES[1:2])
        await transport.send_frames(FRAMES)
        assert await peer.receive_frames() == [FRAMES[0], FRAMES[2]]
        await peer.send_frames(FRAMES)
        assert await transport.receive_frames() == FRAMES
        await transport.aclose()


async def test_a_send_stream_can_close_at_every_byte():
    for count in range(6):
        send, receive = trio.testing.memory_stream_one_way_pair()
        closing = closing_at_byte(send, count)
        sent, rest = b"abcdef"[:count], b"abcdef"[count:]
        await closing.send_all(sent[:2])
        await closing.send_all(sent[2:])
        with pytest.raises(trio.BrokenResourceError):
            await closing.send_all(rest)
        assert await receive.receive_some() == sent
        assert await receive.receive_some() == b""


async def test_a_write_across_the_closing_byte_is_sent_in_part():
    send, receive = trio.testing.memory_stream_one_way_pair()
    closing = closing_at_byte(send, 4)
    with pytest.raises(trio.BrokenResourceError):
        await closing.send_all(b"abcdef")
    assert await receive.receive_some() == b"abcd"
    assert await receive.receive_some() == b""


async def test_a_send_stream_works_up_to_the_closing_byte():
    send, receive = trio.testing.memory_stream_one_way_pair()
    closing = closing_at_byte(send, 6)
    await closing.send_all(b"abcdef")
    await closing.wait_send_all_might_not_block()
    assert await receive.receive_some() == b"abcdef"
    await closing.aclose()
    assert await receive.receive_some() == b""


async def test_a_receive_stream_can_close_at_every_byte():
    for count in range(7):
        for portion in (None, 1, 4):
            send, receive = trio.testing.memory_stream_one_way_pair()
            await send.send_all(b"abcdef")
            closing = closing_at_byte(receive, count)
            data = b""
            while part := await closing.receive_some(portion):
                data += part
            assert data == b"abcdef"[:count]
            with pytest.raises(trio.BrokenResourceError):
                await send.send_all(b"g")


def test_a_bidirectional_stream_is_refused():
    stream, _ = trio.testing.memory_stream_pair()
    with pytest.raises(TypeError, match="both directions"):
        closing_at_byte(stream, 1)
