"""Background tasks end to end: how they are called and how they end, over every transport in both eras."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.conftest import MODERN
from tests.support.limits import HANG_SECONDS
from tests.tasks.task_server import gate, make_server
from trio_mcp import (
    Context,
    ProtocolError,
    TaskCancelled,
    TaskConfig,
    TaskHandle,
    ToolError,
    open_server,
)


async def test_a_task_and_its_result(wire):
    updates: list[Any] = []
    async with wire.open(make_server()) as client:
        task = await client.call_tool(
            "count", {"n": 5}, task=True, progress_handler=lambda *update: updates.append(update)
        )
        assert isinstance(task, TaskHandle)
        assert task.id is not None
        assert len(task.id) >= 22
        result = await task.result()
    assert result.data == "counted 5"
    assert updates[-1] == (5, 5, "step 5")


async def test_law_9_one_record(wire):
    """A report is on the record before anyone is told, floats as they came."""
    server = make_server()
    reached, release, _ = await gate(server)
    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool("wait", task=True)
        await reached.wait()
        record = await running.fetch_task(task.id)
        assert record.progress is not None
        assert (record.progress.current, record.progress.total) == (1, 2)
        assert record.progress.message == "Half done"
        # Trio's clock counts, and the system may have set its own meanwhile.
        assert abs(datetime.now(UTC) - record.progress.reported_at) < timedelta(minutes=1)
        snapshot = await client.fetch_task(task.id)
        assert (snapshot.current, snapshot.total, snapshot.message) == (1, 2, "Half done")
        assert snapshot.reported_at is not None
        assert snapshot.status == "working"
        assert snapshot.status_message == "Half done (1/2)"
        release.set()
        await task.result()


async def test_law_11_a_crashing_task_ends_as_its_era_demands(wire, caplog):
    modern = wire.protocol == MODERN
    async with wire.open(make_server()) as client:
        crashed = await client.call_tool("crash", task=True)
        failed = await client.call_tool("fail", task=True)
        refused = await client.call_tool("refuse", task=True)
        fine = await client.call_tool("count", {"n": 3}, task=True)
        with pytest.raises(ToolError, match="Error in tool 'crash'") as caught:
            await crashed.result()
        assert "internal detail" not in str(caught.value)
        with pytest.raises(ToolError, match="on purpose"):
            await failed.result()
        assert (await failed.result(raise_on_error=False)).is_error
        with pytest.raises(ProtocolError, match="a protocol error"):
            await refused.result()
        assert (await fine.result()).data == "counted 3"
        tool_error = "completed" if modern else "failed"
        assert (await crashed.status()).status == tool_error
        assert (await failed.status()).status == tool_error
        assert (await refused.status()).status == "failed"
        assert (await fine.status()).status == "completed"


async def test_cancelling_stops_the_handler_and_runs_its_finally(wire):
    server = make_server()
    reached, _, ends = await gate(server)
    async with wire.open(server) as client:
        task = await client.call_tool("wait", task=True)
        await reached.wait()
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        with trio.fail_after(HANG_SECONDS):
            while not ends:
                await client.ping()
        assert (await client.fetch_task(task.id)).status == "cancelled"
        assert ends == ["cancelled", "finally"]
        await task.cancel()


async def test_leaving_a_transparently_driven_call_cancels_its_task(wire):
    server = make_server()
    release, reached = trio.Event(), trio.Event()
    ends: list[str] = []

    @server.tool(task=TaskConfig(mode="required"))
    async def hang(ctx: Context) -> None:
        reached.set()
        try:
            await release.wait()
        finally:
            ends.append("ended")

    async with wire.open(server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call_tool, "hang")
        await reached.wait()
        nursery.cancel_scope.cancel()
    async with wire.open(server) as client:
        pass
    assert ends == ["ended"]


async def test_leaving_await_task_cancels_nothing(wire):
    server = make_server()
    reached, release, ends = await gate(server)
    async with wire.open(server) as client:
        task = await client.call_tool("wait", task=True)
        await reached.wait()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.await_task, task)
                await trio.testing.wait_all_tasks_blocked(0.01)
                scope.cancel()
        await client.ping()
        assert ends == []
        release.set()
        assert (await client.await_task(task)).data == "released"


async def test_ten_tasks_at_once_never_mix(wire):
    server = make_server()

    @server.tool(task=True)
    async def mine(ctx: Context, base: int) -> int:
        for i in range(50):
            await ctx.report_progress(base + i, None, str(base))
            await trio.lowlevel.checkpoint()
        return base

    async with wire.open(server) as client:

        async def run(base: int) -> None:
            seen: list[Any] = []
            task = await client.call_tool(
                "mine", {"base": base}, task=True, progress_handler=lambda *update: seen.append(update)
            )
            assert (await task.result()).data == base
            assert seen[-1][0] == base + 49
            assert all(base <= progress < base + 50 and text == str(base) for progress, _, text in seen)
            assert sorted(seen) == seen

        async with trio.open_nursery() as nursery:
            for base in range(0, 1000, 100):
                nursery.start_soon(run, base)


async def test_a_timeout_ends_a_task_with_a_tool_error(wire, autojump_clock):
    server = make_server()

    @server.tool(task=TaskConfig(timeout=5))
    async def forever() -> None:
        await trio.sleep_forever()

    async with wire.open(server) as client:
        task = await client.call_tool("forever", task=True)
        with pytest.raises(ToolError, match="longer than 5 seconds"):
            await task.result()


async def test_sync_tools_as_tasks(wire):
    server = make_server()

    @server.tool(task=True)
    def sync(ctx: Context) -> str:
        ctx.report_progress(1, 2, "in a thread")
        ctx.progress().increment()
        return "sync"

    updates: list[Any] = []
    async with wire.open(server) as client:
        task = await client.call_tool(
            "sync", task=True, progress_handler=lambda *update: updates.append(update)
        )
        assert (await task.result()).data == "sync"
    assert updates[-1] == (2, 2, "in a thread")


async def test_many_tasks_through_one_client(wire, monkeypatch):
    """Two hundred tasks of twenty reports each: all results and all 4,000 updates, in order per task."""
    # Over HTTP progress and results have streams of their own. On a busy machine it takes long until all are
    # open and have caught up, and a client that waits no more delivers the newest state alone.
    for limit in (
        "transports.http.h11_connection.CONNECT_SECONDS",
        "client.task_following.HISTORY_SECONDS",
        "client.task_waiting.LATE_SECONDS",
    ):
        monkeypatch.setattr(f"trio_mcp.{limit}", HANG_SECONDS)
    async with wire.open(
        make_server(max_running=50, max_queued=1000, max_unfinished_per_owner=1000)
    ) as client:
        finished: list[list[Any]] = []

        async def run() -> None:
            seen: list[Any] = []
            task = await client.call_tool(
                "count", {"n": 20}, task=True, progress_handler=lambda *update: seen.append(update)
            )
            assert (await task.result()).data == "counted 20"
            finished.append(list(seen))

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(run)
    assert finished == [[(i, 20, f"step {i}") for i in range(1, 21)]] * 200


async def test_a_cancellation_right_before_the_client_leaves(wire):
    server = make_server()
    reached, _, ends = await gate(server)
    async with open_server(server) as running:
        async with wire.open_running(running) as client:
            task = await client.call_tool("wait", task=True)
            await reached.wait()
            task.abandon()
        with trio.fail_after(HANG_SECONDS):
            assert (await running.await_task(task.id)).status == "cancelled"
            while not ends:
                await trio.testing.wait_all_tasks_blocked()
