"""WebSocket inside an ASGI server: on hypercorn's trio worker, and event by event."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import hypercorn.config
import hypercorn.trio
import msgspec
import pytest
import trio
import trio.testing
import trio_websocket

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from tests.support.raw_peer import call
from tests.transports.websocket.websocket_peers import Url, ask, make_server, open_peer
from trio_mcp import Lossless, Server, open_client, open_server
from trio_mcp.client.settings import ClientSettings
from trio_mcp.testing import assert_progress
from trio_mcp.transports.asgi.websocket import MORE, AsgiWebSocketTransport
from trio_mcp.wire.errors import PARSE_ERROR
from trio_mcp.wire.frames import Malformed, Notification, Request

LIMIT = 100_000


@asynccontextmanager
async def hypercorn_serving(server: Server, limit: int = LIMIT) -> AsyncIterator[str]:
    """Serve on hypercorn and give the address."""
    config = hypercorn.config.Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("silent")
    config.errorlog.setLevel(logging.CRITICAL)
    config.graceful_timeout = 0.5
    config.keep_alive_timeout = HANG_SECONDS  # also for the handshake
    stop = trio.Event()

    async with open_server(server) as running, trio.open_nursery() as nursery:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "websocket"
            transport = AsgiWebSocketTransport(scope, receive, send, max_frame_bytes=limit)
            await transport.accept()
            await running.serve(transport)

        serve = partial(hypercorn.trio.serve, shutdown_trigger=stop.wait, mode="asgi")
        (bind,) = await nursery.start(partial(serve, app, config))
        yield bind.replace("http://", "ws://")
        stop.set()


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_the_progress_of_a_call_arrives_in_order_on_hypercorn(protocol):
    server, _ = make_server(progress=Lossless())
    updates: list[Any] = []
    with trio.fail_after(HANG_SECONDS):
        async with (
            hypercorn_serving(server) as url,
            open_client(
                Url(url),
                protocol=protocol,
                settings=ClientSettings(progress=Lossless(buffer=2000)),
                progress_handler=lambda *update: updates.append(update),
            ) as client,
        ):
            assert client.protocol_version == protocol
            await client.call_tool("burst", {"count": 1000})
    assert_progress(updates, count=1000, first=1, last=1000)
    assert [update[0] for update in updates] == list(range(1, 1001))


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["mcp"], "mcp"), (["soap", "mcp"], "mcp"), (["soap"], None), ([], None)]
)
async def test_the_subprotocol_is_chosen_on_hypercorn(offered, chosen):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with hypercorn_serving(server) as url, open_peer(url, subprotocols=offered) as connection:
            assert connection.subprotocol == chosen
            assert "result" in await ask(connection, call(1, "echo", text="x"))


@pytest.mark.parametrize("message", [b"\x00binary", "nonsense", ""])
async def test_a_malformed_message_is_answered_on_hypercorn(message):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with hypercorn_serving(server) as url, open_peer(url) as connection:
            answer = await ask(connection, message)
            assert answer["error"]["code"] == PARSE_ERROR
            assert "result" in await ask(connection, call(7, "echo", text="still here"))


async def test_a_disconnect_cancels_the_handler_on_hypercorn():
    server, seen = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with hypercorn_serving(server) as url:
            async with open_peer(url) as connection:
                await connection.send_message(msgspec.json.encode(call(1, "wait")).decode())
                await seen["started"].wait()
            await seen["cancelled"].wait()


async def test_a_message_over_the_cap_closes_with_1009_on_hypercorn():
    server, seen = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with hypercorn_serving(server) as url, open_peer(url) as connection:
            await connection.send_message(msgspec.json.encode(call(1, "wait")).decode())
            await seen["started"].wait()
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await ask(connection, "x" * (LIMIT + 1))
            assert closed.value.reason.code == 1009
            await seen["cancelled"].wait()


class Events:
    """An ASGI server's side of one connection: the test puts events in and reads those sent."""

    def __init__(self, *subprotocols: str) -> None:
        self.scope = {"type": "websocket", "subprotocols": list(subprotocols)}
        self.put, self._get = trio.open_memory_channel[Any](10)
        self.sent: list[Any] = []
        self.received = 0
        self.gone = False

    async def receive(self) -> Any:
        self.received += 1
        return await self._get.receive()

    async def send(self, event: Any) -> None:
        await trio.lowlevel.checkpoint()
        if self.gone:
            raise OSError("the client is gone")
        self.sent.append(event)

    async def open(self) -> AsgiWebSocketTransport:
        transport = AsgiWebSocketTransport(self.scope, self.receive, self.send, max_frame_bytes=LIMIT)
        self.put.send_nowait({"type": "websocket.connect"})
        await transport.accept()
        return transport


async def test_a_connection_receives_and_sends_events():
    events = Events("mcp")
    transport = await events.open()
    events.put.send_nowait(
        {"type": "websocket.receive", "text": '{"jsonrpc":"2.0",\n"id":1,"method":"ping"}', "bytes": None}
    )
    assert await transport.receive_frames() == [Request(1, "ping")]
    assert events.received == 2, "the next event is not asked for before it is needed"
    await transport.send_frames([Notification("a"), Notification("b")])
    await transport.aclose()
    await transport.aclose()
    assert events.sent == [
        {"type": "websocket.accept", "subprotocol": "mcp"},
        {"type": "websocket.send", "text": '{"jsonrpc":"2.0","method":"a"}'},
        {"type": "websocket.send", "text": '{"jsonrpc":"2.0","method":"b"}'},
        {"type": "websocket.close", "code": 1001, "reason": ""},
    ]
    with pytest.raises(trio.ClosedResourceError):
        await transport.send_frames([Notification("c")])
    with pytest.raises(trio.ClosedResourceError):
        await transport.receive_frames()


async def test_messages_that_others_follow_are_marked_for_a_host_that_joins_them():
    events = Events()
    events.scope["extensions"] = {MORE: {}}
    transport = await events.open()
    await transport.send_frames([Notification("a"), Notification("b"), Notification("c")])
    await transport.send_frames([Notification("d")])
    assert [MORE in sent for sent in events.sent] == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"code": 1000}, trio.EndOfChannel),
        ({"code": 1001, "reason": "bye"}, trio.EndOfChannel),
        ({"code": 1005}, trio.EndOfChannel),
        ({}, trio.EndOfChannel),
        ({"code": None}, trio.EndOfChannel),
        ({"code": 1006}, trio.BrokenResourceError),
        ({"code": 1011, "reason": "oops"}, trio.BrokenResourceError),
    ],
)
async def test_a_disconnect_raises(event, expected):
    events = Events()
    transport = await events.open()
    events.put.send_nowait({"type": "websocket.disconnect", **event})
    for _ in range(2):
        with pytest.raises(expected):
            await transport.receive_frames()
    assert events.received == 2, "nothing is asked for after the end"
    with pytest.raises(trio.BrokenResourceError):
        await transport.send_frames([Notification("a")])
    await transport.aclose()
    assert [sent["type"] for sent in events.sent] == ["websocket.accept"]


async def test_a_client_may_leave_before_it_is_accepted():
    events = Events()
    transport = AsgiWebSocketTransport(events.scope, events.receive, events.send, max_frame_bytes=LIMIT)
    events.put.send_nowait({"type": "websocket.disconnect", "code": 1006})
    with pytest.raises(trio.BrokenResourceError):
        await transport.accept()
    await transport.aclose()
    assert events.sent == []


async def test_a_send_that_fails_with_oserror_raises_broken():
    events = Events()
    transport = await events.open()
    events.gone = True
    with pytest.raises(trio.BrokenResourceError, match="gone"):
        await transport.send_frames([Notification("a")])
    await transport.aclose()


async def test_binary_and_oversized_messages_are_refused():
    events = Events()
    transport = await events.open()
    events.put.send_nowait({"type": "websocket.receive", "bytes": b"{}"})
    (frame,) = await transport.receive_frames()
    assert isinstance(frame, Malformed)
    events.put.send_nowait({"type": "websocket.receive", "text": "x" * (LIMIT + 1)})
    with pytest.raises(trio.BrokenResourceError, match=f"longer than {LIMIT} bytes"):
        await transport.receive_frames()
    assert events.sent[-1]["code"] == 1009


async def test_closing_wakes_the_receiver():
    events = Events()
    transport = await events.open()
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await transport.receive_frames()

            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await transport.receive_frames()
            await transport.aclose()
