"""Background tasks end to end, over every transport and in both eras."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.raw_peer import MODERN_META, RawPeer
from trio_mcp import (
    CallTimeout,
    Context,
    CursorError,
    Lossless,
    MemoryTaskStore,
    NotSupportedByEra,
    ProtocolError,
    Server,
    ServerSettings,
    TaskCancelled,
    TaskConfig,
    TaskHandle,
    TaskNotFound,
    TaskSettings,
    ToolError,
    open_client,
    open_server,
)
from trio_mcp.testing import PipeConnector, WireRecorder, memory_pair
from trio_mcp.wire.messages import TaskIdParams


def make_server(**task_settings: Any) -> Server:
    server = Server("tasks", version="1", task_settings=TaskSettings(**task_settings))

    @server.tool(task=True)
    async def count(ctx: Context, n: int, pause: float = 0) -> str:
        for i in range(n):
            await ctx.report_progress(i + 1, n, f"step {i + 1}")
            await trio.sleep(pause)
        return f"counted {n}"

    @server.tool(task=True)
    async def fail() -> None:
        raise ToolError("on purpose")

    @server.tool(task=True)
    async def crash() -> None:
        raise KeyError("internal detail")

    @server.tool(task=True)
    async def refuse() -> None:
        raise ProtocolError(-32099 + 5000, "a protocol error", {"why": "tested"})

    @server.tool
    async def plain(ctx: Context) -> str:
        return "plain"

    @server.tool(task=TaskConfig(mode="required"))
    async def required(ctx: Context) -> str:
        assert ctx.task_id is not None
        await ctx.report_progress(1, 1, "in a task")
        return "required"

    return server


async def gate(server: Server) -> tuple[trio.Event, trio.Event, list[str]]:
    """A tool that reports once and then waits: reached, release, and how it ended."""
    reached, release, ends = trio.Event(), trio.Event(), []

    @server.tool(task=True)
    async def wait(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "Half done")
        reached.set()
        try:
            await release.wait()
        except trio.Cancelled:
            ends.append("cancelled")
            raise
        finally:
            ends.append("finally")
        return "released"

    return reached, release, ends


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


async def test_law_9_one_record(wire):
    """A report is on the record before anyone is told, floats as they came."""
    server = make_server()
    reached, release, _ = await gate(server)
    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool("wait", task=True)
        await reached.wait()
        before = datetime.now(UTC)
        record = await running.fetch_task(task.id)
        assert record.progress is not None
        assert (record.progress.current, record.progress.total) == (1, 2)
        assert record.progress.message == "Half done"
        assert abs((record.progress.reported_at - before).total_seconds()) < 60
        snapshot = await client.fetch_task(task.id)
        assert (snapshot.current, snapshot.total, snapshot.message) == (1, 2, "Half done")
        assert snapshot.reported_at is not None
        assert snapshot.status == "working"
        assert snapshot.status_message == "Half done (1/2)"
        release.set()
        await task.result()


async def test_stored_progress_never_goes_back_and_keeps_its_floats(wire):
    server = make_server()
    release = trio.Event()

    @server.tool(task=True)
    async def zigzag(ctx: Context, values: list[float], total: float) -> None:
        for value in values:
            await ctx.report_progress(value, total)
        await release.wait()

    async with open_server(server) as running, wire.open_running(running) as client:
        for values, total, kept in (([5, 3, 6], 10, 6), ([0.25], 1.0, 0.25), ([5, 3], 10, 5)):
            task = await client.call_tool("zigzag", {"values": values, "total": total}, task=True)
            await trio.testing.wait_all_tasks_blocked(0.01)
            snapshot = await client.fetch_task(task.id)
            assert (snapshot.current, snapshot.total) == (kept, total)
        release.set()


async def test_law_10_a_task_outlives_its_session_and_another_may_watch_it(wire):
    server = make_server()
    reached, release, ends = await gate(server)
    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with wire.open_running(known) as first:
            task = await first.call_tool("wait", task=True)
            await reached.wait()
        assert ends == [], "the client left, the task did not"
        async with wire.open_running(known) as second:
            async with second.watch_task(task.id) as snapshots:
                snapshot = await snapshots.receive()
                assert (snapshot.status, snapshot.current) == ("working", 1)
                release.set()
                assert [snapshot.status async for snapshot in snapshots][-1] == "completed"
            assert (await second.await_task(task.id)).data == "released"


async def test_law_10_shutdown_leaves_no_task_working(wire):
    server = make_server(shutdown_grace=0)
    reached, _, ends = await gate(server)
    async with open_server(server) as running:
        async with wire.open_running(running) as client:
            task = await client.call_tool("wait", task=True)
            await reached.wait()
        keep = running
    assert ends == ["cancelled", "finally"]
    record = await keep.fetch_task(task.id)
    assert record.status == "cancelled"


async def test_shutdown_gives_running_tasks_a_moment(wire, autojump_clock):
    server = make_server(shutdown_grace=10)
    async with open_server(server) as running:
        async with wire.open_running(running) as client:
            task = await client.call_tool("count", {"n": 3, "pause": 1}, task=True)
        keep = running
    assert (await keep.fetch_task(task.id)).status == "completed"


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
        with trio.fail_after(10):
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


async def test_required_and_forbidden(wire):
    modern = wire.protocol == MODERN
    async with wire.open(make_server()) as client:
        assert (await client.call_tool("required")).data == "required", "driven transparently"
        if modern:
            handle = await client.call_tool("plain", task=True)
            assert handle.id is None
            assert (await handle.result()).data == "plain"
        else:
            with pytest.raises(ProtocolError) as refused:
                await client.call_tool("plain", task=True)
            assert refused.value.code == -32601


async def test_an_optional_tool_answers_directly_when_it_is_fast(wire):
    updates: list[Any] = []
    recorder = wire.recorder(make_server())
    async with wire.open(recorder) as client:
        result = await client.call_tool(
            "count", {"n": 3}, progress_handler=lambda *update: updates.append(update)
        )
    assert result.data == "counted 3"
    assert updates == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
    assert not any(m.get("method", "").startswith("tasks/") for m in recorder.sent_messages())


async def test_promotion(wire, autojump_clock):
    """A slow optional tool becomes a task, and its progress goes on."""
    if wire.protocol != MODERN:
        return
    server = make_server()
    updates: list[Any] = []

    @server.tool(task=TaskConfig(promote_after=2))
    async def slow(ctx: Context) -> str:
        for i in range(6):
            await ctx.report_progress(i + 1, 6, f"step {i + 1}")
            await trio.sleep(1)
        return f"slow {ctx.task_id is not None}"

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        result = await client.call_tool("slow", progress_handler=lambda *update: updates.append(update))
    assert result.data == "slow True"
    assert updates == [(i, 6, f"step {i}") for i in range(1, 7)]
    kinds = [m["result"].get("resultType") for m in recorder.received_messages() if "result" in m]
    assert "task" in kinds


async def test_expiry(wire, autojump_clock):
    """After its ttl a task is gone from get, result and list alike, and looks like one that never was."""
    server = Server("expiry", version="1")

    @server.tool(task=TaskConfig(ttl=60))
    async def quick() -> str:
        return "done"

    async with wire.open(server) as client:
        task = await client.call_tool("quick", task=True)
        await task.result()
        assert (await task.status()).ttl == 60
        await trio.sleep(61)
        errors = []
        for task_id in (task.id, "never was"):
            with pytest.raises(TaskNotFound) as caught:
                await client.fetch_task(task_id)
            errors.append(str(caught.value))
            with pytest.raises(TaskNotFound):
                await client.cancel_task(task_id)
        assert len(set(errors)) == 1
        with pytest.raises(TaskNotFound):
            await task.result()
        if wire.protocol == LEGACY:
            assert await client.list_tasks() == []


async def test_a_client_may_ask_for_a_shorter_ttl(wire):
    async with wire.open(make_server()) as client:
        task = await client.call_tool("count", {"n": 1}, task=True, ttl=5)
        assert (await task.status()).ttl == (5 if wire.protocol == LEGACY else 3600)
        await task.result()


async def test_owners(wire):
    """Another owner's task is the same error as an unknown one; a modern id is a bearer secret."""
    server = make_server()
    async with open_server(server) as running:
        async with wire.open_running(running.authenticated("alice")) as alice:
            task = await alice.call_tool("count", {"n": 1}, task=True)
            await task.result()
        async with wire.open_running(running.authenticated("bob")) as bob:
            with pytest.raises(TaskNotFound):
                await bob.fetch_task(task.id)
        assert [record.id for record in await running.list_tasks("alice")] == [task.id]
        assert await running.list_tasks("bob") == []
        async with wire.open_running(running) as nobody:
            anonymous = await nobody.call_tool("count", {"n": 1}, task=True)
            await anonymous.result()
        async with wire.open_running(running) as other:
            if wire.protocol == MODERN:
                assert (await other.fetch_task(anonymous.id)).status == "completed"
            else:
                with pytest.raises(TaskNotFound):
                    await other.fetch_task(anonymous.id)


async def test_listing(wire):
    async with wire.open(make_server(page_size=2)) as client:
        if wire.protocol == MODERN:
            with pytest.raises(NotSupportedByEra, match="list"):
                await client.list_tasks()
            return
        made = [(await client.call_tool("count", {"n": 1}, task=True)).id for _ in range(3)]
        assert [task.id for task in await client.list_tasks()] == made[::-1]


async def test_listing_by_cursor_in_process():
    """Three tasks, two on a page; a cursor that is bad, or another principal's, is refused."""
    async with open_server(make_server(page_size=2)) as running:
        for principal in ("alice", "bob"):
            async with open_client(running.authenticated(principal)) as client:
                made = [(await client.call_tool("count", {"n": 1}, task=True)).id for _ in range(3)]
        first = await running.list_page("bob")
        assert [record.id for record in first.records] == [made[2], made[1]]
        assert first.next_cursor is not None
        second = await running.list_page("bob", first.next_cursor)
        assert [record.id for record in second.records] == [made[0]]
        assert second.next_cursor is None
        for principal, cursor in (("bob", "nonsense"), ("bob", ""), ("alice", first.next_cursor)):
            with pytest.raises(CursorError):
                await running.list_page(principal, cursor)
        assert [record.id for record in await running.list_tasks("bob")] == made[::-1]


async def test_overload(wire):
    server = make_server(max_running=1, max_queued=0)
    reached, release, _ = await gate(server)
    async with wire.open(server) as client:
        first = await client.call_tool("wait", task=True)
        await reached.wait()
        with pytest.raises(ProtocolError, match="overloaded"):
            await client.call_tool("count", {"n": 1}, task=True)
        release.set()
        assert (await first.result()).data == "released"
        second = await client.call_tool("count", {"n": 1}, task=True)
        assert (await second.result()).data == "counted 1"


async def test_queued_tasks_run_in_turn(wire, autojump_clock):
    server = make_server(max_running=2, max_queued=100)
    running = most = 0

    @server.tool(task=True)
    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    async with wire.open(server) as client:
        tasks = [await client.call_tool("busy", task=True) for _ in range(10)]
        for task in tasks:
            await task.result()
    assert most == 2


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


async def test_status_notifications_keep_their_order():
    """working, working with a message, completed (2025-11-25)."""
    server = make_server()
    _, release, _ = await gate(server)
    for target in (server, PipeConnector(server)):
        recorder = WireRecorder(target)
        async with open_client(recorder, protocol=LEGACY) as client:
            task = await client.call_tool("wait", task=True)
            await trio.testing.wait_all_tasks_blocked(0.05)
            release.set()
            await task.result()
        told = [m["params"] for m in recorder.received_messages("notifications/tasks/status")]
        assert [(t["status"], t.get("statusMessage")) for t in told] == [
            ("working", None),
            ("working", "Half done (1/2)"),
            ("completed", "Half done (1/2)"),
        ]


@attrs.frozen
class Name:
    name: str


async def test_input_required_and_back(wire):
    server = make_server()
    statuses: list[str] = []

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who are you?", Name)
        return f"Hello, {answer.data.name}!" if answer.accepted else answer.action

    async with open_server(server) as running:

        async def answer(request: Any) -> Any:
            assert request.message == "Who are you?"
            assert request.schema["properties"] == {"name": {"type": "string"}}
            # Over HTTP the question may come by another stream than the handle, and before it.
            task = await receive.receive()
            statuses.append((await running.fetch_task(task.id)).status.value)
            return answers.pop(0)

        send, receive = trio.open_memory_channel[TaskHandle](2)
        async with wire.open_running(running, elicitation_handler=answer) as client:
            answers: list[Any] = [{"name": "Trio"}, None]
            for expected in ("Hello, Trio!", "decline"):
                task = await client.call_tool("greet", task=True)
                send.send_nowait(task)
                assert (await task.result()).data == expected
    assert statuses == ["input_required", "input_required"]


async def test_asking_for_input_promotes_at_once(wire, autojump_clock):
    server = make_server()

    @server.tool(task=TaskConfig(promote_after=1000))
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        return f"{answer.data.name} {ctx.task_id is not None}"

    async with wire.open(server, elicitation_handler=lambda request: {"name": "x"}) as client:
        result = await client.call_tool("greet")
    assert result.data == f"x {wire.protocol == MODERN}"
    assert trio.current_time() < 900


async def test_sampling(wire):
    server = make_server()

    @server.tool(task=True)
    async def think(ctx: Context) -> str:
        sampled = await ctx.sample("What is the capital of France?", max_tokens=10)
        return f"{sampled.text} ({sampled.model})"

    def answer(request: Any) -> str:
        assert request.max_tokens == 10
        return "Paris"

    async with wire.open(server, sampling_handler=answer) as client:
        task = await client.call_tool("think", task=True)
        assert (await task.result()).data == "Paris (unknown)"


async def test_a_client_that_cannot_be_asked(wire):
    server = make_server()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        return str((await ctx.elicit("Who?", Name)).action)

    async with wire.open(server) as client:
        task = await client.call_tool("greet", task=True)
        with pytest.raises(ProtocolError, match="no elicitation") as refused:
            await task.result()
        assert refused.value.data == {"requiredCapabilities": {"elicitation": {}}}


async def test_two_racing_answers_resume_once():
    """Modern: whoever answers first counts; the other is acknowledged and ignored."""
    server = make_server()
    seen: list[str] = []

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        seen.append(answer.data.name)
        return answer.data.name

    async with open_server(server) as running, raw_peer(running) as first, raw_peer(running) as second:
        meta = {
            **MODERN_META,
            "io.modelcontextprotocol/clientCapabilities": {
                "elicitation": {},
                "extensions": {"io.modelcontextprotocol/tasks": {}},
            },
            "io.github.trio-mcp/task": True,
        }
        params = {"name": "greet", "_meta": meta}
        created = await first.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        task_id = created["result"]["taskId"]
        await trio.testing.wait_all_tasks_blocked()
        get = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": task_id, "_meta": meta}}
        asked = (await first.ask(get))["result"]
        assert asked["status"] == "input_required"
        (key,) = asked["inputRequests"]
        for peer, name in ((first, "one"), (second, "two")):
            responses = {
                key: {"action": "accept", "content": {"name": name}},
                "unknown": {"action": "cancel"},
            }
            update = {"taskId": task_id, "inputResponses": responses, "_meta": meta}
            await peer.send({"jsonrpc": "2.0", "id": 3, "method": "tasks/update", "params": update})
        for peer in (first, second):
            assert (await peer.receive())["result"]["resultType"] == "complete"
        record = await running.await_task(task_id)
        assert record.status == "completed"
    assert seen in (["one"], ["two"])


async def test_two_connections_answer_one_question(wire):
    """2025-11-25: both wait in tasks/result and both are asked; the task resumes once."""
    if wire.protocol != LEGACY:
        return
    server = make_server()
    resumed: list[str] = []
    asked: list[str] = []
    both_asked = trio.Event()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        resumed.append(answer.data.name)
        return answer.data.name

    def handler(name: str) -> Any:
        async def answer(request: Any) -> Any:
            asked.append(name)
            if len(asked) == 2:
                both_asked.set()
            await both_asked.wait()
            return {"name": name}

        return answer

    results: list[str] = []
    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with (
            wire.open_running(known, elicitation_handler=handler("one")) as first,
            wire.open_running(known, elicitation_handler=handler("two")) as second,
        ):
            task = await first.call_tool("greet", task=True)

            async def wait(client: Any) -> None:
                results.append((await client.await_task(task.id)).data)

            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait, first)
                    nursery.start_soon(wait, second)
    assert sorted(asked) == ["one", "two"]
    assert resumed in (["one"], ["two"])
    assert results == resumed * 2


@pytest.mark.parametrize("winner", [0, 1])
async def test_a_late_answer_is_dropped(winner):
    """2025-11-25: the answer behind the first changes nothing, and its connection goes on."""
    server = make_server()
    resumed: list[str] = []

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        resumed.append(answer.data.name)
        return answer.data.name

    async def wait_for(peer: RawPeer, **wanted: Any) -> Any:
        while True:
            message = await peer.receive()
            if all(message.get(key) == value for key, value in wanted.items()):
                return message

    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with raw_peer(known) as creator, raw_peer(known) as other:
            peers = (creator, other)
            for peer in peers:
                await peer.initialize(LEGACY, {"elicitation": {}})
            params = {"name": "greet", "task": {}}
            await creator.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
            task_id = (await wait_for(creator, id=1))["result"]["task"]["taskId"]
            for peer in peers:
                params = {"taskId": task_id}
                await peer.send({"jsonrpc": "2.0", "id": 2, "method": "tasks/result", "params": params})
            asked = [await wait_for(peer, method="elicitation/create") for peer in peers]
            for index in (winner, 1 - winner):
                content = {"action": "accept", "content": {"name": f"peer {index}"}}
                await peers[index].send({"jsonrpc": "2.0", "id": asked[index]["id"], "result": content})
                await trio.testing.wait_all_tasks_blocked()
            for peer in peers:
                result = (await wait_for(peer, id=2))["result"]
                assert result["content"][0]["text"] == f"peer {winner}"
                await peer.send({"jsonrpc": "2.0", "id": 3, "method": "ping"})
                assert (await wait_for(peer, id=3))["result"] == {}
    assert resumed == [f"peer {winner}"]


@asynccontextmanager
async def raw_peer(running: Any) -> AsyncIterator[RawPeer]:
    from trio_mcp import ClientSettings
    from trio_mcp.client.target import open_target

    async with open_target(running, ClientSettings()) as transport:
        yield RawPeer(transport)


async def test_modern_methods_need_the_extension(wire):
    if wire.protocol != MODERN:
        return
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        for method, params in (
            ("tasks/get", {"taskId": "x"}),
            ("tasks/cancel", {"taskId": "x"}),
            ("tasks/update", {"taskId": "x", "inputResponses": {}}),
            ("subscriptions/listen", {"notifications": {"taskIds": ["x"]}}),
            ("tools/call", {"name": "required"}),
        ):
            request = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": method,
                "params": {**params, "_meta": MODERN_META},
            }
            error = (await peer.ask(request))["error"]
            assert error["code"] == -32021
            assert error["data"]["requiredCapabilities"] == {
                "extensions": {"io.modelcontextprotocol/tasks": {}}
            }
        for method in ("tasks/result", "tasks/list"):
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": MODERN_META}}
            assert (await peer.ask(request))["error"]["code"] == -32601


async def test_a_server_that_offers_no_notifications_is_polled(wire, autojump_clock):
    """Hostile or absent intervals neither spin nor stall."""
    if wire.protocol != MODERN:
        return
    from tests.client.test_client import DISCOVERED, FakeServer, result

    looks: list[float] = []

    def get(request: Any) -> Any:
        looks.append(trio.current_time())
        final = len(looks) >= 20
        task = {
            "resultType": "complete",
            "taskId": "t",
            "status": "completed" if final else "working",
            "createdAt": "2026-01-01T00:00:00Z",
            "lastUpdatedAt": f"2026-01-01T00:00:{len(looks):02}Z",
            "ttlMs": None,
            "pollIntervalMs": [0, -5, 1e12, None, 100][len(looks) % 5],
        }
        if final:
            task["result"] = {"content": []}
        return result({k: v for k, v in task.items() if v is not None or k == "ttlMs"})(request)

    created = {
        "resultType": "task",
        "taskId": "t",
        "status": "working",
        "createdAt": "2026-01-01T00:00:00Z",
        "lastUpdatedAt": "2026-01-01T00:00:00Z",
        "ttlMs": None,
    }
    server = FakeServer(
        {"server/discover": result(DISCOVERED), "tools/call": result(created), "tasks/get": get}
    )
    async with open_client(server) as client:
        await client.call_tool("any")
    gaps = [b - a for a, b in itertools.pairwise(looks)]
    assert min(gaps) >= 0.049
    assert max(gaps) <= 60.1


async def test_many_tasks_through_one_client(wire):
    """A thousand tasks of twenty reports each: all results and all 20,000 updates, in order per task."""
    async with wire.open(make_server(max_running=50, max_queued=1000)) as client:
        finished: list[list[Any]] = []

        async def run() -> None:
            seen: list[Any] = []
            task = await client.call_tool(
                "count", {"n": 20}, task=True, progress_handler=lambda *update: seen.append(update)
            )
            assert (await task.result()).data == "counted 20"
            finished.append(list(seen))

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(run)
    assert finished == [[(i, 20, f"step {i}") for i in range(1, 21)]] * 1000


def test_settings_must_make_sense():
    for bad in ({"mode": "sometimes"}, {"ttl": 0}, {"ttl": -1}, {"promote_after": -1}, {"timeout": "5"}):
        with pytest.raises(ValueError, match="must"):
            TaskConfig(**bad)
    for bad in (
        {"max_running": 0},
        {"max_queued": -1},
        {"ttl": 0},
        {"shutdown_grace": -1},
        {"history_reports": 0},
    ):
        with pytest.raises(ValueError, match="must"):
            TaskSettings(**bad)


async def test_input_is_gathered_before_the_task_exists(wire):
    """Modern: by multi round trip with a sealed state; legacy: the server simply asks."""
    server = make_server()
    rounds: list[int] = []

    async def gather(ctx: Context, arguments: dict[str, Any]) -> list[str]:
        rounds.append(1)
        first = await ctx.elicit(f"First name for {arguments['greeting']}?", Name, key="user_name")
        second = await ctx.elicit("Last name?", Name)
        assert ctx.task_id is None
        return [first.data.name, second.data.name]

    @server.tool(task=TaskConfig(mode="required", gather=gather))
    async def greet(ctx: Context, greeting: str) -> str:
        assert ctx.task_id is not None
        return " ".join([greeting, *ctx.gathered])

    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(request.message)
        return {"name": f"name{len(asked)}"}

    async with wire.open(server, elicitation_handler=answer) as client:
        task = await client.call_tool("greet", {"greeting": "Hello"}, task=True)
        assert task.id is not None
        assert (await task.result()).data == "Hello name1 name2"
    assert asked == ["First name for Hello?", "Last name?"]
    assert len(rounds) == (3 if wire.protocol == MODERN else 1)


async def test_a_state_that_was_altered_is_refused():
    server = make_server()

    async def gather(ctx: Context, arguments: dict[str, Any]) -> str:
        return (await ctx.elicit("Who?", Name, key="who")).data.name

    @server.tool(task=TaskConfig(mode="required", gather=gather))
    async def greet(ctx: Context) -> str:
        return str(ctx.gathered)

    capabilities = {"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}
    meta = {**MODERN_META, "io.modelcontextprotocol/clientCapabilities": capabilities}

    def request(ident: int, **members: Any) -> dict[str, Any]:
        params = {"name": "greet", "_meta": meta, **members}
        return {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}

    async with open_server(server) as running, raw_peer(running) as peer:
        asked = (await peer.ask(request(1)))["result"]
        assert asked["resultType"] == "input_required"
        assert list(asked["inputRequests"]) == ["who"]
        state = asked["requestState"]
        good = {"who": {"action": "accept", "content": {"name": "x"}}}
        for altered in (state[:-4] + "AAAA", "nonsense!", "", state + "A"):
            answer = await peer.ask(request(2, requestState=altered, inputResponses=good))
            assert answer["error"]["code"] == -32602
        for wrong in ({"other": {"action": "accept"}}, {"who": None}, {"who": "text"}):
            again = (await peer.ask(request(3, requestState=state, inputResponses=wrong)))["result"]
            assert again["resultType"] == "input_required"
        made = (await peer.ask(request(4, requestState=state, inputResponses=good)))["result"]
        assert made["resultType"] == "task"
        assert (await running.await_task(made["taskId"])).status == "completed"


async def test_the_wire_s_errors_for_tasks():
    """Wrong owner, expired and unknown are one error; what has ended cannot be cancelled in 2025-11-25."""
    server = make_server()
    async with open_server(server) as running:
        async with open_client(running, protocol=LEGACY) as client:
            task = await client.call_tool("count", {"n": 1}, task=True)
            await task.result()
            errors = []
            async with raw_peer(running) as other:
                await other.initialize(LEGACY)
                for task_id in (task.id, "unknown"):
                    for method in ("tasks/get", "tasks/result", "tasks/cancel"):
                        params = {"taskId": task_id}
                        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                        errors.append((await other.ask(request))["error"])
                for cursor in ("nonsense", "", "AAAA"):
                    params = {"cursor": cursor}
                    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": params}
                    assert (await other.ask(request))["error"]["code"] == -32602
            assert errors == [{"code": -32602, "message": "no such task"}] * 6
            with pytest.raises(ProtocolError, match="already ended") as refused:
                await client._link.request("tasks/cancel", TaskIdParams(task_id=task.id))
            assert refused.value.code == -32602
        async with open_client(running, protocol=MODERN) as client:
            task = await client.call_tool("count", {"n": 1}, task=True)
            await task.result()
            raw = await client._link.request("tasks/cancel", TaskIdParams(task_id=task.id))
            assert set(msgspec.json.decode(raw)) == {"resultType", "_meta"}


async def test_subscriptions():
    """Acknowledged first, tagged with the request's id, complete tasks, in order."""
    server = make_server()
    reached, release, _ = await gate(server)
    capabilities = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    meta = {
        **MODERN_META,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.github.trio-mcp/task": True,
    }
    async with open_server(server) as running, raw_peer(running) as peer:
        params = {"name": "wait", "_meta": meta}
        made = await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        await reached.wait()
        wanted = {"taskIds": [made["result"]["taskId"], "unknown"]}
        listen = {"notifications": wanted, "_meta": meta}
        await peer.send({"jsonrpc": "2.0", "id": "L", "method": "subscriptions/listen", "params": listen})
        acknowledged = await peer.receive()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == {"taskIds": [made["result"]["taskId"]]}
        working = await peer.receive()
        assert working["params"]["status"] == "working"
        assert working["params"]["statusMessage"] == "Half done (1/2)"
        release.set()
        completed = await peer.receive()
        assert completed["params"]["status"] == "completed"
        assert completed["params"]["result"]["content"][0]["text"] == "released"
        for message in (acknowledged, working, completed):
            assert message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "L"


async def test_a_subscription_ends_with_the_server_and_says_so():
    ours, theirs = memory_pair()
    peer = RawPeer(ours)
    capabilities = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    meta = {**MODERN_META, "io.modelcontextprotocol/clientCapabilities": capabilities}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_server().serve, theirs)
        listen = {"notifications": {"taskIds": []}, "_meta": meta}
        await peer.ask({"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": listen})
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            cancelled, result = await peer.receive(), await peer.receive()
    assert cancelled["method"] == "notifications/cancelled"
    assert cancelled["params"]["requestId"] == 7
    assert result["id"] == 7
    assert result["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 7


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
        with trio.fail_after(10):
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


async def test_a_crashing_elicitation_handler_is_an_answer(wire, caplog):
    server = make_server()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        try:
            return (await ctx.elicit("Who?", Name)).action
        except ProtocolError as error:
            return error.message

    def crash(request: Any) -> Any:
        raise RuntimeError("in the handler")

    async with wire.open(server, elicitation_handler=crash) as client:
        task = await client.call_tool("greet", task=True)
        answer = (await task.result()).data
    assert answer == ("cancel" if wire.protocol == MODERN else "elicitation/create failed")
    assert "the handler of elicitation/create failed" in caplog.text


async def test_gathering_also_before_a_direct_answer(wire):
    server = make_server()

    async def gather(ctx: Context, arguments: dict[str, Any]) -> str:
        return (await ctx.elicit("Who?", Name)).data.name

    @server.tool(task=TaskConfig(gather=gather))
    async def greet(ctx: Context) -> str:
        return f"{ctx.gathered} {ctx.task_id is not None}"

    async with wire.open(server, elicitation_handler=lambda request: {"name": "x"}) as client:
        assert (await client.call_tool("greet")).data == "x False"


async def test_a_durable_store_follows_behind(autojump_clock):
    """Progress reaches a store within `write_behind` seconds; the end at once."""

    class Durable(MemoryTaskStore):
        def __init__(self) -> None:
            super().__init__()
            self.write_behind = 5.0
            self.puts: list[Any] = []

        async def put(self, record: Any) -> None:
            self.puts.append((round(trio.current_time() - started), record.status.value, record.progress))
            await super().put(record)

    store = Durable()
    server = Server("durable", version="1", task_store=store)

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        for i in range(100):
            await ctx.report_progress(i)
            await trio.sleep(0.17)

    started = trio.current_time()
    async with open_client(server) as client:
        task = await client.call_tool("work", task=True)
        await task.result()
    times = [time for time, status, _ in store.puts if status == "working"]
    assert times == [5, 10, 15]
    assert [status for _, status, _ in store.puts][-1] == "completed"
    assert store.puts[-1][2].current == 99


async def test_a_cancellation_right_before_the_client_leaves(wire):
    server = make_server()
    reached, _, ends = await gate(server)
    async with open_server(server) as running:
        async with wire.open_running(running) as client:
            task = await client.call_tool("wait", task=True)
            await reached.wait()
            task.abandon()
        with trio.fail_after(10):
            assert (await running.await_task(task.id)).status == "cancelled"
            while not ends:
                await trio.testing.wait_all_tasks_blocked()


async def test_a_default_for_all_tools(wire):
    """The server says it for all, and a tool may say otherwise."""
    server = Server("default", version="1", default_task=TaskConfig(mode="required", ttl=7))

    @server.tool
    async def usual(ctx: Context) -> bool:
        return ctx.task_id is not None

    @server.tool(task=False)
    async def never(ctx: Context) -> bool:
        return ctx.task_id is not None

    @server.tool(task=TaskConfig(ttl=9))
    async def other(ctx: Context) -> bool:
        return ctx.task_id is not None

    async with wire.open(server) as client:
        assert (await client.call_tool("usual")).data is True
        assert (await client.call_tool("never")).data is False
        for name, ttl in (("usual", 7), ("other", 9)):
            task = await client.call_tool(name, task=True)
            assert (await task.status()).ttl == ttl
            assert (await task.result()).data is True


async def test_a_cursor_of_another_client_is_refused():
    """A cursor that was given out, but not to whoever brings it, is as bad as nonsense (2025-11-25)."""

    def list_request(**params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": params}

    server = make_server(page_size=1)
    async with open_server(server) as running, raw_peer(running) as first, raw_peer(running) as second:
        for peer in (first, second):
            await peer.initialize(LEGACY)
            for _ in range(2):
                params = {"name": "count", "arguments": {"n": 0}, "task": {}}
                request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
                await peer.ask(request)
            await trio.testing.wait_all_tasks_blocked(0.01)
        pages = []
        for peer in (first, second):
            await peer.send(list_request())
            while "tasks" not in (answer := await peer.receive()).get("result", {}):
                pass  # status notifications
            pages.append(answer["result"])
        cursor = pages[0]["nextCursor"]
        assert "error" not in await first.ask(list_request(cursor=cursor))
        assert (await second.ask(list_request(cursor=cursor)))["error"]["code"] == -32602


# Rate and time left


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
        assert later == attrs.evolve(await client.fetch_task(task.id), last_updated_at=later.last_updated_at)
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


async def test_a_task_that_nobody_looks_at_estimates_all_the_same(autojump_clock):
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
