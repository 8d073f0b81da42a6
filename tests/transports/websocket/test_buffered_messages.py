"""Unfinished WebSocket messages of all connections have caps together; every end gives back what was held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed
from wsproto.events import TextMessage

from tests.support.limits import HANG_SECONDS
from tests.support.raw_peer import call
from tests.transports.websocket.websocket_peers import open_peer
from trio_mcp import HttpSettings, Server, serve_http
from trio_mcp.server.running import open_server
from trio_mcp.transports.buffered_bytes import UNCOUNTED_BYTES, BufferedBytes
from trio_mcp.transports.websocket.server import WebSocketService
from trio_mcp.wire.origin import Doorkeeper

HELD = UNCOUNTED_BYTES + 100_000
PER_PEER = 180_000


def make_server() -> Server:
    server = Server("capped", version="1")

    @server.tool
    async def echo(text: str) -> str:
        return text

    return server


@asynccontextmanager
async def serving_alone() -> AsyncIterator[str]:
    """A server on trio-websocket."""
    async with open_server(make_server()) as running, trio.open_nursery() as nursery:
        service = WebSocketService(
            lambda transport, headers, peer: running.serve(transport, headers=headers, peer=peer),
            1_000_000,
            Doorkeeper(),
            buffered=BufferedBytes(10**9, PER_PEER),
        )
        (url,) = await nursery.start(service.listen, "127.0.0.1", 0)
        yield url
        assert service.refusals["buffered"] == 2
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving_beside_http() -> AsyncIterator[str]:
    """The WebSocket of an HTTP endpoint on hypercorn."""
    settings = HttpSettings(max_body_bytes=1_000_000, max_buffered_bytes_per_peer=PER_PEER)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_http, make_server(), bind="127.0.0.1:0", settings=settings)
        (url,) = await nursery.start(serve)
        yield url.replace("http", "ws", 1)
        nursery.cancel_scope.cancel()


async def hold(connection: Any) -> None:
    """Send a part of a message, and wait until the server has read it."""
    await connection._send(TextMessage(data=" " * HELD, message_finished=False))
    await connection.ping()


@pytest.mark.parametrize("serving", [serving_alone, serving_beside_http])
@pytest.mark.parametrize("is_finished", [True, False])
async def test_unfinished_messages_are_capped_together_and_given_back(serving, is_finished):
    message = msgspec.json.encode(call(1, "echo", text="x")).decode()
    with trio.fail_after(HANG_SECONDS):
        async with serving() as url:
            async with open_peer(url) as first:
                await hold(first)
                async with open_peer(url) as second:
                    await second._send(TextMessage(data=" " * HELD, message_finished=False))
                    with pytest.raises(ConnectionClosed) as refused:
                        await second.get_message()
                assert refused.value.reason.code == 1013
                assert f"max_buffered_bytes_per_peer is {PER_PEER}" in refused.value.reason.reason
                if is_finished:
                    await first.send_message(message)
                    assert '"id":1' in await first.get_message()
            async with open_peer(url) as third:
                await hold(third)
                await third.send_message(message)
                assert '"id":1' in await third.get_message()
                async with open_peer(url) as fourth:
                    await hold(fourth)
                    await fourth._send(TextMessage(data=" " * HELD, message_finished=False))
                    with pytest.raises(ConnectionClosed):
                        await fourth.get_message()
