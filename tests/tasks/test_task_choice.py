"""Whether a call is answered directly or becomes a task."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.conftest import MODERN
from tests.tasks.task_server import Name, make_server
from trio_mcp import (
    Context,
    ProtocolError,
    Server,
    TaskConfig,
)


async def test_required_and_forbidden(wire):
    modern = wire.protocol == MODERN
    async with wire.open(make_server()) as client:
        assert (await client.call_tool("required")).data == "required", "driven transparently"
        if modern:
            handle = await client.call_tool("plain", task=True)
            assert handle.id is None
            assert (await handle.result()).data == "plain"
        else:
            with pytest.raises(ProtocolError) as refused:
                await client.call_tool("plain", task=True)
            assert refused.value.code == -32601


async def test_an_optional_tool_answers_directly_when_it_is_fast(wire):
    updates: list[Any] = []
    recorder = wire.recorder(make_server())
    async with wire.open(recorder) as client:
        result = await client.call_tool(
            "count", {"n": 3}, progress_handler=lambda *update: updates.append(update)
        )
    assert result.data == "counted 3"
    assert updates == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
    assert not any(m.get("method", "").startswith("tasks/") for m in recorder.sent_messages())


async def test_promotion(wire, autojump_clock):
    """A slow optional tool becomes a task, and its progress goes on."""
    if wire.protocol != MODERN:
        return
    server = make_server()
    updates: list[Any] = []

    @server.tool(task=TaskConfig(promote_after=2))
    async def slow(ctx: Context) -> str:
        for i in range(6):
            await ctx.report_progress(i + 1, 6, f"step {i + 1}")
            await trio.sleep(1)
        return f"slow {ctx.task_id is not None}"

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        result = await client.call_tool("slow", progress_handler=lambda *update: updates.append(update))
    assert result.data == "slow True"
    assert updates == [(i, 6, f"step {i}") for i in range(1, 7)]
    kinds = [m["result"].get("resultType") for m in recorder.received_messages() if "result" in m]
    assert "task" in kinds


async def test_asking_for_input_promotes_at_once(wire, autojump_clock):
    server = make_server()

    @server.tool(task=TaskConfig(promote_after=1000))
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        return f"{answer.data.name} {ctx.task_id is not None}"

    async with wire.open(server, elicitation_handler=lambda request: {"name": "x"}) as client:
        result = await client.call_tool("greet")
    assert result.data == f"x {wire.protocol == MODERN}"
    assert trio.current_time() < 900


async def test_a_default_for_all_tools(wire):
    """The server says it for all, and a tool may say otherwise."""
    server = Server("default", version="1", default_task=TaskConfig(mode="required", ttl=700))

    @server.tool
    async def usual(ctx: Context) -> bool:
        return ctx.task_id is not None

    @server.tool(task=False)
    async def never(ctx: Context) -> bool:
        return ctx.task_id is not None

    @server.tool(task=TaskConfig(ttl=900))
    async def other(ctx: Context) -> bool:
        return ctx.task_id is not None

    async with wire.open(server) as client:
        assert (await client.call_tool("usual")).data is True
        assert (await client.call_tool("never")).data is False
        for name, ttl in (("usual", 700), ("other", 900)):
            task = await client.call_tool(name, task=True)
            assert (await task.status()).ttl == ttl
            assert (await task.result()).data is True
