"""Who answers the questions of a background task: a client that waits for its result, and has a handler."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.limits import HANG_SECONDS
from tests.tasks.task_server import Name
from trio_mcp import Client, Context, ProtocolError, Server, TaskConfig, open_client, open_server


def make_asking_server() -> Server:
    server = Server("asking", version="1")

    @server.tool(task=True)
    async def confirm(ctx: Context) -> str:
        answer = await ctx.elicit("Really?", Name)
        return answer.data.name if answer.accepted else answer.action

    @server.tool(task=True)
    async def think(ctx: Context) -> str:
        return (await ctx.sample("Why?", max_tokens=5)).text

    return server


async def watch(client: Client, task_id: str) -> None:
    async with client.watch_task(task_id) as snapshots:
        async for _ in snapshots:
            pass


def refuse_to_answer(request: Any) -> Any:
    raise AssertionError("a watcher is not asked")


@pytest.mark.parametrize("has_handlers", [False, True])
@pytest.mark.parametrize("tool", ["confirm", "think"])
async def test_a_client_that_only_watches_does_not_answer_for_the_owner(
    wire: Wire, tool: str, has_handlers: bool
):
    if wire.protocol == LEGACY:
        pytest.skip("in 2025-11-25 a server asks the client that has started the task, by a request to it")
    asked, release = trio.Event(), trio.Event()

    async def answer(request: Any) -> Any:
        asked.set()
        await release.wait()
        return {"name": "yes"} if tool == "confirm" else "yes"

    handlers = {"elicitation_handler": answer, "sampling_handler": answer}
    others = dict.fromkeys(handlers, refuse_to_answer) if has_handlers else {}
    results: list[Any] = []
    async with (
        open_server(make_asking_server()) as running,
        wire.open_running(running, **handlers) as owner,
        wire.open_running(running, **others) as watcher,
        trio.open_nursery() as nursery,
    ):
        task = await owner.call_tool(tool, task=True)

        async def wait() -> None:
            results.append((await task.result()).data)

        nursery.start_soon(watch, watcher, task.id)
        nursery.start_soon(wait)
        with trio.fail_after(HANG_SECONDS):
            await asked.wait()
            async with watcher.watch_task(task.id) as snapshots:
                async for snapshot in snapshots:
                    if snapshot.status == "input_required":
                        break
            await watcher.ping()  # so that what the watcher might have answered has arrived
            assert (await owner.fetch_task(task.id)).status == "input_required"
            release.set()
    assert results == ["yes"]


@pytest.mark.parametrize("tool", ["confirm", "think"])
async def test_a_client_without_a_handler_leaves_the_question_open_while_it_waits(tool: str, autojump_clock):
    """Another client answers for it."""
    results: list[Any] = []
    async with (
        open_server(make_asking_server()) as running,
        open_client(running, protocol=MODERN) as plain,
        open_client(
            running,
            protocol=MODERN,
            elicitation_handler=lambda request: {"name": "yes"},
            sampling_handler=lambda request: "yes",
        ) as able,
        trio.open_nursery() as nursery,
    ):
        task = await able.call_tool(tool, task=True)

        async def wait() -> None:
            results.append((await plain.await_task(task.id)).data)

        nursery.start_soon(wait)
        await trio.sleep(30)
        assert results == []
        assert (await able.fetch_task(task.id)).status == "input_required"
        with trio.fail_after(10):
            assert (await task.result()).data == "yes"
    assert results == ["yes"]


async def test_an_unasked_task_is_answered_by_the_call_that_waits_for_it(wire: Wire):
    server = Server("asking", version="1")

    @server.tool(task=TaskConfig(mode="required"))
    async def confirm(ctx: Context) -> str:
        return (await ctx.elicit("Really?", Name)).data.name

    with trio.fail_after(HANG_SECONDS):
        async with wire.open(server, elicitation_handler=lambda request: {"name": "yes"}) as client:
            assert (await client.call_tool("confirm")).data == "yes"


async def test_a_question_before_the_task_fails_the_call_of_a_client_without_a_handler():
    server = Server("gathering", version="1")

    async def gather(ctx: Context, arguments: dict[str, Any]) -> str:
        return (await ctx.elicit("Who?", Name)).data.name

    @server.tool(task=TaskConfig(gather=gather))
    async def greet(ctx: Context) -> str:
        return str(ctx.gathered)

    async with open_client(server, protocol=MODERN) as client:
        with trio.fail_after(HANG_SECONDS), pytest.raises(ProtocolError):
            await client.call_tool("greet")
