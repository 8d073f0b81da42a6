"""A call that may become a task: what is known of it before the program runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import trio

from trio_mcp import CallResult, Client, Context, Server, TaskConfig, TaskHandle, open_client

server = Server("films")


@dataclass
class Film:
    title: str
    seconds: int


@server.tool(task=TaskConfig(ttl=60))
async def render(ctx: Context, title: str) -> Film:
    await ctx.report_progress(1, 2, "half")
    return Film(title, 90)


async def start(client: Client) -> None:
    handle = await client.call_tool("render", {"title": "sea"}, task=True, result_type=Film, ttl=30)
    assert_type(handle, TaskHandle[Film])
    result = await handle.result(idle_timeout=30)
    assert_type(result, CallResult[Film])
    assert result.data == Film("sea", 90)

    # Another type may be wanted later.
    assert_type((await handle.result(result_type=dict[str, Any])).data, dict[str, Any])
    assert_type((await client.await_task(handle)).data, Film)
    assert_type((await client.await_task(handle, raise_on_error=False)).data, Film)
    assert (await client.await_task(handle)).data.seconds == 90
    assert_type((await client.await_task(handle.id or "", result_type=Film)).data, Film)

    opened = await client.open_task(handle.reference(), result_type=Film)
    assert_type(opened, TaskHandle[Film])
    assert (await opened.result()).data.title == "sea"


async def start_untyped(client: Client) -> None:
    handle = await client.call_tool("render", {"title": "sea"}, task=True)
    assert_type(handle, TaskHandle[Any])
    assert (await handle.result()).data["seconds"] == 90
    typed = await handle.result(result_type=Film)
    assert_type(typed.data, Film)
    assert isinstance(typed.data, Film)
    async with client.watch_task(handle) as snapshots:
        async for snapshot in snapshots:
            assert_type(snapshot.id, str)


async def start_perhaps(client: Client, *, as_task: bool) -> Film:
    answer = await client.call_tool("render", {"title": "sea"}, task=as_task, result_type=Film)
    assert_type(answer, CallResult[Film] | TaskHandle[Film])
    if isinstance(answer, TaskHandle):
        answer = await answer.result()
    return answer.data


async def main() -> None:
    async with open_client(server) as client:
        await start(client)
        await start_untyped(client)
        for as_task in (True, False):
            assert (await start_perhaps(client, as_task=as_task)).title == "sea"


if __name__ == "__main__":
    trio.run(main)
