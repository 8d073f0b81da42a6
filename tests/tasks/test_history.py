"""The reports of a task that its client could not follow yet, in the tasks extension."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.raw_peer import MODERN_META, RawPeer
from trio_mcp import (
    ClientSettings,
    Context,
    Server,
    TaskConfig,
    TaskSettings,
    TaskSnapshot,
    open_client,
    open_server,
)
from trio_mcp.client.target import open_target
from trio_mcp.client.task_following import _advances
from trio_mcp.testing import WireRecorder

META = {
    **MODERN_META,
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
}
HISTORY = "io.github.trio-mcp/history"


@attrs.define
class Counting:
    """A server whose tool reports what `values` says, a part of it only once `go_on` is set."""

    server: Server
    go_on: trio.Event


def make_counting(**task_settings: Any) -> Counting:
    server = Server("history", version="1", task_settings=TaskSettings(**task_settings))
    counting = Counting(server, trio.Event())

    @server.tool(task=TaskConfig(promote_after=0))
    async def count(ctx: Context, before: int, after: int = 0, wait: bool = False) -> str:
        for i in range(1, before + 1):
            await ctx.report_progress(i, before + after, f"step {i}")
        if wait:
            await counting.go_on.wait()
        for i in range(before + 1, before + after + 1):
            await ctx.report_progress(i, before + after, f"step {i}")
        return "counted"

    return counting


def steps(*numbers: int, total: int) -> list[Any]:
    return [(number, total, f"step {number}") for number in numbers]


class Listener:
    """A raw peer that starts tasks and listens to them."""

    def __init__(self, peer: RawPeer) -> None:
        self._peer = peer

    async def start(self, tool: str = "count", **arguments: Any) -> str:
        params = {"name": tool, "arguments": arguments, "_meta": META}
        created = await self._peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        return str(created["result"]["taskId"])

    async def listen(self, *task_ids: str, history: Any = True) -> Any:
        """Listen, and return the `_meta` of the acknowledgement."""
        meta = META if history is None else {**META, HISTORY: history}
        params = {"notifications": {"taskIds": task_ids}, "_meta": meta}
        request = {"jsonrpc": "2.0", "id": "L", "method": "subscriptions/listen", "params": params}
        acknowledged = await self._peer.ask(request)
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == {"taskIds": list(task_ids)}
        return acknowledged["params"]["_meta"]

    async def leave(self) -> None:
        params = {"requestId": "L", "_meta": META}
        await self._peer.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        await trio.testing.wait_all_tasks_blocked()

    async def told(self) -> list[Any]:
        """Status, current and status message of what is told until a ping is answered."""
        params = {"taskId": "none", "_meta": META}
        await self._peer.send({"jsonrpc": "2.0", "id": "end", "method": "tasks/get", "params": params})
        told = []
        while (message := await self._peer.receive()).get("id") != "end":
            assert message["method"] == "notifications/tasks"
            task = message["params"]
            assert task["_meta"]["io.modelcontextprotocol/subscriptionId"] == "L"
            progress = task["_meta"].get("io.github.trio-mcp/progress", {})
            if task["status"] == "working" and progress:
                assert task["lastUpdatedAt"][:19] == progress["reportedAt"][:19]
                assert "result" not in task
            told.append((task["status"], progress.get("current"), task.get("statusMessage")))
        return told


@asynccontextmanager
async def open_raw_peer(target: Any) -> AsyncIterator[RawPeer]:
    async with open_target(target, ClientSettings()) as transport:
        yield RawPeer(transport)


@asynccontextmanager
async def open_listener(target: Any) -> AsyncIterator[Listener]:
    async with open_raw_peer(target) as peer:
        yield Listener(peer)


def working(*numbers: int, total: int) -> list[Any]:
    return [("working", number, f"step {number} ({number}/{total})") for number in numbers]


async def test_replay_after_the_end():
    """Each report as the record was then, in order, then the state now; once."""
    async with open_server(make_counting().server) as running, open_listener(running) as listener:
        task_id = await listener.start(before=3)
        await running.await_task(task_id)
        assert (await listener.listen(task_id))[HISTORY] is True
        end = ("completed", 3, "step 3 (3/3)")
        assert await listener.told() == [*working(1, 2, 3, total=3), end]
        await listener.leave()
        await listener.listen(task_id)
        assert await listener.told() == [end], "it was taken"


async def test_replay_while_the_task_runs():
    """The history, the state now, then what changes: nothing between is lost or told twice."""
    counting = make_counting()
    async with open_server(counting.server) as running, open_listener(running) as listener:
        task_id = await listener.start(before=2, after=2, wait=True)
        await trio.testing.wait_all_tasks_blocked()
        await listener.listen(task_id)
        assert await listener.told() == working(1, 2, 2, total=4)
        counting.go_on.set()
        await running.await_task(task_id)
        assert await listener.told() == [*working(3, 4, total=4), ("completed", 4, "step 4 (4/4)")]


@pytest.mark.parametrize("wish", [None, False, 1, "true"])
async def test_a_follower_that_does_not_ask_leaves_the_history_to_others(wish):
    async with open_server(make_counting().server) as running, open_listener(running) as listener:
        task_id = await listener.start(before=3)
        await running.await_task(task_id)
        assert HISTORY not in await listener.listen(task_id, history=wish)
        end = ("completed", 3, "step 3 (3/3)")
        assert await listener.told() == [end]
        await listener.leave()
        await listener.listen(task_id)
        assert await listener.told() == [*working(1, 2, 3, total=3), end]


async def test_a_second_follower_gets_the_state_now():
    counting = make_counting()
    async with (
        open_server(counting.server) as running,
        open_listener(running) as first,
        open_listener(running) as second,
    ):
        task_id = await first.start(before=2, after=1, wait=True)
        await trio.testing.wait_all_tasks_blocked()
        await first.listen(task_id)
        await second.listen(task_id)
        assert await second.told() == working(2, total=3)
        assert await first.told() == working(1, 2, 2, total=3)
        counting.go_on.set()


async def test_reports_that_were_not_sent_to_a_follower_wait_for_the_next():
    counting = make_counting()
    async with open_server(counting.server) as running, open_listener(running) as listener:
        task_id = await listener.start(before=2, after=2, wait=True)
        await trio.testing.wait_all_tasks_blocked()
        await listener.listen(task_id)
        await listener.told()
        await listener.leave()
        counting.go_on.set()
        await running.await_task(task_id)
        await listener.listen(task_id)
        assert await listener.told() == [*working(3, 4, total=4), ("completed", 4, "step 4 (4/4)")]


@pytest.mark.parametrize("buffer", [1, 2, 4])
async def test_past_the_cap_the_first_and_the_newest_stay(buffer):
    """The state now follows, so the last report is sent even if the cap is one."""
    async with (
        open_server(make_counting(feed_buffer=buffer).server) as running,
        open_listener(running) as listener,
    ):
        task_id = await listener.start(before=10)
        await running.await_task(task_id)
        await listener.listen(task_id)
        kept = [1, *range(12 - buffer, 11)]
        assert await listener.told() == [*working(*kept, total=10), ("completed", 10, "step 10 (10/10)")]


async def test_the_feed_drops_nothing_of_the_history():
    """What is reported while the writer is stuck pushes out reports, but not what is replayed."""
    counting = make_counting(feed_buffer=4)
    async with open_server(counting.server) as running, open_raw_peer(running) as peer:
        listener = Listener(peer)
        task_id = await listener.start(before=4, after=50, wait=True)
        await trio.testing.wait_all_tasks_blocked()
        for ident in range(3):  # answers that nobody reads yet
            params = {"taskId": "none", "_meta": META}
            await peer.send({"jsonrpc": "2.0", "id": ident, "method": "tasks/get", "params": params})
            await trio.testing.wait_all_tasks_blocked()
        params = {"notifications": {"taskIds": [task_id]}, "_meta": {**META, HISTORY: True}}
        await peer.send({"jsonrpc": "2.0", "id": "L", "method": "subscriptions/listen", "params": params})
        await trio.testing.wait_all_tasks_blocked()
        counting.go_on.set()
        await running.await_task(task_id)
        for ident in range(3):
            assert (await peer.receive())["id"] == ident
        assert (await peer.receive())["method"] == "notifications/subscriptions/acknowledged"
        told = await listener.told()
    newest = working(51, 52, 53, 54, total=54)
    assert told == [*working(1, 2, 3, 4, 4, total=54), *newest, ("completed", 54, "step 54 (54/54)")]


async def test_past_the_cap_of_all_the_oldest_goes_first():
    async with (
        open_server(make_counting(history_reports=7).server) as running,
        open_listener(running) as listener,
    ):
        ids = []
        for _ in range(3):
            ids.append(await listener.start(before=3))
            await running.await_task(ids[-1])
        for task_id, kept in zip(ids, ((), (1, 2, 3), (1, 2, 3)), strict=True):
            await listener.listen(task_id)
            assert await listener.told() == [*working(*kept, total=3), ("completed", 3, "step 3 (3/3)")]
            await listener.leave()


async def test_the_history_goes_with_the_record(autojump_clock):
    """What has expired takes no place among the histories of tasks that are still known."""
    counting = make_counting(history_reports=7)

    @counting.server.tool(task=TaskConfig(promote_after=0, ttl=60))
    async def brief(ctx: Context) -> None:
        for i in range(5):
            await ctx.report_progress(i)

    async with open_server(counting.server) as running, open_listener(running) as listener:
        old = await listener.start(before=2)
        await running.await_task(old)
        await running.await_task(await listener.start("brief"))
        await trio.sleep(61)
        new = await listener.start(before=5)
        await running.await_task(new)
        for task_id, kept in ((old, (1, 2)), (new, (1, 2, 3, 4, 5))):
            await listener.listen(task_id)
            total = kept[-1]
            end = ("completed", total, f"step {total} ({total}/{total})")
            assert await listener.told() == [*working(*kept, total=total), end]
            await listener.leave()


async def test_a_task_that_outlives_its_record_leaves_no_history(autojump_clock):
    counting = make_counting(ttl=60)

    @counting.server.tool(task=TaskConfig(promote_after=0))
    async def stubborn(ctx: Context) -> None:
        await ctx.report_progress(1)
        await trio.sleep_forever()

    async with open_server(counting.server) as running:
        async with open_client(running, protocol=MODERN) as client:
            await client.call_tool("stubborn", task=True)
            await trio.sleep(61)
            await trio.testing.wait_all_tasks_blocked()
        assert running._supervisor._histories._kept == {}


@pytest.mark.parametrize("reports", [20, 256])
async def test_the_handler_gets_every_update(wire: Wire, reports: int, autojump_clock):
    """In both eras, however long after the end its client asks for the result, and no update twice."""
    seen: list[Any] = []
    async with wire.open(make_counting().server) as client:
        task = await client.call_tool(
            "count", {"before": reports}, task=True, progress_handler=lambda *update: seen.append(update)
        )
        await trio.sleep(1000)
        await task.result()
        assert seen == steps(*range(1, reports + 1), total=reports)
        await task.result()
        assert len(seen) == reports


async def test_updates_before_and_after_the_client_follows(wire: Wire):
    counting = make_counting()
    seen: list[Any] = []
    async with wire.open(counting.server) as client:
        task = await client.call_tool(
            "count",
            {"before": 10, "after": 10, "wait": True},
            task=True,
            progress_handler=lambda *update: seen.append(update),
        )
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.result)
            await trio.testing.wait_all_tasks_blocked(0.01)
            counting.go_on.set()
    assert seen == steps(*range(1, 21), total=20)


async def test_a_wait_that_was_left_goes_on_where_it_was(wire: Wire):
    counting = make_counting()
    seen: list[Any] = []
    three_came = trio.Event()

    def see(*update: Any) -> None:
        seen.append(update)
        if len(seen) == 3:
            three_came.set()

    async with wire.open(counting.server) as client:
        arguments = {"before": 3, "after": 3, "wait": True}
        task = await client.call_tool("count", arguments, task=True, progress_handler=see)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.result)
            await three_came.wait()
            nursery.cancel_scope.cancel()
        assert seen == steps(1, 2, 3, total=6)
        await client.ping()
        counting.go_on.set()
        await task.result()
    assert seen == steps(*range(1, 7), total=6)


async def test_nothing_overtakes_the_history():
    """Our client does not look at a task whose history comes: the answer might be faster."""
    recorder = WireRecorder(make_counting().server)
    async with open_client(recorder, protocol=MODERN, progress_handler=lambda *update: None) as client:
        task = await client.call_tool("count", {"before": 3}, task=True)
        await task.result()
    assert recorder.sent_messages("tasks/get") == []


@pytest.mark.parametrize("pause", [0, 1.5, 3])
async def test_a_promoted_call_repeats_no_update(wire: Wire, pause: float, autojump_clock):
    """What came by the token before the call became a task does not come again."""
    server = Server("promoted", version="1")

    @server.tool(task=TaskConfig(promote_after=2))
    async def slow(ctx: Context) -> str:
        ctx.progress().set_message("begins")
        await trio.sleep(pause)
        for i in range(1, 7):
            await trio.sleep(0.5)
            await ctx.report_progress(i, 6, f"step {i}")
        return str(ctx.task_id is not None)

    seen: list[Any] = []
    async with wire.open(server) as client:
        result = await client.call_tool("slow", progress_handler=lambda *update: seen.append(update))
    assert result.data == str(wire.protocol == MODERN)
    assert seen == [(0, None, "begins"), *steps(*range(1, 7), total=6)]


async def test_becoming_a_task_is_no_report(wire: Wire, autojump_clock):
    """The record says when the handler has reported, not when the call was promoted."""
    server = Server("promoted", version="1")

    @server.tool(task=TaskConfig(promote_after=2))
    async def slow(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "begun")
        await trio.sleep(3)
        return str(ctx.task_id is not None)

    recorder = wire.recorder(server)
    async with open_client(recorder, protocol=wire.protocol) as client:
        result = await client.call_tool("slow")
    assert result.data == str(wire.protocol == MODERN)
    records = [
        message.get("result", message.get("params")).get("_meta", {}).get("io.github.trio-mcp/progress")
        for message in recorder.received_messages()
    ]
    assert len({record["reportedAt"] for record in records if record}) == (wire.protocol == MODERN)


async def test_a_burst_within_one_tick(wire: Wire, autojump_clock):
    """A clock that stands still: changes of message and total alone are updates as well."""
    server = Server("burst", version="1")
    reports = [(1, 9, "a"), (1, 9, "b"), (1, 10, "b"), (2, 10, "b"), (2, 10, "a"), (2, 10, None)]

    @server.tool(task=TaskConfig(promote_after=0))
    async def burst(ctx: Context) -> None:
        for report in reports:
            await ctx.report_progress(*report)

    seen: list[Any] = []
    async with wire.open(server) as client:
        task = await client.call_tool(
            "burst", task=True, progress_handler=lambda *update: seen.append(update)
        )
        await task.result()
    assert seen == reports


async def test_a_legacy_task_has_no_history():
    """Its progress goes by the token, to the client that made it."""
    async with open_server(make_counting().server) as running:
        known = running.authenticated("somebody")
        async with open_client(known, protocol=LEGACY) as client:
            task = await client.call_tool("count", {"before": 3}, task=True)
            await task.result()
        async with open_listener(known) as listener:
            await listener.listen(task.id)
            assert await listener.told() == [("completed", 3, "step 3 (3/3)")]


async def test_several_tasks_of_one_subscription():
    async with open_server(make_counting().server) as running, open_listener(running) as listener:
        ids = [await listener.start(before=2) for _ in range(2)]
        for task_id in ids:
            await running.await_task(task_id)
        await listener.listen(*ids)
        assert await listener.told() == [*working(1, 2, total=2), ("completed", 2, "step 2 (2/2)")] * 2


def test_which_snapshot_is_newer():
    """Two streams race, and the protocol's times are in milliseconds."""
    coarse = datetime(2026, 1, 1, microsecond=1000, tzinfo=UTC)

    def snapshot(microseconds: int, current: float | None, message: str | None, **more: Any) -> TaskSnapshot:
        reported = coarse + timedelta(microseconds=microseconds)
        known = {"status": "working", "last_updated_at": coarse, "reported_at": reported, **more}
        return TaskSnapshot(id="t", current=current, message=message, **known)

    older, newer = snapshot(10, 5, "a"), snapshot(20, 5, "b")
    assert _advances(older, newer)
    assert not _advances(newer, older), "an equal value, but reported before"
    assert not _advances(newer, newer)
    coarse_only = snapshot(0, 5, "a"), snapshot(0, 5, "b"), snapshot(0, 4, "c")
    assert _advances(coarse_only[0], coarse_only[1]), "servers of another make: only what goes back is older"
    assert not _advances(coarse_only[0], coarse_only[2])
    assert _advances(newer, snapshot(20, 5, "b", status="completed"))
    assert not _advances(snapshot(20, 5, "b", status="completed"), snapshot(30, 6, "c"))
