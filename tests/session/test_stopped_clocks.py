"""The clocks of a call stand still while a person is asked, in calls and tasks of both eras."""

from __future__ import annotations

import math
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import trio

from tests.conftest import Wire
from trio_mcp import (
    CallTimeout,
    ClientSettings,
    Context,
    Server,
    ServerSettings,
    TaskCancelled,
    TaskConfig,
    ToolError,
    open_server,
)
from trio_mcp.client.call_pauses import CallPauses
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.timeouts import CallTimer
from trio_mcp.concurrency.stopped_scopes import StoppedScopes
from trio_mcp.outgoing.policy import Conflate

ANSWER_SECONDS = 1000


def make_server(after: float = 0, *, pauses: bool = True, timeout: float | None = None) -> Server:
    """A server whose tool asks twice at once, and works for `after` seconds then."""
    server = Server("asking", settings=ServerSettings(pause_while_asking=pauses))

    @server.tool(task=TaskConfig(timeout=timeout))
    async def ask(ctx: Context) -> str:
        before = ctx.deadline - trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ctx.elicit, "First?", str)
            nursery.start_soon(ctx.elicit, "Second?", str)
        left = ctx.deadline - trio.current_time()
        # A call that becomes a task to ask has no deadline any more.
        assert left in (before, math.inf) or left == pytest.approx(before, abs=1)
        await trio.sleep(after)
        return "asked"

    return server


async def answer_slowly(request: Any) -> Any:
    await trio.sleep(ANSWER_SECONDS)
    return {"value": "x"}


def timeouts_of(wire: Wire, as_task: bool) -> Any:
    """How a test calls: directly, which the modern era makes a task, or as a task from the beginning."""

    async def call(client: Any, **options: Any) -> Any:
        if not as_task:
            return (await client.call_tool("ask", **options)).data
        task = await client.call_tool("ask", task=True)
        return (await task.result(**options)).data

    return call


as_tasks = pytest.mark.parametrize("as_task", [False, True], ids=["call", "task"])


@as_tasks
async def test_the_timeouts_of_a_call_do_not_count_a_question(
    wire: Wire, as_task: bool, autojump_clock
) -> None:
    call = timeouts_of(wire, as_task)
    async with wire.open(make_server(), elicitation_handler=answer_slowly) as client:
        started = trio.current_time()
        assert await call(client, idle_timeout=5, max_timeout=20) == "asked"
        assert trio.current_time() - started >= ANSWER_SECONDS


@as_tasks
async def test_after_the_answer_the_timeouts_count_on(wire: Wire, as_task: bool, autojump_clock) -> None:
    call = timeouts_of(wire, as_task)
    async with wire.open(make_server(after=60), elicitation_handler=answer_slowly) as client:
        started = trio.current_time()
        with pytest.raises(CallTimeout, match="no progress for 5 s"):
            await call(client, idle_timeout=5, max_timeout=1000)
        assert trio.current_time() - started == pytest.approx(ANSWER_SECONDS + 5, abs=2)
        started = trio.current_time()
        with pytest.raises(CallTimeout, match="longer than 20 s"):
            await call(client, max_timeout=20)
        assert trio.current_time() - started == pytest.approx(ANSWER_SECONDS + 20, abs=2)


@as_tasks
async def test_a_client_may_count_the_time_of_questions(wire: Wire, as_task: bool, autojump_clock) -> None:
    call = timeouts_of(wire, as_task)
    settings = ClientSettings(pause_while_asking=False)
    async with wire.open(make_server(), elicitation_handler=answer_slowly, settings=settings) as client:
        started = trio.current_time()
        with pytest.raises(CallTimeout):
            await call(client, max_timeout=20)
        assert trio.current_time() - started == pytest.approx(20, abs=1)


@pytest.mark.parametrize("pauses", [True, False])
async def test_the_timeout_of_a_task_does_not_count_a_question(
    wire: Wire, pauses: bool, autojump_clock
) -> None:
    server = make_server(after=4, pauses=pauses, timeout=10)
    async with wire.open(server, elicitation_handler=answer_slowly) as client:
        task = await client.call_tool("ask", task=True)
        if pauses:
            assert (await task.result()).data == "asked"
        else:
            with pytest.raises(ToolError, match="longer than 10 s"):
                await task.result()


async def test_what_a_task_does_beside_its_questions_counts(wire: Wire, autojump_clock) -> None:
    server = make_server(after=20, timeout=10)
    async with wire.open(server, elicitation_handler=answer_slowly) as client:
        task = await client.call_tool("ask", task=True)
        with pytest.raises(ToolError, match="longer than 10 s"):
            await task.result()


async def test_a_question_stops_no_other_call(wire: Wire, autojump_clock) -> None:
    """A trio_mcp server says for which call it asks (legacy); in the modern era the call itself is asked."""
    server = make_server()

    @server.tool
    async def work() -> None:
        await trio.sleep_forever()

    async with (
        wire.open(server, elicitation_handler=answer_slowly) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.call_tool, "ask")
        started = trio.current_time()
        with pytest.raises(CallTimeout):
            await client.call_tool("work", max_timeout=20)
        assert trio.current_time() - started == pytest.approx(20, abs=1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["cancel", "timeout", "cancel task"])
async def test_cancelling_a_call_closes_its_question(wire: Wire, how: str, autojump_clock) -> None:
    """The scope of the client's handler ends, and so does the server's handler."""
    closed: list[str] = []
    asked, ended, server_ended = trio.Event(), trio.Event(), trio.Event()
    server = Server("asking")

    @server.tool(task=True)
    async def ask(ctx: Context) -> str:
        try:
            return str((await ctx.elicit("Who?", str)).data)
        finally:
            server_ended.set()

    async def answer(request: Any) -> Any:
        asked.set()
        try:
            await trio.sleep_forever()
        finally:
            closed.append("closed")
            ended.set()

    async with open_server(server) as running:
        settings = ClientSettings(pause_while_asking=False)
        async with wire.open_running(running, elicitation_handler=answer, settings=settings) as client:
            if how == "cancel task":
                task = await client.call_tool("ask", task=True)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_wait_for, task)
                    await asked.wait()
                    await task.cancel()
                    nursery.cancel_scope.cancel()
            elif how == "timeout":
                with pytest.raises(CallTimeout):
                    await client.call_tool("ask", max_timeout=20)
            else:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(client.call_tool, "ask")
                        await asked.wait()
                        scope.cancel()
            with trio.fail_after(60):
                await ended.wait()
                await server_ended.wait()
            assert asked.is_set()
            await client.ping()
    assert closed == ["closed"]


async def _wait_for(task: Any) -> None:
    with suppress(TaskCancelled):
        await task.result()


async def test_an_answer_of_another_client_closes_the_question(wire: Wire, autojump_clock) -> None:
    asked, closed = trio.Event(), trio.Event()
    server = make_server()
    results: list[Any] = []

    async def never(request: Any) -> Any:
        asked.set()
        try:
            await trio.sleep_forever()
        finally:
            closed.set()

    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with (
            wire.open_running(known, elicitation_handler=never) as slow,
            wire.open_running(known, elicitation_handler=lambda request: {"value": "x"}) as fast,
        ):
            task = await slow.call_tool("ask", task=True)

            async def wait() -> None:
                results.append((await task.result(idle_timeout=30)).data)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await asked.wait()
                results.append((await fast.await_task(task.id)).data)
                with trio.fail_after(60):
                    await closed.wait()
    assert results == ["asked", "asked"]


# The parts


async def test_questions_at_once_stop_a_scope_once(autojump_clock) -> None:
    scope, endless = trio.CancelScope(deadline=trio.current_time() + 10), trio.CancelScope()
    stopped = StoppedScopes()
    started = trio.current_time()
    with stopped.stopping([scope, endless]):
        await trio.sleep(3)
        with stopped.stopping([scope]):
            await trio.sleep(4)
            assert stopped.find_deadline(scope) - trio.current_time() == pytest.approx(10)
        assert scope.deadline == math.inf
    assert scope.deadline - started == pytest.approx(17)
    assert stopped.find_deadline(scope) == scope.deadline
    assert endless.deadline == math.inf


async def test_progress_during_a_question_counts_from_its_end(autojump_clock) -> None:
    timer = CallTimer("a call", 5, 20)
    started = trio.current_time()
    await trio.sleep(2)
    timer.pause()
    timer.pause()
    await trio.sleep(100)
    timer.resume()  # progress arrives, while the clock of the call stands at 2 s
    assert timer.find_latest() - started == pytest.approx(120)
    timer.go_on()
    assert timer.scope.deadline == math.inf
    timer.go_on()
    assert timer.scope.deadline - started == pytest.approx(2 + 100 + 5)
    timer.pause()
    timer.suspend()
    timer.go_on()
    assert timer.scope.deadline == math.inf
    timer.keep_total()
    assert timer.scope.deadline - started == pytest.approx(120)


async def test_a_question_that_says_nothing_stops_all_calls(autojump_clock) -> None:
    """A foreign server in the legacy eras does not say for which call it asks."""
    timers = [CallTimer("a call", 5, 20) for _ in range(2)]
    calls: Any = {n: PendingCall(n, None, Conflate(), timer) for n, timer in enumerate(timers)}
    calls["token"] = calls[0]  # a call that is found under its progress token as well
    calls[9] = PendingCall(9, None, Conflate())
    pauses = CallPauses(calls)
    with pauses.pausing(None, None):
        assert [timer.scope.deadline for timer in timers] == [math.inf] * 2
    with pauses.pausing(1, None):
        assert [timer.scope.deadline == math.inf for timer in timers] == [False, True]
    with pauses.pausing(77, None):
        assert [timer.scope.deadline == math.inf for timer in timers] == [False, False]


async def test_of_two_questions_of_one_task_the_later_may_end_first(autojump_clock) -> None:
    first, second = CallTimer("a call", 5, 20), CallTimer("another", 5, 20)
    pauses = CallPauses({})
    with ExitStack() as waits, ExitStack() as earlier:
        waits.enter_context(pauses.waiting("task", first))
        earlier.enter_context(pauses.pausing(None, "task"))
        with pauses.pausing(None, "task"):
            pass
        waits.enter_context(pauses.waiting("task", second))
        assert second.scope.deadline == math.inf, "the earlier question is still open"
        earlier.close()
        assert max(first.scope.deadline, second.scope.deadline) < math.inf


async def test_who_waits_for_a_task_stands_still_with_its_open_questions(autojump_clock) -> None:
    timer = CallTimer("a call", 5, 20)
    pauses = CallPauses({})
    with pauses.pausing(None, "task"):
        with pauses.waiting("task", timer), pauses.waiting("task", None):
            assert timer.scope.deadline == math.inf
        assert timer.scope.deadline < math.inf
    with pauses.waiting("task", timer):
        with pauses.pausing(None, "other"):
            assert timer.scope.deadline < math.inf
        with pauses.pausing(None, "task"):
            assert timer.scope.deadline == math.inf
        assert timer.scope.deadline < math.inf
