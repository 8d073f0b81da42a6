"""The open stages of background tasks: on the record, on the wire, and with a progress handler."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN, Wire
from tests.handlers.test_progress_handlers import plain_console, shown
from tests.progress.test_stages import STAGES_META
from tests.tasks.test_history import META, Listener, open_raw_peer
from tests.tasks.test_joined import REPORTS, listen
from trio_mcp import (
    Context,
    Progress,
    RichProgress,
    Server,
    StageState,
    TaskConfig,
    detailed,
    open_client,
    open_server,
)
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.task_following import TaskFollowing
from trio_mcp.client.task_snapshot import TaskNews, TaskSnapshot, read_snapshot
from trio_mcp.handlers.sink import Receiver
from trio_mcp.outgoing.policy import Conflate
from trio_mcp.progress.stages import RequestStages

MEMORY = Wire("memory", MODERN)


def make_server(config: TaskConfig | bool = True) -> Server:
    server = Server("stages", version="1")

    @server.tool(task=config)
    async def build(ctx: Context) -> str:
        """Half a second with a stage, one with two, half of one with none."""
        progress = ctx.progress()
        async with progress.stage("export", weight=4, total=2) as export:
            export.set_message("users")
            await trio.sleep(0.5)
            async with export.stage("tables", total=8) as tables:
                tables.increment(2)
                await trio.sleep(1)
        await trio.sleep(0.5)
        await ctx.report_progress(5, 5)
        return "built"

    @server.tool(task=config)
    async def plain(ctx: Context) -> None:
        for i in range(1, 4):
            await ctx.report_progress(i)
            await trio.sleep(0.1)

    return server


EXPORT = StageState(("export",), None, 2, "users")
TABLES = (StageState(("export",), 0.25, 2, "users"), StageState(("export", "tables"), 2, 8))


def changes(updates: list[Progress]) -> list[tuple[StageState, ...]]:
    """What the stages were with each update, without repetitions."""
    return [stages for stages, _ in itertools.groupby(update.stages for update in updates)]


# With a progress handler


@pytest.mark.parametrize("way", ["result", "await_task", "promotion"])
async def test_a_sink_is_told_of_the_stages_of_a_task(wire, way, autojump_clock):
    seen: list[Progress] = []
    sink = detailed(seen.append)
    server = make_server(TaskConfig(promote_after=0.2))
    async with open_server(server) as running, wire.open_running(running) as client:
        if way == "promotion":
            assert (await client.call_tool("build", progress_handler=sink)).data == "built"
        elif way == "result":
            task = await client.call_tool("build", task=True, progress_handler=sink)
            assert (await task.result()).data == "built"
        else:
            task = await client.call_tool("build", task=True)
            assert (await client.await_task(task.id, progress_handler=sink)).data == "built"
    told = changes(seen)
    assert TABLES in told
    assert told[-1] == (), "nothing is open at the end"
    assert (seen[-1].progress, seen[-1].total) == (5, 5)
    if way != "await_task":
        assert any(stages[:1] == (EXPORT,) and len(stages) == 1 for stages in told)


async def test_bars_show_the_stages_of_a_task(wire, autojump_clock):
    bars = RichProgress(plain_console())
    frames: list[list[str]] = []
    async with wire.open(make_server()) as client, trio.open_nursery() as nursery:

        async def watch() -> None:
            while True:
                await trio.sleep(0.05)
                frames.append([line.split()[0] for line in shown(bars)])

        task = await client.call_tool("build", task=True, progress_handler=bars)
        nursery.start_soon(watch)
        await task.result()
        nursery.cancel_scope.cancel()
    rows = [row for row, _ in itertools.groupby(frame for frame in frames if frame)]
    assert ["build", "export:", "tables"] in rows
    assert rows[-1] in (["build"], ["build:"])


async def test_a_wait_that_was_left_knows_what_is_open(autojump_clock):
    """What is open was told to the wait before; an update without news of it leaves it open."""
    server = Server("stages", version="1")

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        async with ctx.progress().stage("a", weight=9):
            await trio.sleep(10)
            await ctx.report_progress(1, 9)
            await trio.sleep(10)

    seen: list[Progress] = []
    async with open_client(server, protocol=MODERN) as client:
        task = await client.call_tool("work", task=True, progress_handler=detailed(seen.append))
        with trio.move_on_after(5):
            await task.result()
        assert seen[-1].stages == (StageState(("a",)),)
        await trio.sleep(7)  # the report comes while nobody waits
        await task.result()
    assert [update.stages for update in seen if update.progress == 1] == [(StageState(("a",)),)]
    assert seen[-1].stages == ()


async def test_a_promoted_call_keeps_what_its_token_told(wire, autojump_clock):
    """The stages of the direct call are those of the task's first updates."""
    server = Server("stages", version="1")

    @server.tool(task=TaskConfig(promote_after=0.5))
    async def work(ctx: Context) -> None:
        async with ctx.progress().stage("a", weight=9):
            await trio.sleep(1)
            for i in range(1, 9):
                await ctx.report_progress(i, 9)
                await trio.sleep(0.01)

    seen: list[Progress] = []
    async with wire.open(server) as client:
        await client.call_tool("work", progress_handler=detailed(seen.append))
    assert {update.stages for update in seen if update.progress < 9} == {(StageState(("a",)),)}
    assert seen[-1].stages == ()


def test_a_call_that_takes_over_knows_the_open_stages():
    """Even if its own updates were delivered before."""
    stages = (StageState(("a",)),)
    old, new = (PendingCall(ident, Receiver(lambda update: None), Conflate()) for ident in (1, 2))
    old.newest = (1, None, None, None)
    old.note_stages(stages)
    old.hand_over(new)
    assert (new.stages, new.newest) == (stages, old.newest)


# On the wire


async def test_a_subscriber_gets_the_open_stages(autojump_clock):
    """The stages of the newest report in each notification; an empty list once none is open any more."""
    async with (
        open_server(make_server(TaskConfig(promote_after=0))) as running,
        open_raw_peer(running) as peer,
    ):
        task_id = await Listener(peer).start("build")
        await listen(peer, task_id, reports="all", history=True)
        told: list[Any] = []
        status = ""
        while status != "completed":
            task = (await peer.receive())["params"]
            status = task["status"]
            told.append(task["_meta"].get(STAGES_META, "nothing"))
    export = {"path": ["export"], "total": 2, "message": "users"}
    told = [stages for stages, _ in itertools.groupby(told)]
    assert told == [
        *(["nothing"] if told[0] == "nothing" else []),  # before its first stage
        [export],
        [{**export, "progress": 0.25}, {"path": ["export", "tables"], "progress": 2, "total": 8}],
        [],
    ]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_poll_shows_the_open_stages(protocol, autojump_clock):
    async with open_client(make_server(), protocol=protocol) as client:
        task = await client.call_tool("build", task=True)
        await trio.sleep(1)
        assert (await client.fetch_task(task.id)).stages == TABLES
        await trio.sleep(9)
        assert (await client.fetch_task(task.id)).stages == ()


async def test_a_list_of_tasks_is_short(autojump_clock):
    async with open_client(make_server(), protocol=LEGACY) as client:
        await client.call_tool("build", task=True)
        await trio.sleep(1)
        (task,) = await client.list_tasks()
    assert (task.message, task.stages) == ("export: tables", None)


async def test_without_stages_none_are_sent(wire, autojump_clock):
    server = make_server()
    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        task = await client.call_tool("plain", task=True, progress_handler=lambda *update: None)
        async with task.updates() as snapshots:
            seen = [snapshot.stages async for snapshot in snapshots]
        await task.result()
    assert set(seen) == {None}
    assert STAGES_META not in str(recorder.received_messages())


async def test_a_client_that_joins_nothing_is_told_with_the_newest_report():
    """Of what was open at a report before it nothing is known any more."""
    server = Server("stages", version="1")
    go_on = trio.Event()

    @server.tool(task=TaskConfig(promote_after=0))
    async def work(ctx: Context) -> None:
        await go_on.wait()
        async with ctx.progress().stage("a", weight=3):
            for i in (1, 2):
                await ctx.report_progress(i, 3)
            await trio.sleep_forever()

    async with open_server(server) as running, open_raw_peer(running) as peer:
        task_id = await Listener(peer).start("work")
        acknowledged = await listen(peer, task_id)
        assert REPORTS not in acknowledged
        assert (await peer.receive())["params"]["status"] == "working"
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        told: list[Any] = []
        while not told or told[-1][0] != 2:
            meta = (await peer.receive())["params"]["_meta"]
            told.append((meta["io.github.trio-mcp/progress"].get("current"), meta.get(STAGES_META)))
        assert told[-1] == (2, [{"path": ["a"]}])
        assert (1, None) in told
        params = {"taskId": task_id, "_meta": META}
        await peer.send({"jsonrpc": "2.0", "id": 9, "method": "tasks/cancel", "params": params})
        assert (await peer.receive())["params"]["_meta"][STAGES_META] == [], "a cancelled task has none open"


def test_a_malformed_list_of_stages_is_left_out_of_the_task(caplog):
    for stages in (b"5", b'[{"path":5}]'):
        raw = b'{"taskId":"t","status":"working","_meta":{"%s":%s}}' % (STAGES_META.encode(), stages)
        snapshot = read_snapshot(raw)
        assert (snapshot.id, snapshot.status, snapshot.stages) == ("t", "working", None)
        assert STAGES_META in caplog.records[-1].getMessage()


async def test_a_snapshot_without_news_of_stages_leaves_them_open_until_the_end():
    taken: list[TaskNews] = []
    following = TaskFollowing(None, "t", taken.append)  # type: ignore[arg-type]  # it asks nothing here
    open_now = (StageState(("a",)),)
    for current, status, stages in ((1, "working", open_now), (2, "working", None), (3, "failed", None)):
        snapshot = TaskSnapshot(id="t", status=status, current=current, stages=stages)  # type: ignore[arg-type]  # a status
        following._accept(TaskNews(snapshot))
    assert [news.snapshot.stages for news in taken] == [open_now, open_now, ()]


# In the server


async def test_the_record_shows_the_open_stages(autojump_clock):
    async with open_server(make_server()) as running, open_client(running, protocol=MODERN) as client:
        task = await client.call_tool("build", task=True)
        seen: list[Any] = []
        assert task.id is not None
        async with running.watch_task(task.id) as records:
            async for record in records:
                seen.append(None if record.progress is None else record.progress.stages)
    assert TABLES in seen
    assert seen[-1] == ()


async def test_a_report_does_not_ask_for_the_open_stages(monkeypatch, autojump_clock):
    """However often is reported, only what is sent has looked."""
    looks = 0
    describe = RequestStages.describe

    def count(stages: RequestStages) -> Any:
        nonlocal looks
        looks += 1
        return describe(stages)

    monkeypatch.setattr(RequestStages, "describe", count)
    server = Server("stages", version="1")

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        async with ctx.progress().stage("a", weight=1):
            for i in range(1, 10_000):
                await ctx.report_progress(i, 10_000)

    seen: list[Progress] = []
    recorder = MEMORY.recorder(server)
    async with open_client(recorder, protocol=MODERN) as client:
        task = await client.call_tool("work", task=True, progress_handler=detailed(seen.append))
        await task.result()
    assert seen[-1] == Progress(10_000, 10_000)
    notifications = recorder.received_messages("notifications/tasks")
    assert 0 < looks <= 3 * len(notifications) + 3


async def test_who_waits_without_a_token_sees_the_stages_change_and_end(autojump_clock):
    """In 2025-11-25, by the notifications of the status and by looks."""
    server = Server("stages", version="1")

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        for name in ("a", "b"):
            async with ctx.progress().stage(name, weight=1):
                await trio.sleep(0.01)

    seen: list[Progress] = []
    async with open_client(server, protocol=LEGACY) as client:
        task = await client.call_tool("work", task=True)
        await client.await_task(task, progress_handler=detailed(seen.append))
    assert ("b", (StageState(("b",)),)) in [(update.message, update.stages) for update in seen]
    assert seen[-1].stages == ()
