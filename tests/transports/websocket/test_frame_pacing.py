"""WebSocket peers that send many frames that carry nothing, at either side of trio-websocket."""

from __future__ import annotations

import base64
import hashlib
from functools import partial

import pytest
import trio
import trio.testing

from tests.support.limits import HANG_SECONDS
from tests.support.turns import counting_turns
from tests.transports.websocket.websocket_peers import LIMIT, make_server, receive_until_closed, serving
from trio_mcp.transports.websocket.client import open_websocket_transport
from trio_mcp.transports.websocket.corking_stream import CorkingStream
from trio_mcp.wire.frame_meter import FRAMES_AT_ONCE

HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
KINDS = {
    "empty fragment": b"\0",
    "pong": b"\x8a",
    "ping": b"\x89",
    "empty message": b"\x81",
}


async def flood(stream: trio.SocketStream, kind: str, *, masked: bool) -> bool:
    """Whether the connection is closed under a flood of frames, the answers to which are read."""
    frame = KINDS[kind] + (b"\x80\0\0\0\0" if masked else b"\0")

    async def read() -> None:
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass

    is_closed = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        try:
            if "fragment" in kind:
                await stream.send_all(b"\1" + frame[1:])
            for _ in range(1000):
                await stream.send_all(frame * 1000)
        except trio.BrokenResourceError:
            is_closed = True
        nursery.cancel_scope.cancel()
    return is_closed


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_only_wastes_time_is_closed(kind):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server) as url:
            raw = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
            async with raw:
                await raw.send_all(
                    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                assert b" 101 " in await raw.receive_some()
                assert await flood(raw, kind, masked=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_only_wastes_time_is_closed(kind):
    closed = []
    was_closed = trio.Event()

    async def serve(raw: trio.SocketStream) -> None:
        head = await raw.receive_some()
        (key,) = (
            line.split(b":")[1].strip() for line in head.split(b"\r\n") if b"websocket-key" in line.lower()
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        await raw.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        closed.append(await flood(raw, kind, masked=False))
        was_closed.set()

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
            async with open_websocket_transport(url, max_frame_bytes=LIMIT) as transport:
                with pytest.raises(trio.BrokenResourceError, match="carry nothing"):
                    await receive_until_closed(transport)
            await was_closed.wait()
            nursery.cancel_scope.cancel()
    assert closed == [True]


async def test_others_have_a_turn_after_every_few_frames():
    one, other = trio.testing.memory_stream_pair()
    stream = CorkingStream(one)
    frame = b"\x8a\0"
    await other.send_all(HEAD[:-1])
    assert await stream.receive_some() == HEAD[:-1]
    await other.send_all(HEAD[-1:] + frame * 1000)
    assert await stream.receive_some() == HEAD[-1:]
    pieces = []
    async with counting_turns() as turns:
        while len(b"".join(pieces)) < 2000:
            pieces.append(await stream.receive_some())
            assert len(pieces[-1]) <= FRAMES_AT_ONCE * len(frame)
    assert b"".join(pieces) == frame * 1000
    assert turns.count >= len(pieces) // 2


async def test_pings_at_a_sane_rate_are_fine_for_days(autojump_clock):
    one, other = trio.testing.memory_stream_pair()
    stream = CorkingStream(one)
    await other.send_all(HEAD)
    await stream.receive_some()
    for _ in range(20_000):
        await trio.sleep(30)
        await other.send_all(b"\x89\0")
        assert await stream.receive_some() == b"\x89\0"
