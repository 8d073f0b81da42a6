"""Reports of a task that leave in one notification, and what becomes of those that never left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.conftest import MODERN
from tests.tasks.task_server import Name
from tests.tasks.test_history import (
    HISTORY,
    META,
    Listener,
    make_counting,
    open_listener,
    open_raw_peer,
    steps,
    working,
)
from trio_mcp import Context, Server, TaskConfig, TaskSnapshot, open_client, open_server
from trio_mcp.client.task_following import TaskFollowing
from trio_mcp.client.task_snapshot import SnapshotReport, TaskNews
from trio_mcp.progress.checks import MAX_MESSAGE_LENGTH
from trio_mcp.tasks.task_feed import JOINED_CHARACTERS
from trio_mcp.testing import WireRecorder

REPORTS = "io.github.trio-mcp/reports"
PROGRESS = "io.github.trio-mcp/progress"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def listen(peer: Any, task_id: str, **wishes: Any) -> Any:
    """Listen, and return the `_meta` of the acknowledgement."""
    meta = {**META, **{f"io.github.trio-mcp/{name}": wish for name, wish in wishes.items()}}
    params = {"notifications": {"taskIds": [task_id]}, "_meta": meta}
    request = {"jsonrpc": "2.0", "id": "L", "method": "subscriptions/listen", "params": params}
    return (await peer.ask(request))["params"]["_meta"]


async def test_all_reports_and_the_end_in_one_notification():
    async with open_server(make_counting().server) as running, open_raw_peer(running) as peer:
        task_id = await Listener(peer).start(before=3)
        await running.await_task(task_id)
        acknowledged = await listen(peer, task_id, reports="all", history=True)
        assert (acknowledged[REPORTS], acknowledged[HISTORY]) == ("all", True)
        task = (await peer.receive())["params"]
        assert (task["status"], task["result"]["content"][0]["text"]) == ("completed", "counted")
        assert [tuple(values) for _, *values in task["_meta"][REPORTS]] == steps(1, 2, 3, total=3)
        times = [EPOCH + timedelta(microseconds=microseconds) for microseconds, *_ in task["_meta"][REPORTS]]
        assert times == sorted(times)
        assert datetime.fromisoformat(task["_meta"][PROGRESS]["reportedAt"]) == times[-1]


async def test_reports_of_a_running_task_leave_together():
    counting = make_counting()
    async with open_server(counting.server) as running, open_raw_peer(running) as peer:
        task_id = await Listener(peer).start(before=0, after=5, wait=True)
        await listen(peer, task_id, reports="all")
        assert (await peer.receive())["params"]["status"] == "working"
        counting.go_on.set()
        told: list[Any] = []
        messages = 0
        while (task := (await peer.receive())["params"])["status"] == "working":
            told += task["_meta"].get(REPORTS, [[0, *_progress(task)]])
            messages += 1
        told += task["_meta"].get(REPORTS, [])
        assert [tuple(values) for _, *values in told] == steps(1, 2, 3, 4, 5, total=5)
        assert messages < 5


def _progress(task: Any) -> list[Any]:
    progress = task["_meta"][PROGRESS]
    return [progress["current"], progress["total"], progress["message"]]


async def test_a_client_that_wants_the_newest_only_leaves_the_history_to_others():
    counting = make_counting()
    async with open_server(counting.server) as running, open_listener(running) as listener:
        task_id = await listener.start(before=3)
        await running.await_task(task_id)
        acknowledged = await listen(listener._peer, task_id, reports="newest")
        assert acknowledged[REPORTS] == "newest"
        assert HISTORY not in acknowledged
        end = ("completed", 3, "step 3 (3/3)")
        assert await listener.told() == [end]
        await listener.leave()
        await listener.listen(task_id)
        assert await listener.told() == [*working(1, 2, 3, total=3), end]


async def test_a_watcher_sees_the_last_report_before_the_end(autojump_clock):
    """Where nothing but states is told, a report keeps one of its own."""
    counting = make_counting()
    async with open_client(counting.server, protocol=MODERN) as client:
        task = await client.call_tool("count", {"before": 0, "after": 3, "wait": True}, task=True)
        async with task.updates() as snapshots:
            first = await snapshots.receive()
            counting.go_on.set()
            seen = [(snapshot.status, snapshot.current) async for snapshot in snapshots]
    assert (first.status, first.current) == ("working", None)
    assert seen == [("working", 3), ("completed", 3)]


@pytest.mark.parametrize("wish", [None, True, "some", [], {}])
async def test_any_other_wish_is_none(wish):
    async with open_server(make_counting().server) as running, open_listener(running) as listener:
        task_id = await listener.start(before=3)
        await running.await_task(task_id)
        assert REPORTS not in await listen(listener._peer, task_id, reports=wish, history=True)
        assert await listener.told() == [*working(1, 2, 3, total=3), ("completed", 3, "step 3 (3/3)")]


async def test_long_messages_are_divided():
    """No notification is much larger than the cap, and the handler still gets every update."""
    server = Server("long", version="1")
    text = "x" * MAX_MESSAGE_LENGTH

    @server.tool(task=TaskConfig(promote_after=0))
    async def tell(ctx: Context) -> None:
        for i in range(50):
            await ctx.report_progress(i, None, text)

    seen: list[Any] = []
    recorder = WireRecorder(server)
    async with open_client(recorder, protocol=MODERN) as client:
        task = await client.call_tool("tell", task=True, progress_handler=lambda *update: seen.append(update))
        await task.result()
    assert seen == [(i, None, text) for i in range(50)]
    joined = [
        sum(len(report[3]) for report in message["params"]["_meta"].get(REPORTS, []))
        for message in recorder.received_messages("notifications/tasks")
    ]
    assert max(joined) <= JOINED_CHARACTERS + MAX_MESSAGE_LENGTH


async def test_a_question_that_cannot_be_sent_loses_no_reports():
    """What a task asks stands alone, in case that it cannot be sent; the reports before it leave anyway."""
    server = Server("asking", version="1")

    @server.tool(task=TaskConfig(promote_after=0))
    async def ask(ctx: Context) -> str:
        await ctx.report_progress(1)
        await ctx.report_progress(2)
        return str((await ctx.elicit("Who?", Name)).data.name)

    seen: list[Any] = []
    async with open_client(
        server, protocol=MODERN, elicitation_handler=lambda request: {"name": "x"}
    ) as client:
        task = await client.call_tool(
            "ask", task=True, progress_handler=lambda *update: seen.append(update[0])
        )
        assert (await task.result()).data == "x"
    assert seen == [1, 2]


async def _stick(peer: Any) -> None:
    """Leave answers unread, so that the server's writer is stuck."""
    for ident in range(3):
        params = {"taskId": "none", "_meta": META}
        await peer.send({"jsonrpc": "2.0", "id": ident, "method": "tasks/get", "params": params})
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("ends_first", [True, False])
@pytest.mark.parametrize("joins", [None, "all"])
async def test_reports_that_were_taken_but_not_sent_wait_for_the_next_follower(
    joins: str | None, ends_first: bool
):
    """A client that leaves between the taking of a history and its delivery loses none of it."""
    counting = make_counting()
    async with open_server(counting.server) as running, open_raw_peer(running) as peer:
        listener = Listener(peer)
        task_id = await listener.start(before=2, after=2, wait=True)
        await trio.testing.wait_all_tasks_blocked()
        if ends_first:
            counting.go_on.set()
            await running.await_task(task_id)
        await _stick(peer)
        meta = {**META, HISTORY: True, **({REPORTS: joins} if joins else {})}
        params = {"notifications": {"taskIds": [task_id]}, "_meta": meta}
        await peer.send({"jsonrpc": "2.0", "id": "L", "method": "subscriptions/listen", "params": params})
        await trio.testing.wait_all_tasks_blocked()
        counting.go_on.set()
        await running.await_task(task_id)
        await listener.leave()
        for ident in range(3):
            assert (await peer.receive())["id"] == ident
        await listener.listen(task_id)
        assert await listener.told() == [
            *working(1, 2, 3, 4, total=4),
            ("completed", 4, "step 4 (4/4)"),
        ]


async def test_reports_that_were_not_sent_before_the_wire_broke_wait_too():
    counting = make_counting()
    async with open_server(counting.server) as running:
        async with open_raw_peer(running) as peer:
            task_id = await Listener(peer).start(before=3)
            await running.await_task(task_id)
            await _stick(peer)
            params = {"notifications": {"taskIds": [task_id]}, "_meta": {**META, HISTORY: True}}
            await peer.send({"jsonrpc": "2.0", "id": "L", "method": "subscriptions/listen", "params": params})
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        async with open_listener(running) as listener:
            await listener.listen(task_id)
            assert await listener.told() == [*working(1, 2, 3, total=3), ("completed", 3, "step 3 (3/3)")]


def news(microseconds: int, current: float, *reports: tuple[int, float]) -> TaskNews:
    moment = EPOCH + timedelta(microseconds=microseconds)
    snapshot = TaskSnapshot(
        id="t", status="working", last_updated_at=moment, reported_at=moment, current=current
    )
    return TaskNews(snapshot, [SnapshotReport(at, value, None, None) for at, value in reports])


def currents(taken: list[TaskNews]) -> list[Any]:
    return [(news.snapshot.current, [report.current for report in news.reports]) for news in taken]


async def test_a_poll_overtakes_reports_that_are_joined():
    """What a look has told does not come again by the stream that it has overtaken."""
    taken: list[TaskNews] = []
    following = TaskFollowing(None, "t", taken.append)  # type: ignore[arg-type]  # it asks nothing here
    following._accept(news(1, 1))
    following._accept(news(3, 3), polled=True)
    following._accept(news(2, 2, (2, 2)))
    following._accept(news(5, 5, (2, 2), (3, 3), (4, 4), (5, 5)))
    following._accept(news(7, 7, (6, 6), (7, 7)))
    assert currents(taken) == [(1, []), (3, []), (5, [4, 5]), (7, [6, 7])]


async def test_joined_reports_of_a_clock_that_stands_still_are_all_new():
    taken: list[TaskNews] = []
    following = TaskFollowing(None, "t", taken.append)  # type: ignore[arg-type]  # it asks nothing here
    following._accept(news(1, 2, (1, 1), (1, 2)))
    following._accept(news(1, 2, (1, 3), (1, 2)))
    assert currents(taken) == [(2, [1, 2]), (2, [3, 2])]
