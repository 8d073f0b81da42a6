"""What a `TaskHandle` keeps: once the end of its task is known, the server is not needed any more."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio

from tests.conftest import Wire
from tests.support.limits import HANG_SECONDS
from tests.tasks.task_server import make_server
from trio_mcp import (
    ConnectionLost,
    ProtocolError,
    TaskCancelled,
    TaskHandle,
    TaskNotFound,
    ToolError,
    open_server,
)


async def leave(wire: Wire, tool: str, arguments: dict[str, Any], *, waits: bool = True) -> TaskHandle:
    """Run a task to its end, and return its handle when client and server are gone."""
    async with open_server(make_server()) as running, wire.open_running(running) as client:
        task = await client.call_tool(tool, arguments, task=True)
        if waits:
            with trio.fail_after(HANG_SECONDS):
                with suppress(ToolError, ProtocolError):
                    await task.result()
    return task


async def test_a_result_is_kept_when_the_server_has_stopped(wire: Wire):
    task = await leave(wire, "count", {"n": 3})
    with trio.fail_after(HANG_SECONDS):
        assert (await task.result()).data == "counted 3"
        assert (await task.result(max_timeout=1)).data == "counted 3"
        snapshot = await task.status()
        assert snapshot is not None
        assert (snapshot.id, snapshot.status) == (task.id, "completed")
        assert (snapshot.current, snapshot.total, snapshot.message) == (3, 3, "step 3")
        async with task.updates() as updates:
            assert [update.status async for update in updates] == ["completed"]
        await task.cancel()  # it has ended, so nothing is asked


@pytest.mark.parametrize(
    ("tool", "failure", "words"),
    [
        ("fail", ToolError, "on purpose"),
        ("crash", ToolError, "crash"),
        ("refuse", ProtocolError, "a protocol error"),
    ],
)
async def test_a_failure_is_kept_when_the_server_has_stopped(
    wire: Wire, tool: str, failure: type[Exception], words: str
):
    task = await leave(wire, tool, {})
    for _ in range(2):
        with trio.fail_after(HANG_SECONDS), pytest.raises(failure, match=words):
            await task.result()
    snapshot = await task.status()
    assert snapshot is not None
    assert snapshot.is_final


async def test_a_cancellation_is_kept_when_the_server_has_stopped(wire: Wire):
    async with open_server(make_server()) as running, wire.open_running(running) as client:
        task = await client.call_tool("count", {"n": 1, "pause": 60}, task=True)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
    for _ in range(2):
        with trio.fail_after(HANG_SECONDS), pytest.raises(TaskCancelled):
            await task.result()
    assert (await task.status()).status == "cancelled"


async def test_what_a_watcher_has_seen_is_kept(wire: Wire):
    async with open_server(make_server()) as running, wire.open_running(running) as client:
        task = await client.call_tool("count", {"n": 2}, task=True)
        async with client.watch_task(task) as snapshots:
            statuses = [snapshot.status async for snapshot in snapshots]
    assert statuses[-1] == "completed"
    with trio.fail_after(HANG_SECONDS):
        assert (await task.status()).status == "completed"


async def test_an_end_that_is_not_known_is_not_made_up(wire: Wire):
    task = await leave(wire, "count", {"n": 2, "pause": 60}, waits=False)
    with trio.fail_after(HANG_SECONDS), pytest.raises(ConnectionLost):
        await task.status()


async def test_a_handler_that_comes_late_still_gets_the_progress(wire: Wire):
    """The kept result is no reason to withhold reports that nobody has been given yet."""
    seen: list[float] = []
    async with open_server(make_server()) as running, wire.open_running(running) as client:
        task = await client.call_tool("count", {"n": 2}, task=True)
        async with client.watch_task(task.id) as snapshots:
            async for _ in snapshots:
                pass
        assert (await task.status()).is_final
        task.use_handler(lambda progress, total, message: seen.append(progress))
        assert (await task.result()).data == "counted 2"
        assert seen[-1] == 2
        before = list(seen)
        assert (await task.result()).data == "counted 2"
    assert seen == before, "but nothing twice"


async def test_a_watched_handle_and_an_id_ask_the_server(wire: Wire):
    async with wire.open(make_server()) as client:
        with pytest.raises(TaskNotFound):
            await client.await_task("no such task")
