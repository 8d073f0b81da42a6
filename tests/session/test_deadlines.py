"""Deadlines sent with requests: the handler ends before its client gives up, and can read its deadline."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from typing import Any

import attrs
import pytest
import trio

from tests.conftest import LEGACY, MODERN, TRANSPORTS
from tests.support.raw_peer import MODERN_META, open_raw
from trio_mcp import (
    CallTimeout,
    Client,
    ClientSettings,
    Context,
    ProtocolError,
    Server,
    ServerSettings,
    TaskConfig,
    open_client,
    open_server,
)
from trio_mcp.client.timeouts import MAX_TIMEOUT_FACTOR

KEY = "io.github.trio-mcp/deadline"
MARGIN = ServerSettings().deadline_margin


@attrs.define
class Observed:
    """The times that a handler saw, in seconds since it began."""

    deadline: float | None = None
    ended: float | None = None
    sent: Any = None
    runs: int = 0


def make_server(observed: Observed, **settings: Any) -> Server:
    """A server whose tool works without end, reporting twice a second."""
    server = Server("deadlines", version="1", settings=ServerSettings(**settings))

    @server.tool
    async def work(ctx: Context, seconds: float = math.inf, reports: int = 10**6, pause: float = 0.5) -> str:
        started = trio.current_time()
        observed.runs += 1
        observed.sent = ctx.request_meta.get(KEY)
        observed.deadline = ctx.deadline - started
        try:
            for number in range(reports):
                if trio.current_time() - started >= seconds:
                    return "worked"
                await trio.sleep(pause)
                await ctx.report_progress(number)
            await trio.sleep_forever()
        finally:
            observed.ended = trio.current_time() - started
            ctx.progress().set_message("stopped")
        raise AssertionError("sleeps forever")

    return server


async def time_out(client: Client, **options: Any) -> tuple[float, CallTimeout]:
    """Return how long a call takes to time out, and its exception."""
    started = trio.current_time()
    with pytest.raises(CallTimeout) as caught:
        await client.call_tool("work", **options)
    return trio.current_time() - started, caught.value


async def test_the_handler_ends_before_the_client_gives_up(wire, autojump_clock):
    observed, seen = Observed(), []
    async with wire.open(make_server(observed)) as client:
        started = trio.current_time()
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await client.call_tool("work", progress_handler=lambda *update: seen.append(update))
        assert trio.current_time() - started == pytest.approx(5), "the caller's own deadline, to the second"
    assert observed.sent == pytest.approx(5, abs=0.1)
    assert observed.deadline == pytest.approx(5 - MARGIN, abs=0.1)
    assert observed.ended == pytest.approx(observed.deadline)
    assert seen[-1] == (8, None, "stopped"), "what it says at its end arrives: the client still listens"


async def test_the_total_timeout_is_sent(wire, autojump_clock):
    observed = Observed()
    async with wire.open(make_server(observed)) as client:
        took, error = await time_out(client, max_timeout=4)
        assert took == pytest.approx(4)
        assert str(error) == "tool 'work' took longer than 4 seconds"
        assert observed.ended == pytest.approx(4 - MARGIN, abs=0.1)
        took, error = await time_out(client, idle_timeout=1)
        assert took == pytest.approx(MAX_TIMEOUT_FACTOR), "the total that comes with an idle timeout"
        assert observed.ended == pytest.approx(MAX_TIMEOUT_FACTOR - MARGIN, abs=0.1)


async def test_the_earliest_deadline_is_sent(wire, autojump_clock):
    observed = Observed()
    async with wire.open(make_server(observed)) as client:
        with trio.move_on_after(3) as scope:
            await client.call_tool("work", max_timeout=60)
        assert scope.cancelled_caught, "a scope ends as a scope does, whatever the server has answered"
        assert observed.sent == pytest.approx(3, abs=0.1)
        with trio.move_on_after(60):
            took, _ = await time_out(client, max_timeout=2)
        assert took == pytest.approx(2)
        assert observed.sent == pytest.approx(2, abs=0.1)


async def test_progress_keeps_a_call_alive_until_it_stops_or_the_total_is_over(wire, autojump_clock):
    """The idle timeout is a second: ten seconds of reports half a second apart, then silence."""
    observed = Observed()
    async with wire.open(make_server(observed)) as client:
        talkative = {"reports": 20}
        took, error = await time_out(client, arguments=talkative, idle_timeout=1, max_timeout=60)
        assert took == pytest.approx(11, abs=0.1)
        assert str(error) == "tool 'work' made no progress for 1 second"
        for total in (4, 10.6):
            took, error = await time_out(client, arguments=talkative, idle_timeout=1, max_timeout=total)
            assert took == pytest.approx(total), "the total wins, over progress and over silence"
            assert str(error) == f"tool 'work' took longer than {total:g} seconds"
        with trio.move_on_after(3) as scope:
            await client.call_tool("work", talkative, idle_timeout=1, max_timeout=60)
        assert scope.cancelled_caught


async def test_an_idle_timeout_is_not_sent(wire, autojump_clock):
    observed = Observed()
    async with wire.open(make_server(observed)) as client:
        await time_out(client, arguments={"pause": 100}, idle_timeout=1, max_timeout=60)
        assert observed.sent == pytest.approx(60, abs=0.1)


async def test_without_a_deadline_nothing_is_sent(wire):
    observed = Observed()
    async with wire.open(make_server(observed)) as client:
        assert (await client.call_tool("work", {"seconds": 0})).data == "worked"
    assert observed.sent is None
    assert observed.deadline == math.inf


async def test_a_handler_can_finish_in_time(wire, autojump_clock):
    server = Server("partial", version="1")

    @server.tool
    async def search(ctx: Context) -> str:
        found = 0
        while trio.current_time() + 1 < ctx.deadline:
            await trio.sleep(1)
            found += 1
        return f"{found} so far"

    async with wire.open(server) as client:
        with trio.fail_after(5.5):
            assert (await client.call_tool("search")).data == "5 so far"


async def test_a_thread_is_cancelled_too(mock_clock):
    """The clock jumps only when the thread has begun: one that jumps by itself does not wait for threads."""
    server = Server("threads", version="1")
    deadlines: list[float] = []
    begun, left = trio.Event(), trio.Event()

    @server.tool
    def work(ctx: Context) -> str:
        deadlines.append(ctx.deadline)
        trio.from_thread.run_sync(begun.set)
        try:
            while True:
                trio.from_thread.run(trio.lowlevel.checkpoint)
                ctx.report_progress(1)
        except trio.Cancelled:
            token.run_sync_soon(left.set)
            raise

    token = trio.lowlevel.current_trio_token()

    async def call() -> None:
        with trio.move_on_after(0.5) as scope:
            await client.call_tool("work")
        assert scope.cancelled_caught

    async with open_client(server) as client, trio.open_nursery() as nursery:
        started = trio.current_time()
        nursery.start_soon(call)
        await begun.wait()
        mock_clock.jump(0.46)
        await left.wait()
        mock_clock.jump(0.04)
    assert deadlines == [pytest.approx(started + 0.45)]


@pytest.mark.parametrize(("margin", "left", "kept"), [(0.25, 1, 0.1), (0.25, 9, 0.25), (0, 5, 0), (2, 30, 2)])
async def test_the_margin_is_kept_before_the_deadline(margin, left, kept, autojump_clock):
    """The margin is a tenth of the time left, but no more than the setting."""
    observed = Observed()
    async with open_client(make_server(observed, deadline_margin=margin)) as client:
        with trio.move_on_after(left):
            await client.call_tool("work")
        await trio.testing.wait_all_tasks_blocked()
        assert observed.ended == pytest.approx(left - kept)


def test_a_margin_is_a_number_of_seconds():
    for bad in (-1, math.nan, True, "1"):
        with pytest.raises(ValueError, match="deadline_margin"):
            ServerSettings(deadline_margin=bad)


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_deadline_moved_during_the_call_does_not_reach_the_server(protocol, autojump_clock):
    """The server knows and applies only the first; to let progress move it, use an idle timeout."""
    observed = Observed()
    async with open_client(make_server(observed), protocol=protocol) as client:
        with trio.move_on_after(5) as scope:

            def extend(*update: Any) -> None:
                scope.deadline = trio.current_time() + 5

            with pytest.raises(CallTimeout, match="the deadline that it had at first"):
                await client.call_tool("work", progress_handler=extend)
        assert not scope.cancelled_caught
        assert trio.current_time() == pytest.approx(5)


async def test_another_error_with_the_code_of_timeouts_is_raised_at_once(wire, autojump_clock):
    """Other servers use the code for timeouts of their own."""
    server = Server("foreign", version="1")

    @server.tool
    async def work(ctx: Context) -> str:
        raise ProtocolError(-32001, "the backend took too long", {"backend": 7})

    async with wire.open(server) as client:
        started = trio.current_time()
        with pytest.raises(ProtocolError, match="the backend") as caught:
            await client.call_tool("work", max_timeout=60)
        assert caught.value.data == {"backend": 7}
        assert trio.current_time() - started < 1


# On the wire


def request(ident: int, deadline: Any, *, modern: bool = True) -> dict[str, Any]:
    meta = {**(MODERN_META if modern else {}), KEY: deadline}
    params = {"name": "work", "arguments": {"pause": 1000}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("modern", [True, False], ids=["modern", "legacy"])
async def test_a_foreign_client_gets_an_error_that_names_the_deadline(transport, modern):
    observed = Observed()
    async with open_raw(transport, make_server(observed)) as peer:
        if not modern:
            await peer.initialize(LEGACY)
        answer = await peer.ask(request(1, 0.01, modern=modern))
    assert answer["id"] == 1
    assert answer["error"] == {
        "code": -32001,
        "message": "the deadline of the request has passed",
        "data": {KEY: True},
    }
    assert observed.ended == pytest.approx(0.009, abs=0.2)


@pytest.mark.parametrize("modern", [True, False], ids=["modern", "legacy"])
@pytest.mark.parametrize("bad", [0, -1, -0.5, "5", True, False, [5], {}], ids=repr)
async def test_a_malformed_deadline_is_refused(bad, modern):
    observed = Observed()
    async with open_raw("memory", make_server(observed)) as peer:
        if not modern:
            await peer.initialize(LEGACY)
        answer = await peer.ask(request(1, bad, modern=modern))
        assert answer["error"]["code"] == -32602
        assert answer["error"]["message"] == f"_meta {KEY!r} must be a number of seconds larger than 0"
        assert observed.runs == 0


@pytest.mark.parametrize("modern", [True, False], ids=["modern", "legacy"])
async def test_a_deadline_of_null_is_none(modern):
    server = Server("unhurried", version="1")

    @server.tool
    async def work(ctx: Context, pause: int) -> str:
        return str(ctx.deadline)

    async with open_raw("memory", server) as peer:
        if not modern:
            await peer.initialize(LEGACY)
        answer = await peer.ask(request(1, None, modern=modern))
        assert answer["result"]["content"][0]["text"] == "inf"


@pytest.mark.parametrize("far", [1e300, 10**40])
async def test_a_deadline_beyond_all_times_is_accepted(far):
    """The handler runs, and the request is cancelled like any other."""
    started = trio.Event()
    server = Server("far", version="1")

    @server.tool
    async def work(ctx: Context, pause: int) -> str:
        assert trio.current_time() < ctx.deadline < math.inf
        started.set()
        return "worked"

    async with open_raw("memory", server) as peer:
        assert (await peer.ask(request(1, far)))["result"]["content"][0]["text"] == "worked"
    assert started.is_set()


# Through more than one call


async def test_a_deadline_applies_to_the_calls_that_a_handler_makes(wire, autojump_clock):
    """Each server keeps its own margin, and each gets its response in time."""
    inner, answered = Observed(), []
    async with AsyncExitStack() as stack:
        below = await stack.enter_async_context(wire.open(make_server(inner)))
        server = Server("outer", version="1")

        @server.tool
        async def relay(ctx: Context) -> str:
            try:
                await below.call_tool("work")
            finally:
                answered.append(trio.current_time())
            return "relayed"

        client = await stack.enter_async_context(wire.open(server))
        started = trio.current_time()
        with trio.move_on_after(5):
            await client.call_tool("relay")
        assert trio.current_time() - started == pytest.approx(5)
        assert answered[0] - started == pytest.approx(5 - MARGIN, abs=0.1)
        assert inner.ended == pytest.approx(5 - 2 * MARGIN, abs=0.1)


@pytest.mark.parametrize("pauses", [True, False])
async def test_each_round_of_a_call_has_the_time_left(wire, autojump_clock, pauses):
    """The time that a person took for an answer does not count, unless a setting says so."""
    seen: list[float] = []
    server = Server("rounds", version="1", settings=ServerSettings(pause_while_asking=pauses))

    @attrs.define
    class Name:
        name: str

    async def gather(ctx: Context, arguments: dict[str, Any]) -> Any:
        seen.append(ctx.deadline - trio.current_time())
        return (await ctx.elicit("Who?", Name, key="who")).data

    @server.tool(task=TaskConfig(gather=gather))
    async def greet(ctx: Context) -> str:
        seen.append(ctx.deadline - trio.current_time())
        return str(ctx.gathered.name)

    async def answer(asked: Any) -> Any:
        await trio.sleep(7)
        return {"name": "x"}

    settings = ClientSettings(pause_while_asking=pauses)
    async with wire.open(server, elicitation_handler=answer, settings=settings) as client:
        assert (await client.call_tool("greet", max_timeout=20)).data == "x"
    assert seen[0] == pytest.approx(20 - MARGIN, abs=0.1)
    assert seen[-1] == pytest.approx((20 if pauses else 13) - MARGIN, abs=0.1)
    assert len(seen) == (3 if wire.protocol == MODERN else 2)


# Background tasks


def task_server(seen: list[float], config: TaskConfig) -> Server:
    server = Server("tasks", version="1")

    @server.tool(task=config)
    async def work(ctx: Context) -> str:
        for _ in range(6):
            seen.append(ctx.deadline - trio.current_time())
            await trio.sleep(2)
        return "worked"

    return server


async def test_the_deadline_of_a_call_does_not_apply_to_its_task(wire, autojump_clock):
    seen: list[float] = []
    async with wire.open(task_server(seen, TaskConfig())) as client:
        with trio.fail_after(5):
            task = await client.call_tool("work", task=True)
        assert (await task.result()).data == "worked"
    assert seen == [math.inf] * 6


async def test_a_task_has_the_deadline_of_its_own_timeout(wire, autojump_clock):
    seen: list[float] = []
    async with wire.open(task_server(seen, TaskConfig(timeout=60))) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == "worked"
    assert seen == [pytest.approx(60 - 2 * step, abs=0.1) for step in range(6)]


async def test_a_deadline_applies_until_a_call_becomes_a_task(autojump_clock):
    seen: list[float] = []
    server = task_server(seen, TaskConfig(promote_after=3))
    async with open_server(server) as running, open_client(running) as client:
        with trio.move_on_after(2.5) as scope:
            await client.call_tool("work")
        assert scope.cancelled_caught
        assert seen == [pytest.approx(2.25), pytest.approx(0.25)], "it ended as an ordinary call does"
        seen.clear()
        with trio.move_on_after(60):
            assert (await client.call_tool("work")).data == "worked"
        assert seen == [pytest.approx(59.75), pytest.approx(57.75), *[math.inf] * 4]


async def test_a_task_that_its_call_did_not_ask_for_ends_with_the_call(wire, autojump_clock):
    seen: list[float] = []
    server = task_server(seen, TaskConfig(mode="required"))
    async with open_server(server) as running, wire.open_running(running) as client:
        with trio.move_on_after(5) as scope:
            await client.call_tool("work")
        assert scope.cancelled_caught
        await client.ping()
        assert len(seen) == 3
        await trio.sleep(10)
        assert len(seen) == 3, "cancelled by the client, which waited for it"
