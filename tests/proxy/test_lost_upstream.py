"""A proxy whose server is lost, and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, FakeServer, result, silence
from trio_mcp import (
    CallTimeout,
    ClientSettings,
    Context,
    ProtocolError,
    Server,
    create_proxy,
    open_client,
    open_server,
)
from trio_mcp.client.target import open_served
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.transports.memory import memory_pair


@attrs.define
class Breakable:
    """A way to a running server that can be cut; while it `is_down`, nobody can connect."""

    server: Any
    is_down: bool = False
    connected: int = 0
    open: list[FrameTransport] = attrs.field(factory=list)

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        if self.is_down:
            raise OSError("nobody is there")
        self.connected += 1
        ours, theirs = memory_pair()
        async with open_served(self.server, ours, theirs) as transport:
            self.open.append(transport)
            try:
                yield transport
            finally:
                self.open.remove(transport)

    async def cut(self) -> None:
        for transport in list(self.open):
            await transport.aclose()


def make_origin() -> Server:
    origin = Server("origin")

    @origin.tool
    async def hello() -> str:
        return "hello"

    @origin.tool
    async def hang(ctx: Context) -> None:
        await ctx.report_progress(1)
        await trio.sleep_forever()

    @origin.resource("x://seen")
    async def seen() -> str:
        return "seen"

    return origin


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_lost_server_is_connected_to_again(
    protocol: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    origin = make_origin()
    async with open_server(origin) as running:
        way = Breakable(running)
        async with open_client(create_proxy(way, protocol=protocol)) as client:
            assert (await client.call_tool("hello")).text == "hello"
            way.is_down = True
            await way.cut()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ProtocolError, match="'upstream' is not connected") as lost:
                await client.call_tool("hang")
            assert lost.value.data == {"status": 503}
            assert [tool.name for tool in await client.list_tools()] == ["hello", "hang"]
            await trio.sleep(300)
            assert way.connected == 1
            origin.add_tool(lambda: "new", name="new")
            way.is_down = False
            await trio.sleep(60)
            assert way.connected == 2
            assert [tool.name for tool in await client.list_tools()] == ["hello", "hang", "new"]
            assert (await client.call_tool("hello")).text == "hello"
    assert "'upstream' is not connected: nobody is there" in caplog.text


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_call_that_is_lost_says_so(protocol: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_server(make_origin()) as running:
        way = Breakable(running)
        async with open_client(create_proxy(way, protocol=protocol)) as client:

            async def cut(progress: float, total: float | None, message: str | None) -> None:
                await way.cut()

            with pytest.raises(ProtocolError, match=r"'upstream' was lost.*not known whether") as lost:
                await client.call_tool("hang", progress_handler=cut)
            assert lost.value.data is None
            await trio.sleep(5)
            assert (await client.call_tool("hello")).text == "hello"


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_subscriptions_go_on_after_a_loss(
    protocol: str, autojump_clock: trio.testing.MockClock
) -> None:
    origin = make_origin()
    async with open_server(origin) as running:
        way = Breakable(running)
        async with (
            open_client(create_proxy(way, protocol=protocol)) as client,
            client.subscribe("x://seen") as changes,
        ):
            await trio.sleep(1)
            await way.cut()
            await trio.sleep(60)
            assert changes.receive_nowait()  # it may have changed meanwhile
            origin.notify_resource_updated("x://seen")
            with trio.fail_after(5):
                await changes.receive()


async def test_one_of_several_servers_is_connected_to_when_it_is_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_server(make_origin()) as running:
        way = Breakable(running, is_down=True)
        proxy = create_proxy({"a": make_origin(), "b": way})
        async with open_client(proxy) as client:
            assert len(await client.list_tools()) == 2
            way.is_down = False
            await trio.sleep(60)
            assert (await client.call_tool("b_hello")).text == "hello"


async def test_the_end_of_a_proxy_closes_its_connections() -> None:
    async with open_server(make_origin()) as running:
        way = Breakable(running)
        async with open_client(
            create_proxy(way, protocol=LEGACY), elicitation_handler=lambda r: {}
        ) as client:
            await client.call_tool("hello")
            assert way.connected == 2  # one for lists, and one of the client's own
        assert not way.open


async def test_a_client_that_is_gone_leaves_no_connection() -> None:
    async with open_server(make_origin()) as running:
        way = Breakable(running)
        async with open_server(create_proxy(way, protocol=LEGACY)) as proxy:
            for protocol in (MODERN, LEGACY):
                async with open_client(proxy, protocol=protocol, elicitation_handler=lambda r: {}) as client:
                    await client.call_tool("hello")
                    await client.call_tool("hello")
                    assert len(way.open) == 2
                await trio.testing.wait_all_tasks_blocked()
                assert len(way.open) == 1
        assert way.connected == 3


async def test_a_proxy_of_a_client_that_is_open_uses_its_connection() -> None:
    async with (
        open_client(make_origin()) as upstream,
        open_client(create_proxy(upstream)) as client,
    ):
        assert (await client.call_tool("hello")).text == "hello"
        assert [tool.name for tool in await client.list_tools()] == ["hello", "hang"]


async def test_a_server_that_does_not_answer_for_its_lists_is_an_error_of_the_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    silent = FakeServer({"server/discover": result(DISCOVERED), "tools/list": silence})
    with pytest.raises(CallTimeout, match="did not list what it has"):
        async with open_server(create_proxy(silent)):
            pass


async def test_connections_of_a_principal_are_kept_for_its_next_request_until_they_are_idle(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_server(make_origin()) as running:
        way = Breakable(running)
        async with open_server(create_proxy(way, protocol=LEGACY)) as proxy:
            for name, connected in (("ada", 2), ("ada", 2), ("bob", 3)):
                target = proxy.authenticated(name)
                async with open_client(target, elicitation_handler=lambda r: {}) as client:
                    await client.call_tool("hello")
                assert way.connected == connected
            assert len(way.open) == 3
            await trio.sleep(100)
            assert len(way.open) == 1
            async with open_client(proxy.authenticated("ada"), elicitation_handler=lambda r: {}) as client:
                await client.call_tool("hello")
            assert way.connected == 4
