"""Two servers that share one store: a task of one is seen, answered and cancelled through the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from tests.support.replicas import MEMORY, add_greet, add_steps, open_fleet
from tests.tasks.task_server import Name
from trio_mcp import Context, ProtocolError, Server, TaskCancelled, TaskConfig
from trio_mcp.tasks.record import utc_now


async def test_a_task_of_one_replica_is_seen_and_ends_through_the_other(wire):
    async with open_fleet() as fleet, fleet.a.open(wire) as one, fleet.b.open(wire) as other:
        with trio.fail_after(HANG_SECONDS):
            task = await one.call_tool("wait", task=True)
            await fleet.reached.wait()
            assert (await other.fetch_task(task.id)).status == "working"
            if wire.protocol == LEGACY:
                assert [each.id for each in await other.list_tasks()] == [task.id]
            results: list[Any] = []

            async def wait() -> None:
                results.append((await other.await_task(task.id)).data)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                assert not results
                fleet.release.set()
            assert results == ["released"]
            assert (await task.result()).data == "released"


async def test_all_progress_arrives_through_another_replica(wire, autojump_clock):
    """The newest of it at least; with a subscription all, from the beginning, each once and in order."""
    async with open_fleet(add_steps) as fleet, fleet.a.open(wire) as one, fleet.b.open(wire) as other:
        task = await one.call_tool("steps", {"n": 6}, task=True)
        await trio.sleep(0.7)
        seen: list[float] = []
        with trio.fail_after(1000):
            result = await other.await_task(
                task.id, progress_handler=lambda current, total, message: seen.append(current)
            )
        assert result.data == "done"
        assert seen == sorted(set(seen))
        assert seen[-1] == 6
        if wire.protocol == MODERN:
            assert seen == [1, 2, 3, 4, 5, 6]


async def test_a_question_is_answered_through_another_replica(wire):
    async def leave_open(request: Any) -> Any:
        await trio.sleep_forever()

    async def answer(request: Any) -> Any:
        assert request.message == "Who are you?"
        return {"name": "Trio"}

    async with open_fleet(add_greet) as fleet:
        async with (
            fleet.a.open(wire, elicitation_handler=leave_open) as one,
            fleet.b.open(wire, elicitation_handler=answer) as other,
        ):
            with trio.fail_after(HANG_SECONDS):
                task = await one.call_tool("greet", task=True)
                assert (await other.await_task(task.id)).data == "Hello, Trio!"
        assert fleet.b.store.calls["answer"] == 1, "the answer is stored"


async def test_a_client_that_cannot_answer_says_so_through_another_replica(wire):
    """2025-11-25: the error that a client answers is raised in the handler, wherever that runs."""
    if wire.protocol != LEGACY:
        return

    def refuse(request: Any) -> Any:
        raise ProtocolError(-32050, "nobody is there")

    async def leave_open(request: Any) -> Any:
        await trio.sleep_forever()

    async with (
        open_fleet(add_greet) as fleet,
        fleet.a.open(wire, elicitation_handler=leave_open) as one,
        fleet.b.open(wire, elicitation_handler=refuse) as other,
    ):
        with trio.fail_after(HANG_SECONDS):
            task = await one.call_tool("greet", task=True)
            with pytest.raises(ProtocolError):
                await other.await_task(task.id)


async def test_a_task_is_cancelled_through_another_replica(wire):
    async with open_fleet() as fleet, fleet.a.open(wire) as one, fleet.b.open(wire) as other:
        with trio.fail_after(HANG_SECONDS):
            task = await one.call_tool("wait", task=True)
            await fleet.reached.wait()
            await other.cancel_task(task.id)
            assert (await other.fetch_task(task.id)).status == "cancelled"
            with pytest.raises(TaskCancelled):
                await task.result()
            await wait_all_tasks_blocked()
            assert fleet.ends == ["cancelled", "finally"]


async def test_a_task_that_was_taken_away_is_noticed_at_the_next_put(autojump_clock):
    """A process that was frozen does not know that it was taken for dead."""
    async with open_fleet(add_steps) as fleet, fleet.a.open(MEMORY) as one:
        task = await one.call_tool("steps", {"n": 1000}, task=True)
        await trio.sleep(1)
        fleet.a.store.die()
        record = await fleet.a.running.await_task(task.id)
        assert record.status == "failed"
        assert record.status_message is not None
        assert "interrupted" in record.status_message
        assert record == await fleet.b.running.await_task(task.id)
        puts = len(fleet.a.store.puts)
        await trio.sleep(10)
        assert len(fleet.a.store.puts) <= puts + 1, "the handler is cancelled"


async def test_an_end_of_a_lost_task_changes_nothing(autojump_clock):
    async with open_fleet() as fleet, fleet.a.open(MEMORY) as one:
        task = await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        fleet.a.store.die()
        await fleet.b.store.cancel(task.id, (await fleet.b.running.fetch_task(task.id)).created_at)
        fleet.a.store._changed.clear()  # it is frozen, and hears nothing
        fleet.release.set()
        with pytest.raises(TaskCancelled):
            await task.result()
        assert (await fleet.a.running.fetch_task(task.id)).status == "cancelled"


async def test_progress_never_goes_back_for_who_follows_a_lost_task(autojump_clock):
    """What was told and not stored yet stays the least that is told."""
    async with open_fleet(add_steps, write_behind=2.0) as fleet, fleet.a.open(MEMORY) as one:
        task = await one.call_tool("steps", {"n": 1000}, task=True)
        seen: list[float] = []
        async with fleet.a.running.watch_task(task.id) as records:
            async for record in records:
                if record.progress is not None:
                    seen.append(record.progress.current or 0)
                if len(seen) == 6:
                    fleet.a.store.lose_lease()
        assert record.status == "failed"
        assert seen == sorted(seen)
        stored = await fleet.b.running.fetch_task(task.id)
        assert stored.progress is not None
        assert stored.progress.current is not None
        assert stored.progress.current < seen[-1], "more was told than is stored"


async def test_a_deleted_task_is_cancelled_where_it_runs(autojump_clock):
    async with open_fleet() as fleet, fleet.a.open(MEMORY) as one:
        task = await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        async with fleet.b.running.watch_task(task.id) as records:
            await records.receive()
            await fleet.b.store.delete(task.id)
            assert [record async for record in records] == [], "the end of a deleted task is not known"
        await wait_all_tasks_blocked()
        assert fleet.ends == ["cancelled", "finally"]


async def test_a_storm_of_progress_costs_few_puts_and_rest_none(autojump_clock):
    """First at once, then one put for all tasks in each interval; the reports are stored with it."""

    def add_storm(server: Server) -> None:
        @server.tool(task=True)
        async def storm(ctx: Context) -> None:
            for number in range(2000):
                await ctx.report_progress(number + 1)
                await trio.sleep(0.001)
            await trio.sleep(20)

    async with open_fleet(add_storm, sweep_interval=3600) as fleet, fleet.a.open(MEMORY) as one:
        tasks = [await one.call_tool("storm", task=True) for _ in range(10)]
        await trio.sleep(2.5)
        puts = fleet.a.store.puts
        assert 15 <= len(puts) <= 30
        assert max(len(changes) for changes in puts) == 10
        assert sum(len(change.reports) for changes in puts for change in changes) == 20_000
        for task in tasks:
            offsets = [r.offset for r in await fleet.b.store.read_reports(task.id, 0, 1000)]
            assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
            assert offsets[-1] == (1 << 32) + 2000
        puts.clear()
        await trio.sleep(10)
        assert puts == []


async def test_while_the_store_is_away_calls_get_a_clear_error_and_handlers_go_on(
    wire, autojump_clock, caplog
):
    """The end is told once it is stored; the outage is logged once."""

    def add_slow(server: Server) -> None:
        @server.tool(task=TaskConfig(promote_after=0.5))
        async def slow(ctx: Context) -> str:
            await trio.sleep(2)
            return "slow"

    async with open_fleet(add_slow) as fleet, fleet.a.open(wire) as one:
        task = await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        fleet.a.store.is_away = True
        for _ in range(3):
            with pytest.raises(ProtocolError, match="test:// is away; start it again") as refused:
                await one.call_tool("wait", task=True)
            assert refused.value.code == -32603
        assert (await one.call_tool("slow")).data == "slow", "it cannot become a task, and is answered"
        fleet.release.set()
        await trio.sleep(30)
        assert fleet.ends[:1] == ["finally"]
        assert (await fleet.b.running.fetch_task(task.id)).status == "working", "its end is not stored yet"
        fleet.a.store.is_away = False
        with trio.fail_after(1000):
            assert (await task.result()).data == "released"
        assert (await fleet.b.running.fetch_task(task.id)).status == "completed"
        logged = [record.getMessage() for record in caplog.records if "task store" in record.getMessage()]
        assert logged == [
            "the task store fails: the task store at test:// is away; start it again",
            "the task store works again",
        ]


def lose_answers_of(create: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A `create` that keeps the task, and fails all the same."""

    async def create_and_fail(*args: Any, **options: Any) -> Any:
        await create(*args, **options)
        raise OSError("the connection broke")

    return create_and_fail


async def test_a_task_whose_creation_is_in_doubt_does_not_stay(autojump_clock, monkeypatch):
    """The store has kept it, although the call of it failed."""
    async with open_fleet() as fleet, fleet.a.open(MEMORY) as one:
        monkeypatch.setattr(fleet.a.store, "create", lose_answers_of(fleet.a.store.create))
        with pytest.raises(ProtocolError, match="the task store failed: the connection broke"):
            await one.call_tool("wait", task=True)
        assert len(fleet.state._entries) == 1
        await trio.sleep(6)
        assert len(fleet.state._entries) == 0


async def test_a_call_with_a_key_whose_creation_is_in_doubt_can_be_made_again(autojump_clock, monkeypatch):
    """The store has kept a record that nobody runs: the next call with the key does not join it."""
    async with open_fleet() as fleet, fleet.a.open(MEMORY) as one:
        store = fleet.a.store
        with monkeypatch.context() as patch:
            patch.setattr(store, "create", lose_answers_of(store.create))
            with pytest.raises(ProtocolError, match="the task store failed: the connection broke"):
                await one.call_tool("wait", task=True, idempotency_key="invoice-1")
        (doubtful,) = fleet.state._entries
        store.is_away = True
        with pytest.raises(ProtocolError, match="is away"):
            await one.call_tool("wait", task=True, idempotency_key="invoice-1")
        store.is_away = False
        task = await one.call_tool("wait", task=True, idempotency_key="invoice-1")
        await fleet.reached.wait()
        assert list(fleet.state._entries) == [task.id]
        assert task.id != doubtful
        fleet.release.set()
        assert (await task.result()).data == "released"


async def test_whoever_follows_a_task_elsewhere_outlasts_the_errors_of_a_store(
    autojump_clock, caplog, monkeypatch
):
    """Also those that are no TaskStoreError, because somebody else has written the store."""
    async with open_fleet() as fleet, fleet.a.open(MEMORY) as one:
        task = await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        get = fleet.b.store.get
        failures = iter([None, OSError("the cable is out"), OSError("the cable is out")])

        async def get_sometimes(*args: Any) -> Any:
            failure = next(failures, None)
            if failure is not None:
                raise failure
            return await get(*args)

        monkeypatch.setattr(fleet.b.store, "get", get_sometimes)
        async with fleet.b.running.watch_task(task.id) as records:
            await trio.sleep(5)
            fleet.release.set()
            seen = [record.status async for record in records]
    assert seen[-1] == "completed"
    assert "the task store fails: the cable is out" in caplog.text


async def test_a_store_that_hangs_does_not_hold_up_the_end_of_the_server(autojump_clock):
    async with open_fleet() as fleet, fleet.a.open(MEMORY) as one:
        for _ in range(3):
            await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        fleet.a.store.seconds = 10_000
        started = trio.current_time()
    assert trio.current_time() - started <= 12


@pytest.mark.parametrize("is_task", [True, False])
async def test_a_call_with_a_key_joins_the_one_of_another_replica(is_task: bool) -> None:
    """It gets the progress from then on and the result, and the tool runs once."""
    begun, go_on = trio.Event(), trio.Event()
    runs: list[int] = []
    seen: list[Any] = []

    def add_pay(server: Server) -> None:
        @server.tool(task=TaskConfig(promote_after=1000) if is_task else False)
        async def pay(ctx: Context) -> str:
            runs.append(1)
            begun.set()
            await go_on.wait()
            for number in range(1, 4):
                await ctx.report_progress(number, 3)
            return "paid"

    def note(*update: Any) -> None:
        seen.append(update)

    results: list[Any] = []
    with trio.fail_after(HANG_SECONDS):
        async with open_fleet(add_pay) as fleet, fleet.a.open(MEMORY) as one, fleet.b.open(MEMORY) as two:

            async def call(client: Any, handler: Any) -> None:
                answer = await client.call_tool("pay", idempotency_key="invoice-1", progress_handler=handler)
                results.append(answer.data)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, one, None)
                await begun.wait()
                nursery.start_soon(call, two, note)
                await wait_all_tasks_blocked(0.05)
                go_on.set()
    assert results == ["paid", "paid"]
    assert runs == [1]
    assert seen[-1] == (3, 3, None)
    assert seen == sorted(seen)


async def test_a_question_waits_for_a_store_that_is_away(wire, autojump_clock):
    """It is stored before it is told, and told when it is stored; the same holds for its answer."""

    async def answer(request: Any) -> Any:
        return {"name": "Trio"}

    def add_late(server: Server) -> None:
        @server.tool(task=True)
        async def late(ctx: Context) -> str:
            await trio.sleep(1)
            return str((await ctx.elicit("Who are you?", Name)).data.name)

    async with open_fleet(add_late) as fleet, fleet.a.open(wire, elicitation_handler=answer) as one:
        task = await one.call_tool("late", task=True)
        await trio.sleep(0.5)
        fleet.a.store.is_away = True
        await trio.sleep(10)
        assert (await fleet.b.running.fetch_task(task.id)).status == "working"
        fleet.a.store.is_away = False
        with trio.fail_after(1000):
            assert (await task.result()).data == "Trio"


async def test_a_checkpoint_waits_for_a_store_that_is_away(autojump_clock):
    reached, kept = trio.Event(), trio.Event()

    def add_keeping(server: Server) -> None:
        @server.tool(task=TaskConfig(mode="required"))
        async def keeping(ctx: Context) -> str:
            await ctx.report_progress(1)
            reached.set()
            await trio.sleep(1)
            await ctx.checkpoint("value")
            kept.set()
            return "kept"

    async with open_fleet(add_keeping) as fleet, fleet.a.open(MEMORY) as one:
        task = await one.call_tool("keeping", task=True)
        await reached.wait()
        fleet.a.store.is_away = True
        await trio.sleep(30)
        assert not kept.is_set()
        fleet.a.store.is_away = False
        with trio.fail_after(1000):
            assert (await task.result()).data == "kept"


async def test_the_handler_of_a_lost_task_goes_no_further_than_its_checkpoint(autojump_clock):
    """Nobody has told it yet; the store refuses what it keeps."""
    reached, go_on, went_on = trio.Event(), trio.Event(), trio.Event()

    def add_keeping(server: Server) -> None:
        @server.tool(task=TaskConfig(mode="required"))
        async def keeping(ctx: Context) -> str:
            reached.set()
            await go_on.wait()
            await ctx.checkpoint("value")
            went_on.set()
            return "kept"

    async with open_fleet(add_keeping) as fleet, fleet.a.open(MEMORY) as one:
        task = await one.call_tool("keeping", task=True)
        await reached.wait()
        fleet.a.store.die()
        (failed,) = await fleet.b.store.recover(utc_now())
        go_on.set()
        await wait_all_tasks_blocked()
        assert (await fleet.a.running.await_task(task.id)).outcome == failed.outcome
        assert not went_on.is_set()


async def test_a_client_that_waits_goes_on_when_the_store_is_back(wire, autojump_clock):
    """The server answers meanwhile that the same request may succeed later."""
    async with open_fleet() as fleet, fleet.a.open(wire) as one, fleet.b.open(wire) as other:
        task = await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        fleet.b.store.is_away = True
        with pytest.raises(ProtocolError, match="is away") as refused:
            await other.fetch_task(task.id)
        assert refused.value.data == {"status": 503}
        fleet.b.store.is_away = False
        results: list[Any] = []

        async def wait() -> None:
            results.append((await other.await_task(task.id)).data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked(0.01)
            fleet.b.store.is_away = True
            await trio.sleep(20)
            fleet.b.store.is_away = False
            fleet.release.set()
        assert results == ["released"]


async def test_a_cancellation_that_the_store_does_not_take_is_an_error(wire, autojump_clock):
    """The handler is cancelled all the same, and the task ends when the store is back."""
    async with open_fleet() as fleet, fleet.a.open(wire) as one:
        task = await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        fleet.a.store.is_away = True
        with pytest.raises(ProtocolError, match="the task store does not take that now"):
            await one.cancel_task(task.id)
        await wait_all_tasks_blocked()
        assert fleet.ends == ["cancelled", "finally"]
        fleet.a.store.is_away = False
        assert (await fleet.b.running.await_task(task.id)).status == "cancelled"


async def test_a_store_that_does_not_answer_is_an_error_of_tasks_cancel(autojump_clock):
    async with open_fleet() as fleet, fleet.a.open(MEMORY) as one, fleet.b.open(MEMORY) as other:
        task = await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        fleet.b.store.seconds = 10_000
        with pytest.raises(ProtocolError, match="the task store has not answered for 5 seconds"):
            await other.cancel_task(task.id)
