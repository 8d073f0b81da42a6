"""A server that ends says so to everybody who listens, and a listener that stops reading holds up nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from tests.conftest import LEGACY, MODERN, TRANSPORTS, Wire
from tests.support.change_listener import ChangeListener, connect_listener, open_listener
from tests.support.limits import HANG_SECONDS
from trio_mcp import Server, open_server, serve_http, serve_websocket
from trio_mcp.client.settings import ClientSettings
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.server.change_feed import ChangeFeed
from trio_mcp.server.changes import LIST_CHANGES, resource_update
from trio_mcp.session.connection import ServerConnection
from trio_mcp.testing import memory_pair
from trio_mcp.testing.connectors import pipe_streams
from trio_mcp.transports.newline_stream import StreamTransport


@attrs.frozen
class Opened:
    """A target that is an open transport."""

    transport: FrameTransport

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        yield self.transport


async def start_serving(nursery: trio.Nursery, transport: str, server: Server) -> Any:
    """Serve in `nursery`; returns a target for one client."""
    if transport in ("http", "websocket-asgi"):
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0"))
        return url if transport == "http" else url.replace("http", "ws", 1)
    if transport == "websocket":
        (url,) = await nursery.start(serve_websocket, server)
        return url
    ours, theirs = memory_pair()
    if transport == "stdio":
        (to_server, from_client), (to_client, from_server) = pipe_streams(), pipe_streams()
        ours = StreamTransport(to_server, from_server, max_frame_bytes=1 << 20)
        theirs = StreamTransport(to_client, from_client, max_frame_bytes=1 << 20)
    nursery.start_soon(server.serve, theirs)
    return Opened(ours)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_end_of_the_server_is_a_result_and_what_is_pending_comes_before_it(transport: str) -> None:
    server = Server("ending")
    async with trio.open_nursery() as serving:
        target = await start_serving(serving, transport, server)
        async with connect_listener(target, MODERN) as listener:
            call, _ = await listener.listen(tools_list_changed=True)
            server.definition.changes.tell("tools")
            serving.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                answer = await listener.receive(ident=call.id)
    assert answer["result"]["resultType"] == "complete"
    assert answer["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == call.id
    methods = [message.get("method", "the result") for message in listener.messages[-3:]]
    assert methods.index("notifications/tools/list_changed") < methods.index("the result")
    # Clients take a cancellation in front of the result for the loss of the stream (mcp 2.3, TypeScript 2.4).
    assert "notifications/cancelled" not in methods[: methods.index("the result")]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_listener_that_stops_reading_holds_up_nobody_and_gives_its_place_back(
    transport: str, protocol: str
) -> None:
    server = Server("stalled")
    wire = Wire(transport, protocol)

    @server.resource("item://{padding}/{number}")
    async def item(padding: str, number: int) -> str:
        return padding[:number]

    uris = [f"item://{'x' * 1000}/{number}" for number in range(100)]
    async with open_server(server) as running, open_listener(wire, running) as reading:
        audience = running.application.audience
        await subscribe(reading, uris)
        known = set(audience.subscribers)
        async with open_listener(wire, running) as stalled:
            await subscribe(stalled, uris)
            stalled.has_stopped = True
            (feed,) = audience.subscribers - known
            assert isinstance(feed, ChangeFeed)
            full = 0
            while full < 3:  # how much the buffers below hold is the system's choice
                for uri in uris:
                    server.notify_resource_updated(uri)
                for _ in uris:
                    await reading.receive(method="notifications/resources/updated")
                full = full + 1 if len(feed) == len(uris) else 0
            # However often a resource changes, it is pending once.
            for _ in range(3):
                server.notify_resource_updated(uris[0])
            assert len(feed) == len(uris)
        with trio.fail_after(HANG_SECONDS):
            while feed in audience.subscribers:  # noqa: ASYNC110  # the server has no event for it
                await trio.lowlevel.checkpoint()
        assert len(feed) == 0
        await reading.receive(method="notifications/resources/updated")
        server.notify_resource_updated(uris[1])
        message = await reading.receive(method="notifications/resources/updated")
        assert message["params"]["uri"] == uris[1]


async def subscribe(listener: ChangeListener, uris: list[str]) -> None:
    if listener.client.protocol_version == MODERN:
        await listener.listen(resource_subscriptions=uris)
    else:
        for uri in uris:
            await listener.subscribe(uri)


async def test_a_feed_tells_each_change_once_however_often_it_is_noted() -> None:
    outbox = Outbox(10)
    feed = ChangeFeed(ServerConnection(outbox, None), "L")
    changes = [LIST_CHANGES["tools"], resource_update("config://app"), LIST_CHANGES["prompts"]]
    for _ in range(1000):
        for change in changes:
            feed.note(change)
    feed.forget(LIST_CHANGES["prompts"])
    feed.forget(LIST_CHANGES["prompts"])
    assert outbox.queued == 1
    frames, used, is_empty = feed.drain(100)
    assert [(frame.method, bytes(frame.params)) for frame in frames] == [
        (
            "notifications/tools/list_changed",
            b'{"_meta":{"io.modelcontextprotocol/subscriptionId":"L"}}',
        ),
        (
            "notifications/resources/updated",
            b'{"_meta":{"io.modelcontextprotocol/subscriptionId":"L"},"uri":"config://app"}',
        ),
    ]
    assert (used, is_empty, len(feed)) == (2, True, 0)
    feed.note(changes[0])
    assert len(feed) == 1, "what was told is told again if it changes again"


async def test_a_feed_leaves_in_pieces_of_the_writer_s_size() -> None:
    feed = ChangeFeed(ServerConnection(Outbox(10), None))
    for number in range(5):
        feed.note(resource_update(f"item://{number}"))
    sizes = []
    is_empty = False
    while not is_empty:
        frames, used, is_empty = feed.drain(2)
        assert len(frames) == used
        sizes.append(used)
    assert sizes == [2, 2, 1]


async def test_while_nobody_hears_the_connection_changes_wait_and_are_told_once() -> None:
    outbox = Outbox(10)
    connection = ServerConnection(outbox, None)
    feed = ChangeFeed(connection)
    connection.on_heard = feed.note_heard
    connection.is_heard = False
    for _ in range(3):
        feed.note(LIST_CHANGES["tools"])
    assert (outbox.queued, len(feed)) == (0, 1)
    connection.note_heard(True)
    assert outbox.queued == 1
    connection.note_heard(False)  # before the writer had its turn
    assert feed.drain(10) == ([], 0, True)
    connection.note_heard(True)
    assert [frame.method for frame in feed.drain(10)[0]] == ["notifications/tools/list_changed"]


async def test_if_the_wire_is_gone_nothing_stays_pending() -> None:
    outbox = Outbox(10)
    outbox.close()
    feed = ChangeFeed(ServerConnection(outbox, None))
    feed.note(LIST_CHANGES["tools"])
    assert len(feed) == 0
