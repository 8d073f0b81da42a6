"""Tracking: loops count their items, streams count their bytes, and neither changes a plan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.conftest import MODERN, Wire
from tests.progress.test_progress import run_tool
from tests.support.limits import HANG_SECONDS
from tests.support.turns import counting_turns
from trio_mcp import ClientSettings, Context, Lossless, ProgressHelper, Server, ServerSettings, open_client

turn = trio.lowlevel.checkpoint
MEMORY = Wire("memory", MODERN)


class Countdown:
    """An async iterable of no known length."""

    def __init__(self, start: int) -> None:
        self.left = start

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        await turn()
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


async def test_a_loop_counts_each_item_once_its_body_is_done(wire):
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        seen = []
        for name in progress.track(["a", "b", "c"], message="copying"):
            seen.append((name, progress.current, progress.total))
            await turn()
        return [*seen, progress.current]

    data, updates, _ = await run_tool(wire, tool)
    assert data == [["a", None, 3], ["b", 1, 3], ["c", 2, 3], 3]
    assert updates == [(n, 3, "copying") for n in range(4)]


async def test_an_async_loop_counts_the_items_of_a_memory_channel(wire):
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        send, receive = trio.open_memory_channel[str](2)
        async with receive, trio.open_nursery() as nursery:

            async def produce() -> None:
                async with send:
                    for name in "xyz":
                        await send.send(name)

            nursery.start_soon(produce)
            seen = [
                (name, progress.message)
                async for name in progress.track(receive, total=3, message=lambda name: f"copying {name}")
            ]
        return [*seen, progress.current, progress.total]

    data, updates, _ = await run_tool(wire, tool)
    assert data == [["x", "copying x"], ["y", "copying y"], ["z", "copying z"], 3, 3]
    assert updates[-1] == (3, 3, "copying z")


async def test_an_async_loop_of_unknown_length_sends_no_total():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        async for _ in progress.track(Countdown(4)):
            pass
        return [progress.current, progress.total]

    data, updates, _ = await run_tool(MEMORY, tool)
    assert data == [4, 1]
    assert updates == [(n, None, None) for n in range(1, 5)]


async def test_an_async_loop_over_a_sync_iterable_is_a_cancellation_point_and_lets_others_run():
    async def tool(ctx: Context) -> list[Any]:
        async with counting_turns() as turns:
            async for _ in ctx.progress().track(range(5_000)):
                pass
        with trio.CancelScope() as scope:
            async for number in ctx.progress().track(range(5)):
                if number == 2:
                    scope.cancel()
        return [turns.count > 10, scope.cancelled_caught, ctx.progress().current]

    assert (await run_tool(MEMORY, tool))[0] == [True, True, 5_003]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_item_whose_body_leaves_the_loop_is_not_counted(kind):
    closed = []

    def letters() -> Iterator[str]:
        try:
            yield from "abcd"
        finally:
            closed.append(True)

    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        source = letters()

        async def take(enough: str, error: type[Exception] | None) -> None:
            tracked = progress.track(source, total=4)
            if kind == "sync":
                for name in tracked:
                    if name == enough and error is not None:
                        raise error
                    if name == enough:
                        break
            else:
                async for name in tracked:
                    if name == enough and error is not None:
                        raise error
                    if name == enough:
                        break

        await take("b", None)
        seen = [progress.current]
        with pytest.raises(KeyError):
            await take("d", KeyError)
        return [*seen, progress.current, list(closed), list(source)]

    assert (await run_tool(MEMORY, tool))[0] == [1, 2, [], []], "the source is left as it is"


async def test_the_total_grows_to_hold_all_tracked_items():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        totals = []
        for source in ("abc", "de", ()):
            for _ in progress.track(source):
                pass
            totals.append(progress.total)
        progress.set_total(100)
        for _ in progress.track("fg"):
            pass
        return [*totals, progress.current, progress.total]

    assert (await run_tool(MEMORY, tool))[0] == [3, 5, 5, 7, 100]


async def test_a_loop_does_not_change_the_total_of_a_plan():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.plan({"a": 50})
        for _ in progress.track("ab"):
            pass
        return [progress.current, progress.total]

    assert (await run_tool(MEMORY, tool))[0] == [2, 50]


async def test_a_loop_in_a_stage_counts_for_the_stage(wire):
    async def tool(ctx: Context) -> None:
        progress = ctx.progress()
        progress.plan({"export": 30, "publish": 70})
        async with progress.stage("export") as stage:
            async for _ in stage.track(["a", "b", "c"], message=lambda table: f"table {table}"):
                await turn()

    _, updates, _ = await run_tool(wire, tool)
    assert updates == [
        (0, 100, "export: table a"),
        (10, 100, "export: table b"),
        (20, 100, "export: table c"),
        (30, 100, None),
    ]


async def test_a_length_hint_counts_as_a_length():
    async def tool(ctx: Context) -> float | None:
        for _ in ctx.progress().track(reversed([1, 2, 3])):
            pass
        return ctx.progress().total

    assert (await run_tool(MEMORY, tool))[0] == 3


async def test_tracking_refuses_wrong_arguments():
    async def tool(ctx: Context) -> None:
        with pytest.raises(TypeError, match="only what can be iterated over can be tracked, not 5"):
            ctx.progress().track(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="track it with `async for`"):
            iter(ctx.progress().track(Countdown(3)))
        for total in (-1, float("nan"), "3"):
            with pytest.raises(ValueError, match="total"):
                ctx.progress().track("abc", total=total)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="size"):
                ctx.progress().wrap_stream(trio.testing.MemoryReceiveStream(), size=total)  # type: ignore[arg-type]

    assert (await run_tool(MEMORY, tool))[1] == []


async def test_a_loop_in_a_worker_thread_stops_when_the_call_is_cancelled(wire):
    stopped = trio.Event()

    async def tool(ctx: Context) -> None:
        try:
            await trio.to_thread.run_sync(work, ctx.progress())
        finally:
            stopped.set()

    def work(progress: ProgressHelper) -> None:
        for _ in progress.track(range(10_000_000)):
            pass

    server = Server("threads")
    server.add_tool(tool)
    async with wire.open(server) as client:
        with trio.CancelScope() as scope:
            await client.call_tool("tool", progress_handler=lambda *update: scope.cancel())
        with trio.fail_after(HANG_SECONDS):
            await stopped.wait()


async def test_an_async_loop_waits_for_a_lossless_client(autojump_clock):
    server = Server("lossless", settings=ServerSettings(progress=Lossless(buffer=10), strict_yield=True))
    seen: list[float] = []

    @server.tool
    async def tool(ctx: Context) -> None:
        async for _ in ctx.progress().track(range(1_000)):
            pass

    async def slow(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        if len(seen) % 100 == 0:
            await trio.sleep(1)

    async with open_client(server, settings=ClientSettings(progress=Lossless())) as client:
        await client.call_tool("tool", progress_handler=slow)
    assert seen == list(range(1, 1_001))


async def test_a_wrapped_stream_counts_its_bytes(wire):
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        send, receive = trio.testing.memory_stream_one_way_pair()
        seen = b""
        async with trio.open_nursery() as nursery:

            async def produce() -> None:
                for _ in range(4):
                    await send.send_all(b"x" * 250)
                    await trio.testing.wait_all_tasks_blocked()
                await send.aclose()

            nursery.start_soon(produce)
            async with progress.wrap_stream(receive, size=1_000) as stream:
                async for chunk in stream:
                    seen += chunk
        with pytest.raises(trio.ClosedResourceError):
            await receive.receive_some()
        return [len(seen), progress.current, progress.total]

    data, updates, _ = await run_tool(wire, tool)
    assert data == [1_000, 1_000, 1_000]
    assert [progress for progress, _, _ in updates] == [250, 500, 750, 1_000]


async def test_a_wrapped_stream_of_unknown_or_zero_size_has_no_total():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        for size, data in ((None, b"abc"), (0, b"")):
            receive = trio.testing.MemoryReceiveStream()
            receive.put_data(data)
            receive.put_eof()
            async with progress.stage("download", weight=1) as stage:
                stream = stage.wrap_stream(receive, size)
                assert await stream.receive_some(2) == data[:2]
                assert stage.total is None
        return [progress.current, progress.total]

    assert (await run_tool(MEMORY, tool))[0] == [2, 2]
