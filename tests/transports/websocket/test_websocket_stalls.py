"""WebSocket peers that stop reading, answering or closing hold up nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trio_websocket

from tests.support.limits import HANG_SECONDS
from tests.support.raw_peer import call
from tests.transports.websocket.websocket_peers import (
    LIMIT,
    make_server,
    memory_pair,
    receive_until_closed,
    serving,
)
from trio_mcp import (
    Conflate,
    Context,
    Lossless,
    Server,
    ServerSettings,
    serve_websocket,
)
from trio_mcp.transports.websocket.client import open_websocket_transport
from trio_mcp.transports.websocket.keeping import keep_alive
from trio_mcp.wire.frames import Notification

# Peers that stop


async def test_pings_keep_a_silent_connection_alive(autojump_clock):
    connected = memory_pair(trio.testing.memory_stream_pair())
    async with connected() as (client, server, counter), trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, server._connection, server._stream, 20)
        nursery.start_soon(receive_until_closed, server)
        await trio.sleep(201)
        assert 9 <= len(counter.writes) <= 10
        await client.send_frames([Notification("x")])
        nursery.cancel_scope.cancel()


async def test_a_silent_peer_is_dropped_after_twice_the_interval(autojump_clock):
    connected = memory_pair(trio.testing.memory_stream_pair())
    async with connected() as (client, server, _), trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, server._connection, server._stream, 20)
        client._stream.cork()  # its pongs are never sent
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_frames()
        assert trio.current_time() - start == pytest.approx(40)


@asynccontextmanager
async def stalled_peer(url: str, message: dict[str, Any]) -> AsyncIterator[trio.SocketStream]:
    """A peer that sends one request and then never reads."""
    raw = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
    async with raw:
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        await raw.send_all(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + key
            + b"\r\n"
        )
        assert b" 101 " in await raw.receive_some()
        text = msgspec.json.encode(message)
        assert 125 < len(text) < 65536
        # A mask of zeros leaves the payload as it is.
        await raw.send_all(b"\x81" + bytes([0x80 | 126]) + len(text).to_bytes(2, "big") + bytes(4) + text)
        yield raw


@pytest.mark.parametrize("policy", [Conflate(), Lossless()], ids=["conflate", "lossless"])
async def test_a_reader_that_stalls_holds_up_no_shutdown(policy):
    server = Server("flood", settings=ServerSettings(progress=policy, drain_timeout=0.2))
    reported = 0
    flooded, ended = trio.Event(), trio.Event()

    @server.tool
    async def flood(ctx: Context) -> None:
        nonlocal reported
        while True:
            reported += 1
            await ctx.report_progress(reported, None, "x" * 2000)
            if reported == 20_000:  # 40 MB, which no socket takes
                flooded.set()

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:  # noqa: ASYNC128  # serve_websocket starts it
                try:
                    await serve_websocket(server, task_status=task_status)
                finally:
                    ended.set()

            (url,) = await nursery.start(serve)
            async with stalled_peer(url, call(1, "flood", token=1)):
                if isinstance(policy, Conflate):
                    await flooded.wait()
                else:
                    await trio.testing.wait_all_tasks_blocked(0.2)
                start = trio.current_time()
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):  # the peer keeps its socket until the server has ended
                    await ended.wait()
    assert trio.current_time() - start < 5


async def test_a_reader_that_stalls_is_dropped_by_pings():
    server, seen = make_server()

    with trio.fail_after(HANG_SECONDS):
        async with (
            serving(server, ping_interval=0.05) as url,
            stalled_peer(url, call(1, "wait", token=1)),
        ):
            await seen["started"].wait()
            await seen["cancelled"].wait()


async def test_a_client_leaves_a_server_that_never_answers_its_close():
    async def handle(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            await request.accept()
            nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
            async with open_websocket_transport(url, max_frame_bytes=LIMIT):
                start = trio.current_time()
            assert 0.9 < trio.current_time() - start < 5
            nursery.cancel_scope.cancel()
