"""Calls whose answer is lost: which of them are made again, and what is said of the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, INITIALIZED, FakeServer, result
from tests.transports.http.http_peer import Call, LegacyServer, answer_modern, serving
from trio_mcp import (
    ClientSettings,
    ConnectionLost,
    Context,
    Server,
    ServerUnavailable,
    ToolAnnotations,
    open_client,
    open_group,
)
from trio_mcp.client.target import open_target
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.testing import assert_progress
from trio_mcp.wire.frames import InFrame, Lost, OutFrame, Request, RequestId, Response

ERAS = (MODERN, LEGACY)
KEY = "b7e23ec2-9af9-4d0a-8d4e-2c1f5b0e7a11"


@attrs.define
class Losing:
    """A connector to `target` that loses answers to tools/call, as HTTP can; the first may be spared."""

    target: Any
    losses: int = 1
    spared: int = 0
    calls: list[RequestId] = attrs.field(factory=list)

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        async with open_target(self.target, settings) as transport:
            yield _LosingTransport(transport, self)


@attrs.define
class _LosingTransport:
    _inner: FrameTransport
    _losing: Losing

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        self._losing.calls += [f.id for f in frames if isinstance(f, Request) and f.method == "tools/call"]
        await self._inner.send_frames(frames)

    async def receive_frames(self) -> Sequence[InFrame]:
        return [self._lose(frame) for frame in await self._inner.receive_frames()]

    def _lose(self, frame: InFrame) -> InFrame:
        if isinstance(frame, Response) and frame.id in self._losing.calls and self._losing.losses:
            if self._losing.spared:
                self._losing.spared -= 1
                return frame
            self._losing.losses -= 1
            return Lost((frame.id,), "the answer was lost")
        return frame

    async def aclose(self) -> None:
        await self._inner.aclose()


def make_server(runs: list[str]) -> Server:
    server = Server("lost", version="1")

    async def work(ctx: Context, name: str) -> int:
        runs.append(name)
        for step in range(1, 4):
            await ctx.report_progress(step, 3)
        return len(runs)

    @server.tool
    async def pay(ctx: Context) -> int:
        return await work(ctx, "pay")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def look(ctx: Context) -> int:
        return await work(ctx, "look")

    @server.tool(annotations=ToolAnnotations(idempotent_hint=True))
    async def put(ctx: Context) -> int:
        return await work(ctx, "put")

    return server


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_call_is_not_made_again_of_which_nothing_is_known(protocol: str) -> None:
    runs: list[str] = []
    losing = Losing(make_server(runs))
    async with open_client(losing, protocol=protocol) as client:
        await client.list_tools()
        with pytest.raises(ConnectionLost) as caught:
            await client.call_tool("pay")
    assert caught.value.outcome_unknown
    assert str(caught.value) == "the answer was lost; it is not known whether tool 'pay' has run"
    assert runs == ["pay"]


@pytest.mark.parametrize("protocol", ERAS)
@pytest.mark.parametrize("tool", ["look", "put"])
async def test_a_tool_that_was_listed_as_harmless_is_called_again(
    protocol: str, tool: str, autojump_clock: trio.testing.MockClock
) -> None:
    runs: list[str] = []
    seen: list[Any] = []
    losing = Losing(make_server(runs), losses=2)
    async with open_client(losing, protocol=protocol) as client:
        await client.list_tools()
        result = await client.call_tool(tool, progress_handler=lambda *update: seen.append(update))
    assert result.data == 3
    assert len(set(losing.calls)) == 3
    assert_progress(seen)  # the second run does not begin at its first step
    assert [update[0] for update in seen] == [1, 2, 3]


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_tool_that_was_not_listed_is_not_called_again(protocol: str) -> None:
    runs: list[str] = []
    async with open_client(Losing(make_server(runs)), protocol=protocol) as client:
        with pytest.raises(ConnectionLost, match="not known whether tool 'look' has run"):
            await client.call_tool("look")
    assert runs == ["look"]


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_call_with_a_key_is_made_again_and_runs_once(
    protocol: str, autojump_clock: trio.testing.MockClock
) -> None:
    runs: list[str] = []
    losing = Losing(make_server(runs), losses=3)
    async with open_client(losing, protocol=protocol) as client:
        assert (await client.call_tool("pay", idempotency_key=KEY)).data == 1
    assert len(losing.calls) == 4
    assert runs == ["pay"]


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_call_is_made_again_at_most_three_times(
    protocol: str, autojump_clock: trio.testing.MockClock
) -> None:
    runs: list[str] = []
    losing = Losing(make_server(runs), losses=100)
    async with open_client(losing, protocol=protocol) as client:
        with pytest.raises(ConnectionLost, match="not known whether") as caught:
            await client.call_tool("pay", idempotency_key=KEY)
    assert caught.value.outcome_unknown
    assert (len(losing.calls), runs) == (4, ["pay"])


@pytest.mark.parametrize("spared", [0, 1])
async def test_a_call_that_asks_its_client_is_made_again(
    spared: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Either the question is lost, or what comes of the answer."""
    server = Server("asking", version="1")
    runs: list[Any] = []

    @server.tool
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", str)
        runs.append(answer.data)
        return f"hello {answer.data}"

    losing = Losing(server, spared=spared)
    async with open_client(losing, elicitation_handler=lambda request: {"value": "you"}) as client:
        assert (await client.call_tool("greet", idempotency_key=KEY)).data == "hello you"
    assert runs == ["you"]
    assert len(losing.calls) == 3


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_lost_connection_leaves_the_outcome_unknown(protocol: str) -> None:
    fake = FakeServer(
        {
            "initialize": result(INITIALIZED),
            "server/discover": result(DISCOVERED),
            "tools/call": lambda request: "close",
        }
    )
    async with open_client(fake, protocol=protocol) as client:
        with pytest.raises(ConnectionLost, match="not known whether tool 'pay' has run") as caught:
            await client.call_tool("pay")
        assert caught.value.outcome_unknown
        with pytest.raises(ConnectionLost) as caught:
            await client.call_tool("pay")
        assert not caught.value.outcome_unknown  # it was never sent
        assert "not known" not in str(caught.value)


async def test_a_group_says_that_the_outcome_is_unknown() -> None:
    runs: list[str] = []
    async with open_group({"one": Losing(make_server(runs))}) as group:
        with pytest.raises(ServerUnavailable, match=r"'one' was lost: .*not known whether") as caught:
            await group.call_tool("one_pay")
        assert caught.value.outcome_unknown


@pytest.mark.parametrize("protocol", ERAS)
async def test_over_http_a_broken_answer_is_unknown_and_an_unsent_call_is_not(protocol: str) -> None:
    broken = trio.Event()

    async def handle(call: Call) -> None:
        if await answer_modern(call):
            return
        await call.stream()
        broken.set()
        await call.end()

    async with (
        serving(LegacyServer(handle) if protocol == LEGACY else handle) as app,
        open_client(app.url, protocol=protocol) as client,
    ):
        with pytest.raises(ConnectionLost, match="not known whether tool 'pay' has run") as caught:
            await client.call_tool("pay")
        assert caught.value.outcome_unknown
        assert len(app.made("tools/call")) == 1
        await app.stop()
        with pytest.raises(ConnectionLost):  # it may have met a kept connection
            await client.call_tool("pay")
        with pytest.raises(ConnectionLost) as caught:
            await client.call_tool("pay")
        assert not caught.value.outcome_unknown


async def test_over_http_a_harmless_call_is_made_again_on_a_new_connection() -> None:
    async def handle(call: Call) -> None:
        if await answer_modern(call):
            return
        if call.method == "tools/list":
            tool = {"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
            await call.result({"tools": [tool], "resultType": "complete"})
        elif len(app.made("tools/call")) == 1:
            await call.stream()
            await call.end()
        else:
            await call.result({"content": [], "resultType": "complete"})

    async with serving(handle) as app, open_client(app.url) as client:
        await client.list_tools()
        await client.call_tool("look")
        assert len(app.made("tools/call")) == 2
