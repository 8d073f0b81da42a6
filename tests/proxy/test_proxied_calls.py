"""What belongs to one call and passes through proxies: deadlines, keys, calls of other tools."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from trio_mcp import CallTimeout, Context, Server, create_proxy, open_client, open_server

ERAS = list(itertools.product((MODERN, LEGACY), repeat=2))


def behind_two(origin: Any, up: str) -> Server:
    return create_proxy(create_proxy(origin, protocol=up), protocol=up)


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_the_deadline_of_a_call_is_known_to_the_innermost_handler(
    down: str, up: str, autojump_clock: trio.testing.MockClock
) -> None:
    origin, left = Server("origin"), []

    @origin.tool
    async def wait(ctx: Context) -> None:
        left.append(ctx.deadline - trio.current_time())
        await trio.sleep_forever()

    async with open_client(behind_two(origin, up), protocol=down) as client:
        with pytest.raises(CallTimeout, match="longer than 10 seconds"):
            await client.call_tool("wait", max_timeout=10)
    assert len(left) == 1
    assert 8 < left[0] < 10


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_an_idle_timeout_is_kept_up_by_progress_alone(
    down: str, up: str, autojump_clock: trio.testing.MockClock
) -> None:
    origin = Server("origin")

    @origin.tool
    async def work(ctx: Context, pause: float) -> str:
        assert ctx.deadline == math.inf or pause < 10
        for number in range(1, 6):
            await trio.sleep(pause)
            await ctx.report_progress(number)
        return "done"

    async with open_client(behind_two(origin, up), protocol=down) as client:
        assert (await client.call_tool("work", {"pause": 1}, idle_timeout=2)).text == "done"
        with pytest.raises(CallTimeout, match="no progress for 2 seconds"):
            await client.call_tool("work", {"pause": 3}, idle_timeout=2)


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_calls_with_one_key_are_carried_out_once(down: str, up: str) -> None:
    origin, calls = Server("origin"), []

    @origin.tool
    async def pay(ctx: Context, amount: int) -> int:
        calls.append(amount)
        await trio.lowlevel.checkpoint()
        return len(calls)

    async with open_server(behind_two(origin, up)) as running, open_client(running, protocol=down) as client:
        assert client.takes_idempotency_keys
        for _ in range(2):
            result = await client.call_tool("pay", {"amount": 5}, idempotency_key="one")
            assert result.data == 1
        assert (await client.call_tool("pay", {"amount": 5}, idempotency_key="two")).data == 2
    assert calls == [5, 5]


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_a_tool_of_the_proxy_calls_one_behind_it_that_asks(down: str, up: str) -> None:
    origin, seen = Server("origin"), []

    @origin.tool
    async def order(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        answer = await ctx.elicit("What?", str)
        await ctx.report_progress(2, 2)
        return f"{answer.data}!"

    proxy = create_proxy(origin, protocol=up)

    @proxy.tool
    async def twice(ctx: Context) -> list[str]:
        stages = [ctx.progress().stage(name) for name in ("first", "second")]
        found = []
        for stage in stages:
            async with stage as progress:
                found.append((await ctx.call_tool("order", progress=progress)).text)
        own = await ctx.elicit("And?", str)
        return [*found, own.data or ""]

    asked = []

    def answer(request: Any) -> Any:
        asked.append(request.message)
        return {"value": f"soup {len(asked)}"}

    async with open_client(proxy, protocol=down, elicitation_handler=answer) as client:
        with trio.fail_after(HANG_SECONDS):
            result = await client.call_tool("twice", progress_handler=lambda p, t, m: seen.append(p))
    assert result.data == ["soup 1!", "soup 2!", "soup 3"]
    assert asked == ["What?", "What?", "And?"]
    assert seen == sorted(seen)
    assert seen


async def test_a_proxy_runs_several_times_at_once() -> None:
    origin = Server("origin")

    @origin.tool
    async def hello() -> str:
        return "hello"

    proxy = create_proxy(origin)
    async with open_client(proxy) as first:
        async with open_client(proxy) as second:
            assert (await second.call_tool("hello")).text == "hello"
        assert (await first.call_tool("hello")).text == "hello"
        assert [tool.name for tool in await first.list_tools()] == ["hello"]


async def test_a_slow_client_slows_down_the_server_and_loses_nothing() -> None:
    from trio_mcp import ClientSettings, Lossless, ServerSettings

    origin, reported = Server("origin", settings=ServerSettings(progress=Lossless(buffer=8))), 0

    @origin.tool
    async def work(ctx: Context) -> None:
        nonlocal reported
        for number in range(1, 3001):
            await ctx.report_progress(number)
            reported = number

    lossless = ClientSettings(progress=Lossless(buffer=8))
    settings = ServerSettings(progress=Lossless(buffer=8))
    proxy = create_proxy(
        create_proxy(origin, settings=settings, client_settings=lossless),
        settings=settings,
        client_settings=lossless,
    )
    seen: list[float] = []
    most = 0

    async def note(progress: float, total: float | None, message: str | None) -> None:
        nonlocal most
        if progress == 100:
            await trio.testing.wait_all_tasks_blocked()
            most = reported
        seen.append(progress)

    async with open_client(proxy, settings=lossless) as client:
        await client.call_tool("work", progress_handler=note)
    assert seen == list(range(1, 3001))
    assert most < 1000
