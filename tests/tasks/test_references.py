"""Tasks that are opened by a reference: which reports arrive then, in both eras."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import LEGACY, MODERN, Wire
from trio_mcp import (
    Client,
    Context,
    MemoryTaskStore,
    Server,
    TaskConfig,
    TaskHandle,
    TaskNotFound,
    TaskSettings,
    open_client,
    open_server,
)
from trio_mcp.client.task_reference import make_reference, read_reference
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_task import StoredReport
from trio_mcp.testing import WireRecorder, assert_progress

TOTAL = 100


@attrs.define
class Stepping:
    """A server whose tool reports one step after the other, as far as the test says."""

    server: Server
    allowed: int = 0
    _moved: trio.Event = attrs.field(factory=trio.Event)

    def go_to(self, step: int) -> None:
        self.allowed = step
        self._moved.set()
        self._moved = trio.Event()

    async def wait_step(self, step: int) -> None:
        while self.allowed < step:
            await self._moved.wait()


def make_stepping(store: MemoryTaskStore | None = None, **settings: Any) -> Stepping:
    server = Server("steps", version="1", task_store=store, task_settings=TaskSettings(**settings))
    stepping = Stepping(server)

    @server.tool(task=TaskConfig(promote_after=0))
    async def step(ctx: Context, to: int) -> str:
        for number in range(1, to + 1):
            await stepping.wait_step(number)
            await ctx.report_progress(number, to)
        await stepping.wait_step(TOTAL)
        return "stepped"

    return stepping


class Seen:
    """A progress handler that keeps what it sees, and can be waited for."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._moved = trio.Event()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.values.append(progress)
        self._moved.set()
        self._moved = trio.Event()
        await trio.lowlevel.checkpoint()

    async def wait_reported(self, value: float) -> None:
        while value not in self.values:
            await self._moved.wait()


async def watch_until(client: Client, task: TaskHandle, seen: Seen, value: float) -> str:
    """Wait for the result until the handler has seen `value`; return the reference as it is then."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.result)
        await seen.wait_reported(value)
        nursery.cancel_scope.cancel()
    return task.reference()


async def test_a_task_is_opened_with_the_reports_since_its_reference(wire: Wire) -> None:
    stepping = make_stepping()
    first, second = Seen(), Seen()
    async with open_server(stepping.server) as running:
        async with wire.open_running(running) as client:
            task = await client.call_tool("step", {"to": 9}, task=True, progress_handler=first)
            stepping.go_to(4)
            reference = await watch_until(client, task, first, 4)
            assert re.fullmatch(r"[A-Za-z0-9._~-]+", reference)
        stepping.go_to(7)
        await trio.testing.wait_all_tasks_blocked()
        async with wire.open_running(running) as client:
            opened = await client.open_task(reference, progress_handler=second)
            assert opened.id == task.id
            async with trio.open_nursery() as nursery:
                nursery.start_soon(opened.result)
                await second.wait_reported(7)
                stepping.go_to(TOTAL)
            assert (await opened.result()).data == "stepped"
    assert_progress([(value, 9, None) for value in second.values])
    assert second.values[-1] == 9
    if wire.protocol == MODERN:
        assert first.values == [1, 2, 3, 4]
        assert second.values == [5, 6, 7, 8, 9]


async def test_a_task_that_has_ended_is_opened(wire: Wire) -> None:
    stepping = make_stepping()
    first, second, third = Seen(), Seen(), Seen()
    async with open_server(stepping.server) as running:
        async with wire.open_running(running) as client:
            task = await client.call_tool("step", {"to": 5}, task=True, progress_handler=first)
            stepping.go_to(2)
            reference = await watch_until(client, task, first, 2)
        stepping.go_to(TOTAL)
        await running.await_task(str(task.id))
        async with wire.open_running(running) as client:
            opened = await client.open_task(reference, progress_handler=second)
            assert (await opened.result()).data == "stepped"
            last = opened.reference()
        async with wire.open_running(running) as client:
            opened = await client.open_task(last, progress_handler=third)
            assert (await opened.result()).data == "stepped"
    assert second.values[-1] == 5
    if wire.protocol == MODERN:
        assert second.values == [3, 4, 5]
        assert third.values == []  # all of them were delivered
    else:
        assert third.values == [5]


@pytest.mark.parametrize(
    ("stored", "is_taken", "expected"),
    [
        (range(2, 7), False, [3, 4, 5, 6, 7, 8, 9]),
        (range(5, 7), False, [3, 4, 5, 6, 7, 8, 9]),
        (range(2, 7), True, [3, 4, 5, 6, 9]),
        ((), True, [9]),
    ],
)
async def test_reports_of_the_store_and_of_the_process_make_one_sequence(
    stored: Sequence[int], is_taken: bool, expected: list[int]
) -> None:
    """Some reports are in the store and in the process, some in one of the two alone."""
    store = MemoryTaskStore()
    stepping = make_stepping(store)
    seen = Seen()
    async with open_server(stepping.server) as running, open_client(running, protocol=MODERN) as client:
        task = await client.call_tool("step", {"to": 9}, task=True)
        stepping.go_to(8)
        await trio.testing.wait_all_tasks_blocked()
        record = await running.fetch_task(str(task.id))
        assert record.progress is not None
        base = record.progress.offset - 8
        at = int(record.created_at.timestamp() * 1e6)
        reports = [StoredReport(base + number, number, 9, None, at) for number in stored]
        assert await store.put([TaskChange(record, reports=reports)]) == []
        if is_taken:  # by another client: what the process keeps no longer is in the store, or lost
            other = Seen()
            handle = await client.open_task(task.reference(), progress_handler=other)
            await watch_until(client, handle, other, 8)
            assert other.values == list(range(1, 9))
        reference = make_reference(str(task.id), base + 2)
        opened = await client.open_task(reference, progress_handler=seen)
        stepping.go_to(TOTAL)
        await opened.result()
    assert seen.values == expected


async def test_what_the_cap_has_dropped_is_missing_but_the_newest_is_there() -> None:
    stepping = make_stepping(feed_buffer=4)
    first, second = Seen(), Seen()
    async with open_server(stepping.server) as running, open_client(running, protocol=MODERN) as client:
        task = await client.call_tool("step", {"to": 50}, task=True, progress_handler=first)
        stepping.go_to(2)
        reference = await watch_until(client, task, first, 2)
        stepping.go_to(40)
        await trio.testing.wait_all_tasks_blocked()
        opened = await client.open_task(reference, progress_handler=second)
        await watch_until(client, opened, second, 40)
    assert second.values == [3, 38, 39, 40]


async def test_what_a_handler_was_not_given_comes_again() -> None:
    """The wait is left while the handler has two reports in front of it."""
    stepping = make_stepping(MemoryTaskStore())
    given: list[float] = []
    stuck = trio.Event()

    async def slow(progress: float, total: float | None, message: str | None) -> None:
        given.append(progress)
        if progress == 2:
            stuck.set()
            await trio.sleep_forever()

    async with open_server(stepping.server) as running, open_client(running, protocol=MODERN) as client:
        task = await client.call_tool("step", {"to": 4}, task=True, progress_handler=slow)
        stepping.go_to(4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.result)
            await stuck.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        task_id, offset = read_reference(task.reference())
        record = await running.fetch_task(task_id)
        assert record.progress is not None
        assert record.progress.offset - offset == 2
    assert given == [1, 2]


async def test_a_handle_without_a_task_has_no_reference() -> None:
    server = Server("direct", version="1")

    @server.tool
    async def echo() -> str:
        return "x"

    async with open_client(server, protocol=MODERN) as client:
        handle = await client.call_tool("echo", task=True)
        with pytest.raises(TaskNotFound, match="there is no task"):
            handle.reference()


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_an_unknown_task_is_not_opened(protocol: str) -> None:
    async with open_client(make_stepping().server, protocol=protocol) as client:
        with pytest.raises(TaskNotFound):
            await client.open_task(make_reference("no such task", 7))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no reference of a task"),
        ("an id", "no reference of a task"),
        (7, "no reference of a task"),
        ("trio-task-2.abc.00000000", "has version 2; this trio_mcp reads 1"),
        (make_reference("id", 5)[:-1], "was cut or changed"),
        (make_reference("id", 5).replace(".", ".A", 1), "was cut or changed"),
        ("trio-task-1.", "was cut or changed"),
        ("x" * 1000, r"\.\.\.$"),
    ],
)
async def test_what_is_no_reference_is_refused(text: Any, match: str) -> None:
    async with open_client(make_stepping().server) as client:
        with pytest.raises(ValueError, match=match):
            await client.open_task(text)


@given(st.text(), st.integers(0, 2**53))
def test_a_reference_is_read_as_it_was_made(task_id: str, offset: int) -> None:
    try:
        task_id.encode()
    except UnicodeEncodeError:
        return
    reference = make_reference(task_id, offset)
    assert read_reference(reference) == (task_id, offset)
    assert reference.isascii()


async def test_clients_that_want_no_offsets_get_none() -> None:
    stepping = make_stepping()
    recorder = WireRecorder(stepping.server)
    async with open_client(recorder, protocol=MODERN) as client:
        task = await client.call_tool("step", {"to": 3}, task=True)
        async with task.updates() as updates:
            stepping.go_to(TOTAL)
            async for _ in updates:
                pass
    changes = recorder.received_messages("notifications/tasks")
    assert changes
    assert all("io.github.trio-mcp/offset" not in change["params"].get("_meta", {}) for change in changes)
