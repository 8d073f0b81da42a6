"""Peers that send many frames that carry nothing, over HTTP/2 and WebSocket."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from tests.transports.hypercorn.test_departures import handshake, holding, read_to_end
from trio_mcp.wire.frame_meter import (
    FRAMES_AT_ONCE,
    PATIENCE_FRAMES,
    FrameMeter,
    Patience,
    read_http2_header,
    read_websocket_header,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP2 = {
    "settings": b"\0\0\0\4\0\0\0\0\0",
    "ping": b"\0\0\x08\6\0\0\0\0\0" + bytes(8),
    "priority": b"\0\0\5\2\0\0\0\0\3" + b"\0\0\0\0\1",
    "window": b"\0\0\4\x08\0\0\0\0\0" + b"\0\0\0\1",
}
WEBSOCKET = {
    "empty fragment": b"\0\x80\0\0\0\0",
    "short fragment": b"\0\x81\0\0\0\0x",
    "pong": b"\x8a\x80\0\0\0\0",
    "ping": b"\x89\x80\0\0\0\0",
    "empty message": b"\x81\x80\0\0\0\0",
}


@pytest.mark.parametrize("kind", HTTP2)
async def test_an_http2_peer_that_only_wastes_time_is_closed(kind):
    async with holding() as held:
        stream = await held.connect()
        await stream.send_all(PREFACE + HTTP2["settings"])
        assert await is_closed_under(stream, HTTP2[kind])


async def is_closed_under(stream: trio.SocketStream, frame: bytes) -> bool:
    """Whether the server closes the connection under a flood of frames."""

    async def read() -> None:
        with suppress(trio.BrokenResourceError):
            await read_to_end(stream)

    is_closed = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        try:
            for _ in range(1000):
                await stream.send_all(frame * 1000)
        except trio.BrokenResourceError:
            is_closed = True
        nursery.cancel_scope.cancel()
    return is_closed


@pytest.mark.parametrize("kind", WEBSOCKET)
async def test_a_websocket_peer_that_only_wastes_time_is_closed(kind):
    async with holding() as held:
        stream = await held.connect()
        await stream.send_all(handshake())
        assert b" 101 " in await stream.receive_some()
        if "fragment" in kind:
            await stream.send_all(b"\1\x80\0\0\0\0")
        assert await is_closed_under(stream, WEBSOCKET[kind])
        await held.wait_idle()


@pytest.mark.parametrize(
    ("read_header", "frame"),
    [(read_http2_header, HTTP2["ping"]), (read_websocket_header, b"\x81\x83\0\0\0\0xyz")],
)
@pytest.mark.parametrize("step", [1, 2, 7, 64, 10_000])
def test_a_stream_is_cut_behind_every_few_frames_however_it_arrives(read_header, frame, step):
    data, meter, pieces, counts = frame * 500, FrameMeter(read_header), [], 0
    for start in range(0, len(data), step):
        pieces += meter.cut(data[start : start + step])
        counts += meter.take_counts()[0]
    assert b"".join(pieces) == data
    assert counts == 500
    assert max(len(piece) for piece in pieces) <= FRAMES_AT_ONCE * len(frame)


def test_a_long_frame_is_not_taken_for_many():
    meter = FrameMeter(read_websocket_header)
    data = b"\x82\xff" + (100_000).to_bytes(8, "big") + bytes(4) + bytes(100_000)
    assert [
        len(piece) for start in range(0, len(data), 60_000) for piece in meter.cut(data[start:][:60_000])
    ] == [
        60_000,
        40_014,
    ]
    assert meter.take_counts()[0] == 1


def test_data_time_and_what_is_sent_pay_for_frames():
    patience = Patience()
    assert not patience.is_exhausted_by((PATIENCE_FRAMES, 0), 0)
    assert patience.is_exhausted_by((1, 0), 0)
    assert not patience.is_exhausted_by((0, 0), 1)
    assert not any(patience.is_exhausted_by((1000, 36_000), 1) for _ in range(100))  # short messages
    patience.note_sent(10_000 * 200)
    assert not patience.is_exhausted_by((20_000, 0), 1)  # each short piece of it acknowledged twice
