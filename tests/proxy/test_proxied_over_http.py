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


def make_mirror() -> Server:
    mirror = Server("mirror")

    @mirror.tool
    async def look(ctx: Context) -> dict[str, str]:
        return {name: value for name, value in ctx.headers.items() if name in ("authorization", "x-tenant")}

    return mirror


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_no_header_is_handed_on_unless_it_is_named(down: str, up: str) -> None:
    async def exchange(ctx: Context) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return {"authorization": f"Bearer for-{ctx.headers['x-tenant']}"}

    async with served(make_mirror()) as first:
        for forward_headers, expected in (
            (None, {}),
            (["X-Tenant"], {"x-tenant": "{}"}),
            (exchange, {"authorization": "Bearer for-{}"}),
        ):
            proxy = create_proxy(first, protocol=up, forward_headers=forward_headers)
            async with served(proxy) as url:
                for tenant in ("one", "two"):
                    headers = {"x-tenant": tenant, "authorization": f"Bearer {tenant}"}
                    async with open_client(url, protocol=down, headers=headers) as client:
                        found = (await client.call_tool("look")).data
                        assert found == {name: text.format(tenant) for name, text in expected.items()}


def test_headers_are_for_urls() -> None:
    with pytest.raises(TypeError, match="forward_headers"):
        create_proxy(make_mirror(), forward_headers=["x-tenant"])
    with pytest.raises(TypeError, match="list of names"):
        create_proxy("http://127.0.0.1/mcp", forward_headers="x-tenant")
