"""Requests over a real connection on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import h11
import httpx2
import pytest
import trio

from tests.support.limits import HANG_SECONDS
from tests.support.web_api import document
from trio_mcp import Lossless, Server, ToolError, open_client

PARAMETER = {"name": "size", "in": "path", "required": True, "schema": {"type": "integer"}}
SPEC = document(
    {
        "/bytes/{size}": {
            "put": {
                "operationId": "swap",
                "parameters": [PARAMETER],
                "requestBody": {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}},
                "responses": {"200": {"description": "as many", "content": {"text/plain": {}}}},
            }
        }
    }
)


class Peer:
    """A server of one connection: it reads the body, and answers with as many bytes as the path says."""

    def __init__(self, *, stalls: bool = False) -> None:
        self.received = 0
        self.stalled = trio.Event()
        self.closed = trio.Event()
        self._stalls = stalls

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            await self._answer(stream)
            while await stream.receive_some(1000):
                pass
        except trio.BrokenResourceError:
            pass
        self.closed.set()

    async def _answer(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        target = ""
        while not isinstance(event := await self._next(connection, stream), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                target = event.target.decode()
            elif isinstance(event, h11.Data):
                self.received += len(event.data)
        size = int(target.rpartition("/")[2])
        headers = [("content-type", "text/plain"), ("content-length", str(size))]
        await stream.send_all(connection.send(h11.Response(status_code=200, headers=headers)) or b"")
        sent = size // 2 if self._stalls else size
        await stream.send_all(connection.send(h11.Data(data=b"x" * sent)) or b"")
        if self._stalls:
            self.stalled.set()

    async def _next(self, connection: h11.Connection, stream: trio.SocketStream) -> Any:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65_536))
        return event


async def with_peer(peer: Peer, use: Callable[[Any], Awaitable[None]], patience: Any = HANG_SECONDS) -> None:
    """Call `use` with a client of a server whose tools ask `peer`; `patience` is the timeout of httpx2."""
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, peer.serve, 0)
            port = listeners[0].socket.getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=patience) as http:
                server = Server.from_openapi(SPEC, http, progress=Lossless())
                async with open_client(server) as mcp:
                    await use(mcp)
            await peer.closed.wait()
            nursery.cancel_scope.cancel()


async def test_bytes_are_counted_up_and_down_to_their_last() -> None:
    seen: list[Any] = []
    peer = Peer()

    async def use(mcp: Any) -> None:
        arguments = {"size": 300_000, "body": "a" * 200_000}
        result = await mcp.call_tool("swap", arguments, progress_handler=lambda *values: seen.append(values))
        assert len(result.text) == 300_000

    await with_peer(peer, use)
    assert peer.received == 200_000
    ups = [values for values in seen if values[2] == "upload"]
    downs = [values for values in seen if values[2] == "download"]
    assert seen == ups + downs
    assert [values[0] for values in ups] == [65_536, 131_072, 196_608, 200_000]
    assert {values[1] for values in ups} == {200_000}
    assert [values[0] for values in seen] == sorted({values[0] for values in seen})
    assert downs[-1] == (500_000, 500_000, "download")
    assert {values[1] for values in downs} == {500_000}


async def test_a_cancelled_call_ends_its_connection_in_the_middle_of_an_answer() -> None:
    peer = Peer(stalls=True)

    async def use(mcp: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mcp.call_tool, "swap", {"size": 100_000, "body": "a"})
            await peer.stalled.wait()
            assert not peer.closed.is_set()
            nursery.cancel_scope.cancel()
        await peer.closed.wait()

    await with_peer(peer, use)
    assert peer.received == 1


async def test_a_timeout_of_the_client_is_an_error_that_says_so() -> None:
    peer = Peer(stalls=True)

    async def use(mcp: Any) -> None:
        with pytest.raises(ToolError, match="the API did not answer in time"):
            await mcp.call_tool("swap", {"size": 100_000, "body": "a"})
        await peer.closed.wait()

    # Half of the answer comes, and then nothing.
    await with_peer(peer, use, httpx2.Timeout(HANG_SECONDS, read=0.05))
