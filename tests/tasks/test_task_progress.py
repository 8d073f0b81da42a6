"""The progress of background tasks, as their callers, their followers and their records show it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from msgspec.structs import replace

from tests.conftest import LEGACY
from tests.support.limits import HANG_SECONDS
from tests.tasks.task_server import gate, make_server
from trio_mcp import (
    CallTimeout,
    Context,
    Lossless,
    Server,
    ServerSettings,
    TaskConfig,
    TaskNotFound,
    open_client,
    open_server,
)
from trio_mcp.testing import PipeConnector, WireRecorder


async def test_legacy_progress_keeps_the_token_until_the_end(wire):
    if wire.protocol != LEGACY:
        return
    updates: list[Any] = []
    recorder = wire.recorder(make_server())
    async with wire.open(recorder) as client:
        task = await client.call_tool(
            "count", {"n": 200}, task=True, progress_handler=lambda *update: updates.append(update)
        )
        await task.result()
    assert updates == [(i, 200, f"step {i}") for i in range(1, 201)]
    for message in recorder.received_messages("notifications/progress"):
        related = message["params"]["_meta"]["io.modelcontextprotocol/related-task"]
        assert related == {"taskId": task.id}


async def test_stored_progress_never_goes_back_and_keeps_its_floats(wire):
    server = make_server()
    reported, release = trio.Semaphore(0), trio.Event()

    @server.tool(task=True)
    async def zigzag(ctx: Context, values: list[float], total: float) -> None:
        for value in values:
            await ctx.report_progress(value, total)
        reported.release()
        await release.wait()

    async with open_server(server) as running, wire.open_running(running) as client:
        for values, total, kept in (([5, 3, 6], 10, 6), ([0.25], 1.0, 0.25), ([5, 3], 10, 5)):
            task = await client.call_tool("zigzag", {"values": values, "total": total}, task=True)
            await reported.acquire()
            await trio.testing.wait_all_tasks_blocked(0.01)
            snapshot = await client.fetch_task(task.id)
            assert (snapshot.current, snapshot.total) == (kept, total)
        release.set()


async def test_the_progress_handler_is_done_before_the_result(wire, autojump_clock):
    finished = 0

    async def handler(*update: Any) -> None:
        nonlocal finished
        await trio.sleep(1)
        finished += 1

    async with wire.open(make_server()) as client:
        task = await client.call_tool("count", {"n": 5}, task=True, progress_handler=handler)
        await task.result()
        seen = finished
        assert seen >= 1
        await trio.sleep(60)
        assert finished == seen


async def test_an_hour_of_virtual_time(wire, autojump_clock):
    """3,600 reports, one a second, without real waiting; the last is delivered."""
    updates: list[float] = []
    async with wire.open(make_server(ttl=7200)) as client:
        task = await client.call_tool(
            "count",
            {"n": 3600, "pause": 1},
            task=True,
            progress_handler=lambda progress, *rest: updates.append(progress),
        )
        assert (await task.result()).data == "counted 3600"
    assert updates == sorted(set(updates))
    assert updates[-1] == 3600
    assert len(updates) > 1000


async def test_status_notifications_keep_their_order():
    """working, working with a message, completed (2025-11-25)."""
    server = make_server()
    reached, release, _ = await gate(server)
    for target in (server, PipeConnector(server)):
        recorder = WireRecorder(target)
        async with open_client(recorder, protocol=LEGACY) as client:
            task = await client.call_tool("wait", task=True)
            await reached.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            release.set()
            await task.result()
        told = [m["params"] for m in recorder.received_messages("notifications/tasks/status")]
        assert [(t["status"], t.get("statusMessage")) for t in told] == [
            ("working", None),
            ("working", "Half done (1/2)"),
            ("completed", "Half done (1/2)"),
        ]


async def test_watching_ends_cleanly(wire):
    """Nothing of the watching leaks out of its block, and an unknown task is an error alone."""
    server = make_server()
    reached, release, _ = await gate(server)
    done = False
    async with wire.open(server) as client:
        task = await client.call_tool("wait", task=True)
        await reached.wait()
        with trio.CancelScope() as scope:
            async with task.updates() as snapshots:
                assert (await snapshots.receive()).status == "working"
            done = True
        assert done
        assert not scope.cancelled_caught
        with pytest.raises(KeyError, match="mine"):
            async with client.watch_task(task.id):
                raise KeyError("mine")
        with pytest.raises(TaskNotFound):
            async with client.watch_task("unknown"):
                raise AssertionError("never reached")
        release.set()
        await task.result()


async def test_a_lossless_task_goes_on_when_its_client_has_left(wire):
    """Nobody reads any more, so nothing holds the handler back (law 10)."""
    server = Server("lossless", version="1", settings=ServerSettings(progress=Lossless(buffer=4)))
    start = trio.Event()

    @server.tool(task=True)
    async def work(ctx: Context) -> str:
        await start.wait()
        for i in range(1000):
            await ctx.report_progress(i)
        return "worked"

    async with open_server(server) as running:
        async with wire.open_running(running.authenticated("me")) as client:
            task = await client.call_tool("work", task=True, progress_handler=lambda *update: None)
        start.set()
        with trio.fail_after(HANG_SECONDS):
            record = await running.await_task(task.id)
    assert record.status == "completed"
    assert record.progress is not None
    assert record.progress.current == 999


async def test_snapshots_carry_progress_in_both_eras(wire):
    server = make_server()
    reached, release, _ = await gate(server)
    async with wire.open(server) as client:
        task = await client.call_tool("wait", task=True)
        await reached.wait()
        async with task.updates() as snapshots:
            release.set()
            seen = [snapshot async for snapshot in snapshots]
    assert seen[-1].status == "completed"
    assert [(s.current, s.total, s.message) for s in seen] == [(1, 2, "Half done")] * len(seen)


async def test_progress_of_a_task_that_was_made_without_a_handler(wire, autojump_clock):
    """Whoever awaits it later sees its progress, and progress moves the idle timeout."""
    server = make_server()
    updates: list[Any] = []
    async with open_server(server) as running, wire.open_running(running.authenticated("me")) as first:
        task = await first.call_tool("count", {"n": 10, "pause": 2}, task=True)
        async with wire.open_running(running.authenticated("me")) as second:
            result = await second.await_task(
                task.id, progress_handler=lambda *update: updates.append(update), idle_timeout=5
            )
        assert result.data == "counted 10"
        assert updates[-1] == (10, 10, "step 10")
        assert len(updates) > 3
        slow = await first.call_tool("count", {"n": 2, "pause": 100}, task=True)
        with pytest.raises(CallTimeout, match="no progress for 5 seconds"):
            await slow.result(idle_timeout=5)


async def test_a_task_knows_its_rate_and_the_time_left(wire, autojump_clock):
    server = make_server()
    seen: list[tuple[float, float, float]] = []

    @server.tool(task=TaskConfig(mode="required"))
    async def work(ctx: Context) -> None:
        for number in range(101):
            await ctx.report_progress(number, 100)
            await trio.sleep(2)

    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(1)
        first = await client.fetch_task(task.id)
        assert (first.current, first.rate, first.eta) == (0, None, None)
        await trio.sleep(60)
        later = await client.fetch_task(task.id)
        assert later.current == pytest.approx(30, abs=1)
        assert later.rate == pytest.approx(0.5, rel=0.01)
        assert later.eta == pytest.approx(2 * (100 - later.current), rel=0.01)
        assert later == replace(await client.fetch_task(task.id), last_updated_at=later.last_updated_at)
        record = await running.fetch_task(task.id)
        assert record.progress is not None
        assert record.progress.rate == pytest.approx(later.rate, rel=0.01)
        async with client.watch_task(task) as snapshots:
            async for snapshot in snapshots:
                if not snapshot.is_final:
                    seen.append((snapshot.current, snapshot.rate, snapshot.eta))
        ended = await client.fetch_task(task.id)
        assert (ended.current, ended.rate, ended.eta) == (100, None, None), "what has ended moves no more"
    assert len(seen) > 10
    assert all(rate == pytest.approx(0.5, rel=0.05) for _, rate, _ in seen)
    assert all(eta == pytest.approx(2 * (100 - current), rel=0.05, abs=0.1) for current, _, eta in seen)


async def test_a_task_that_is_never_polled_estimates_all_the_same(autojump_clock):
    """And with bounded work: a thousand reports a second, of which few are looked at."""
    server = make_server()

    @server.tool(task=TaskConfig(mode="required"))
    async def work(ctx: Context) -> None:
        for number in range(100_000):
            await ctx.report_progress(number, 100_000)
            await trio.sleep(0.001)

    async with open_server(server) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(20)
        snapshot = await client.fetch_task(task.id)
        assert snapshot.rate == pytest.approx(1000, rel=0.05)
        assert snapshot.eta == pytest.approx(80, rel=0.05)
        await task.cancel()
