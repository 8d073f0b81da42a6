"""A proxy that is reached over HTTP, of a server that is reached over HTTP."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Client,
    Context,
    ElicitRequest,
    Lossless,
    Server,
    ServerSettings,
    TaskConfig,
    ToolsListChanged,
    create_proxy,
    open_client,
    serve_http,
)

ERAS = list(itertools.product((MODERN, LEGACY), repeat=2))


def make_origin() -> Server:
    origin = Server("origin", settings=ServerSettings(progress=Lossless()))

    @origin.tool
    async def order(ctx: Context, dish: str) -> list[Any]:
        for number in range(1, 301):
            await ctx.report_progress(number, 600)
        answer = await ctx.elicit(f"Who eats {dish}?", str)
        for number in range(301, 601):
            await ctx.report_progress(number, 600)
        await ctx.info("ordered")
        return [dish, answer.data]

    @origin.tool(task=TaskConfig(mode="optional"))
    async def cook(ctx: Context) -> int:
        answer = await ctx.elicit("How hot?", int)
        await ctx.report_progress(answer.data or 0, 100)
        return answer.data or 0

    return origin


@asynccontextmanager
async def served(server: Server) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0"))
        yield url
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_questions_progress_logs_changes_and_tasks_pass_over_http(down: str, up: str) -> None:
    origin, seen, logged = make_origin(), [], []
    send, changes = trio.open_memory_channel[Any](10)

    async def answer(request: ElicitRequest) -> Any:
        is_number = request.schema["properties"]["value"]["type"] == "integer"
        return {"value": 7 if is_number else request.message.removeprefix("Who eats ")}

    async with (
        served(origin) as first,
        served(create_proxy(first, protocol=up)) as url,
        open_client(
            url,
            protocol=down,
            elicitation_handler=answer,
            log_handler=lambda message: logged.append(message.data),
            change_handler=send.send_nowait,
        ) as client,
    ):
        with trio.fail_after(HANG_SECONDS):
            result = await client.call_tool(
                "order", {"dish": "soup"}, progress_handler=lambda p, t, m: seen.append(p)
            )
            assert result.data == ["soup", "soup?"]
            assert seen == list(range(1, 601))
            await two_at_once(client)
            handle = await client.call_tool("cook", task=True)
            assert (await handle.result()).data == 7
            origin.add_tool(lambda: "new", name="new")
            assert await changes.receive() == ToolsListChanged()
            assert "new" in [tool.name for tool in await client.list_tools()]
    assert "ordered" in logged


async def two_at_once(client: Client) -> None:
    found: dict[str, Any] = {}

    async def order(dish: str) -> None:
        found[dish] = (await client.call_tool("order", {"dish": dish})).data

    async with trio.open_nursery() as nursery:
        nursery.start_soon(order, "fish")
        nursery.start_soon(order, "cake")
    assert found == {"fish": ["fish", "fish?"], "cake": ["cake", "cake?"]}
