"""StreamTransport over streams in memory: frames split at every byte, ends, and breaks."""

import os
from contextlib import suppress

import msgspec
import pytest
import trio
import trio.testing

from tests.support.limits import HANG_SECONDS
from tests.support.turns import counting_turns
from trio_mcp.testing.faults import closing_at_byte
from trio_mcp.transports.newline_stream import READ_BYTES, StreamTransport
from trio_mcp.wire.codec import encode_lines
from trio_mcp.wire.frames import InFrame, Malformed, Notification, ProgressRun, Request
from trio_mcp.wire.framing import PORTION

FRAMES = [
    Request(1, "tools/call"),
    ProgressRun("tøken", [(1.0, 2.0, "half", None), (2.0, 2.0, "whole", None)]),
    Notification("notifications/initialized"),
]
LIMIT = 1000


def transport_pair() -> tuple[StreamTransport, trio.StapledStream]:
    ours, peer = trio.testing.memory_stream_pair()
    return StreamTransport(ours, ours, max_frame_bytes=LIMIT), peer


async def receive_all(transport: StreamTransport) -> list[InFrame]:
    frames = []
    try:
        while True:
            frames.extend(await transport.receive_frames())
    except trio.EndOfChannel:
        return frames


async def test_frames_arrive_however_the_bytes_are_split():
    data = encode_lines(FRAMES)
    for split in range(len(data) + 1):
        transport, peer = transport_pair()
        received = []
        with trio.fail_after(HANG_SECONDS):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive(transport=transport, received=received):
                    received.extend(await receive_all(transport))

                await peer.send_all(data[:split])
                await trio.testing.wait_all_tasks_blocked()
                await peer.send_all(data[split:])
                await peer.aclose()
        # A run of progress may arrive as two frames if the split divides it.
        assert encode_lines(received) == data


async def test_bytes_after_the_last_newline_are_read_at_the_end():
    transport, peer = transport_pair()
    await peer.send_all(encode_lines(FRAMES).rstrip(b"\n"))
    await peer.aclose()
    with trio.fail_after(HANG_SECONDS):
        assert await receive_all(transport) == FRAMES


async def test_the_end_is_raised_again():
    transport, peer = transport_pair()
    await peer.aclose()
    for _ in range(2):
        with pytest.raises(trio.EndOfChannel):
            await transport.receive_frames()


async def test_a_malformed_frame_arrives_in_its_place():
    transport, peer = transport_pair()
    await peer.send_all(b"nonsense\n" + encode_lines(FRAMES[:1]) + b"x" * (LIMIT + 1) + b"\n")
    await peer.aclose()
    with trio.fail_after(HANG_SECONDS):
        first, second, third = await receive_all(transport)
    assert isinstance(first, Malformed)
    assert second == FRAMES[0]
    assert isinstance(third, Malformed)


async def test_a_batch_of_frames_is_one_write():
    transport, peer = transport_pair()
    await transport.send_frames(FRAMES)
    assert await peer.receive_some() == encode_lines(FRAMES)


async def test_sending_to_a_peer_that_vanished_raises_broken():
    transport, peer = transport_pair()
    await peer.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await transport.send_frames(FRAMES)


async def test_a_write_that_the_peer_interrupts_raises_broken():
    send, receive = trio.testing.memory_stream_one_way_pair()
    transport = StreamTransport(closing_at_byte(send, 10), receive, max_frame_bytes=LIMIT)
    with pytest.raises(trio.BrokenResourceError):
        await transport.send_frames(FRAMES)
    assert await receive.receive_some() == encode_lines(FRAMES)[:10]
    assert await receive.receive_some() == b""


async def test_a_frame_cut_by_the_end_is_malformed():
    send, receive = trio.testing.memory_stream_one_way_pair()
    await send.send_all(encode_lines(FRAMES))
    transport = StreamTransport(send, closing_at_byte(receive, 10), max_frame_bytes=LIMIT)
    with trio.fail_after(HANG_SECONDS):
        (frame,) = await receive_all(transport)
    assert isinstance(frame, Malformed)


async def test_a_closed_transport_refuses_both_directions():
    transport, _ = transport_pair()
    await transport.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await transport.send_frames(FRAMES)
    with pytest.raises(trio.ClosedResourceError):
        await transport.receive_frames()


async def test_closing_wakes_the_receiver():
    transport, _ = transport_pair()
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive():
                with pytest.raises(trio.ClosedResourceError):
                    await transport.receive_frames()

            await trio.testing.wait_all_tasks_blocked()
            await transport.aclose()


async def test_closing_while_cancelled_closes_both_directions():
    transport, peer = transport_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.aclose()
    assert scope.cancelled_caught
    assert await peer.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await peer.send_all(b"x")


async def test_a_second_receiver_is_refused():
    transport, _ = transport_pair()
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.receive_frames)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await transport.receive_frames()
            nursery.cancel_scope.cancel()


async def test_send_now_writes_a_small_frame_until_the_pipe_is_full():
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(writing) as send, trio.lowlevel.FdStream(reading) as receive:
        transport = StreamTransport(send, receive, max_frame_bytes=100_000)
        small = Notification("notifications/small", msgspec.Raw(b'{"text":"' + b"x" * 500 + b'"}'))
        large = Notification("notifications/large", msgspec.Raw(b'{"text":"' + b"x" * 5_000 + b'"}'))
        assert not transport.send_now(large)  # it could be written in parts
        taken = 0
        while transport.send_now(small):
            taken += 1
        assert taken > 10
        frames: list[object] = []
        while len(frames) < taken:
            frames.extend(await transport.receive_frames())
        assert frames == [small] * taken


async def test_send_now_writes_nothing_to_a_broken_pipe():
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(writing) as send, trio.lowlevel.FdStream(reading) as receive:
        transport = StreamTransport(send, receive, max_frame_bytes=1000)
        await receive.aclose()
        assert not transport.send_now(Notification("notifications/small"))
        await transport.aclose()
        assert not transport.send_now(Notification("notifications/small"))


@pytest.mark.parametrize("line", [b"\n", b" \n", b"\r\n", b"1\n", b"{}\n"])
@pytest.mark.parametrize("kind", ["memory", "pipe"])
async def test_others_have_a_turn_while_many_tiny_lines_are_decoded(line: bytes, kind: str):
    data = line * (READ_BYTES // 2 // len(line))
    if kind == "pipe":
        reading, writing = os.pipe()
        receive: trio.abc.ReceiveStream = trio.lowlevel.FdStream(reading)
        send: trio.abc.SendStream = trio.lowlevel.FdStream(writing)
    else:
        send, receive = trio.testing.memory_stream_one_way_pair()
    transport = StreamTransport(send, receive, max_frame_bytes=LIMIT)
    await send.send_all(data + encode_lines(FRAMES[:1]))
    with trio.fail_after(HANG_SECONDS):
        async with counting_turns() as turns:
            frames: list[InFrame] = []
            while FRAMES[0] not in frames:
                frames += await transport.receive_frames()
    assert sum(isinstance(frame, Malformed) for frame in frames) == (data.count(line) if line.strip() else 0)
    assert turns.count >= len(data) // PORTION
    await transport.aclose()


async def test_a_reader_that_is_cancelled_among_tiny_lines_loses_none():
    transport, peer = transport_pair()
    await peer.send_all(b"\n" * 5000 + encode_lines(FRAMES[:1]) + b"\n" * 5000)
    await peer.aclose()
    frames: list[InFrame] = []
    with trio.fail_after(HANG_SECONDS):
        for rounds in range(100):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def cancel(scope=scope, rounds=rounds):
                        for _ in range(rounds):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    with suppress(trio.EndOfChannel):
                        while True:
                            frames.extend(await transport.receive_frames())
    assert frames == FRAMES[:1]
