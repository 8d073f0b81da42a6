"""A lossless client: a handler that goes on gets every update, however fast they come."""

from __future__ import annotations

import pytest
import trio

from tests.conftest import Wire
from trio_mcp import Client, ClientSettings, Context, Lossless, Server, ServerSettings
from trio_mcp.client.crowded_calls import STILL_SECONDS

REPORTS = 3000
SETTINGS = ClientSettings(progress=Lossless(buffer=10))


def make_server() -> Server:
    server = Server("burst", version="1", settings=ServerSettings(progress=Lossless()))

    @server.tool(task=True)
    async def burst(ctx: Context, to: int) -> int:
        for number in range(1, to + 1):
            await ctx.report_progress(number, to)
        return to

    @server.tool
    async def echo(text: str) -> str:
        return text

    return server


async def test_a_handler_that_only_counts_gets_every_update(wire: Wire):
    seen: list[float] = []
    async with wire.open(make_server(), settings=SETTINGS) as client:
        answer = await client.call_tool(
            "burst",
            {"to": REPORTS},
            progress_handler=lambda progress, total, message: seen.append(progress),
        )
    assert answer.data == REPORTS
    assert seen == list(range(1, REPORTS + 1))


@pytest.mark.parametrize("pause", [0, 0.01])
async def test_a_handler_that_waits_gets_every_update(wire: Wire, pause: float, autojump_clock):
    seen: list[float] = []

    async def handle(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        await trio.sleep(pause)

    async with wire.open(make_server(), settings=SETTINGS) as client:
        # The handler needs longer than the idle timeout, but there is always progress to be read.
        answer = await client.call_tool("burst", {"to": 600}, progress_handler=handle, idle_timeout=1)
        assert (await client.call_tool("echo", {"text": "on"})).data == "on"
    assert answer.data == 600
    assert seen == list(range(1, 601))


async def test_a_reader_of_a_channel_gets_every_update(wire: Wire):
    async with (
        wire.open(make_server(), settings=SETTINGS) as client,
        client.start_call("burst", {"to": REPORTS}) as call,
    ):
        assert [update.progress async for update in call.updates] == list(range(1, REPORTS + 1))
        assert (await call.result()).data == REPORTS


async def test_a_slow_handler_over_http_holds_back_its_own_response_only(autojump_clock):
    """It takes an update each second; the other calls of the client go on meanwhile."""
    seen: list[float] = []
    echoed: list[float] = []

    async def handle(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        if progress == 5:
            echoed.append(len((await client.call_tool("echo", {"text": "on"})).text))
        await trio.sleep(1)

    wire = Wire("http", "2026-07-28")
    async with wire.open(make_server(), settings=SETTINGS) as client:
        await client.call_tool("burst", {"to": 300}, progress_handler=handle)
    assert seen == list(range(1, 301))
    assert echoed == [2]


async def test_a_caller_that_leaves_lets_the_reader_go_on(wire: Wire, autojump_clock):
    async def handle(progress: float, total: float | None, message: str | None) -> None:
        await trio.sleep(0.05)

    async with wire.open(make_server(), settings=SETTINGS) as client:
        with trio.move_on_after(1):
            await client.call_tool("burst", {"to": REPORTS}, progress_handler=handle)
        with trio.fail_after(5):
            assert (await client.call_tool("echo", {"text": "on"})).data == "on"


@pytest.mark.parametrize("reads", ["handler", "channel"])
async def test_time_in_which_the_process_did_not_run_counts_against_no_handler(reads: str, mock_clock):
    """On a busy machine all deadlines may pass before any task gets a turn."""
    seen: list[float] = []
    goes_on = trio.Event()

    async def handle(progress: float, total: float | None, message: str | None) -> None:
        await goes_on.wait()
        seen.append(progress)

    async def count(client: Client) -> None:
        if reads == "handler":
            await client.call_tool("burst_at_once", {"to": REPORTS}, progress_handler=handle)
            return
        async with client.start_call("burst_at_once", {"to": REPORTS}) as call:
            await goes_on.wait()
            async for update in call.updates:
                seen.append(update.progress)

    server = make_server()
    server.add_tool(server.tools["burst"].function, name="burst_at_once", task=False)
    wire = Wire("memory", "2026-07-28")
    async with wire.open(server, settings=SETTINGS) as client, trio.open_nursery() as nursery:
        nursery.start_soon(count, client)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10 * STILL_SECONDS)
        goes_on.set()
    assert seen == list(range(1, REPORTS + 1))
