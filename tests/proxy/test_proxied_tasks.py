"""Background tasks of a server behind a proxy of a proxy."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Context,
    Lossless,
    ProtocolError,
    Server,
    ServerSettings,
    TaskCancelled,
    TaskConfig,
    ToolError,
    create_proxy,
    open_client,
    open_server,
)

ERAS = list(itertools.product((MODERN, LEGACY), repeat=2))
REPORTS = 200


@attrs.define
class Origin:
    """The innermost server, whose tasks tell how they end."""

    server: Server = attrs.field(
        factory=lambda: Server("origin", settings=ServerSettings(progress=Lossless()))
    )
    go: trio.Event = attrs.field(factory=trio.Event)
    started: trio.Event = attrs.field(factory=trio.Event)
    cancelled: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        @self.server.tool(task=TaskConfig(mode="optional", promote_after=0))
        async def work(ctx: Context, to: int) -> dict[str, int]:
            for number in range(1, to + 1):
                await ctx.report_progress(number, to, f"step {number}")
            return {"worked": to}

        @self.server.tool(task=TaskConfig(mode="required"))
        async def wait(ctx: Context) -> str:
            await ctx.report_progress(1, 2, "waiting")
            self.started.set()
            try:
                await self.go.wait()
            except trio.Cancelled:
                self.cancelled.set()
                raise
            await ctx.report_progress(2, 2, "done")
            return "waited"

        @self.server.tool(task=True)
        async def fail(how: str) -> None:
            if how == "error":
                raise ProtocolError(-32077, "no way", {"way": "none"})
            raise ToolError("did not work")


def behind_two(origin: Any, up: str) -> Server:
    return create_proxy(create_proxy(origin, protocol=up), protocol=up)


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_a_task_reports_every_update_in_order_and_then_its_result(down: str, up: str) -> None:
    seen: list[Any] = []
    async with open_client(behind_two(Origin().server, up), protocol=down) as client:
        handle = await client.call_tool(
            "work", {"to": REPORTS}, task=True, progress_handler=lambda p, t, m: seen.append((p, t, m))
        )
        assert handle.id is not None
        with trio.fail_after(HANG_SECONDS):
            result = await handle.result()
    assert result.data == {"worked": REPORTS}
    assert seen == [(number, REPORTS, f"step {number}") for number in range(1, REPORTS + 1)]


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_the_state_of_a_task_is_that_of_the_task_behind_the_proxies(down: str, up: str) -> None:
    origin = Origin()
    async with open_client(behind_two(origin.server, up), protocol=down) as client:
        handle = await client.call_tool("wait", task=True, ttl=600 if down == LEGACY else None)
        with trio.fail_after(HANG_SECONDS):
            async with handle.updates() as snapshots:
                async for snapshot in snapshots:
                    if snapshot.current == 1:
                        break
            assert snapshot.status == "working"
            assert (snapshot.total, snapshot.message) == (2, "waiting")
            if down == LEGACY:
                assert snapshot.ttl == 600
            origin.go.set()
            assert (await handle.result()).text == "waited"
        ended = await client.fetch_task(handle.id or "")
        assert (ended.status, ended.current) == ("completed", 2)


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_a_cancelled_task_is_cancelled_at_its_server(down: str, up: str) -> None:
    origin = Origin()
    async with open_client(behind_two(origin.server, up), protocol=down) as client:
        handle = await client.call_tool("wait", task=True)
        with trio.fail_after(HANG_SECONDS):
            await origin.started.wait()
            await handle.cancel()
            await origin.cancelled.wait()
            with pytest.raises(TaskCancelled):
                await handle.result()


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_the_failure_of_a_task_comes_as_it_is(down: str, up: str) -> None:
    async with open_client(behind_two(Origin().server, up), protocol=down) as client:
        handle = await client.call_tool("fail", {"how": "tool"}, task=True)
        with trio.fail_after(HANG_SECONDS), pytest.raises(ToolError, match="did not work"):
            await handle.result()
        handle = await client.call_tool("fail", {"how": "error"}, task=True)
        with trio.fail_after(HANG_SECONDS), pytest.raises(ProtocolError, match="no way") as refused:
            await handle.result()
        assert (refused.value.code, refused.value.data) == (-32077, {"way": "none"})


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_a_call_of_a_tool_that_runs_only_as_a_task_is_waited_for(down: str, up: str) -> None:
    origin, seen = Origin(), []
    origin.go.set()
    async with open_client(behind_two(origin.server, up), protocol=down) as client:
        with trio.fail_after(HANG_SECONDS):
            result = await client.call_tool("wait", progress_handler=lambda p, t, m: seen.append((p, m)))
    assert result.text == "waited"
    assert seen == [(1, "waiting"), (2, "done")]


async def test_a_call_becomes_a_task_when_the_server_behind_the_proxies_makes_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    origin = Server("origin")

    @origin.tool(task=TaskConfig(promote_after=1, ttl=70))
    async def take(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    async with (
        open_server(behind_two(origin, MODERN)) as running,
        open_client(running.authenticated("ada")) as client,
    ):
        assert (await client.call_tool("take", {"seconds": 0.5})).text == "done"
        assert await running.list_tasks("ada") == []
        assert (await client.call_tool("take", {"seconds": 2})).text == "done"
        (record,) = await running.list_tasks("ada")
    assert (record.tool, record.ttl) == ("take", 70)


async def test_more_tasks_than_a_server_runs_at_once_pass_through_its_proxy() -> None:
    origin = Origin()
    number, found = 150, []
    async with open_client(create_proxy(origin.server)) as client, trio.open_nursery() as nursery:

        async def work() -> None:
            found.append((await client.call_tool("work", {"to": 3})).data)

        for _ in range(number):
            nursery.start_soon(work)
    assert found == [{"worked": 3}] * number
