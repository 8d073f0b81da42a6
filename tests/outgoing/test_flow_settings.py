"""How progress flows: policies of server, tool and session, and the least time between notifications."""

from __future__ import annotations

import itertools
import math
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import LEGACY, MODERN, Wire
from tests.progress.test_progress import PROGRESS
from trio_mcp import (
    ClientSettings,
    Conflate,
    Context,
    Implementation,
    Lossless,
    ProgressCall,
    Server,
    ServerSettings,
    ToolDefinitionError,
    ToolError,
    open_client,
    open_server,
)

MEMORY = Wire("memory", MODERN)


def paced(interval: float, **settings: Any) -> Server:
    return Server("flow", settings=ServerSettings(progress=Conflate(min_interval=interval), **settings))


async def timed(wire: Wire, server: Server, name: str = "tool") -> list[tuple[float, Any]]:
    """When each update reached the handler, in seconds from the call, and its progress."""
    seen: list[tuple[float, Any]] = []
    async with wire.open(server) as client:
        started = trio.current_time()
        await client.call_tool(
            name,
            progress_handler=lambda progress, *_: seen.append(
                (round(trio.current_time() - started, 3), progress)
            ),
        )
        seen.append((round(trio.current_time() - started, 3), "answer"))
    return seen


async def test_updates_keep_the_interval(wire, autojump_clock):
    """First at once, then the newest at each due time, the last before the answer."""
    server = paced(1)

    @server.tool
    async def tool(ctx: Context) -> None:
        for step in range(1, 11):
            await ctx.report_progress(step, 10)
            await trio.sleep(0.35)

    assert await timed(wire, server) == [
        (0, 1),
        (1, 3),
        (2, 6),
        (3, 9),
        (3.5, 10),  # the answer comes, and the last update is not late for it
        (3.5, "answer"),
    ]


async def test_a_lone_update_is_not_late_for_ever(wire, autojump_clock):
    """Nothing is reported any more, yet what was held back leaves at the end of the interval."""
    server = paced(2)

    @server.tool
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(1)
        await trio.sleep(0.5)
        await ctx.report_progress(2)
        await trio.sleep(100)
        await ctx.report_progress(3)
        await trio.sleep(10)

    assert await timed(wire, server) == [(0, 1), (2, 2), (100.5, 3), (110.5, "answer")]


async def test_a_burst_is_its_first_and_its_last(wire, autojump_clock):
    server = paced(5)

    @server.tool
    async def tool(ctx: Context) -> None:
        for step in range(1, 5001):
            await ctx.report_progress(step)

    assert [progress for _, progress in await timed(wire, server)] == [1, 5000, "answer"]


async def test_log_messages_do_not_wait(wire, autojump_clock):
    server = paced(5)

    @server.tool
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(1)
        await trio.sleep(1)
        await ctx.report_progress(2)
        await ctx.info("news")
        await trio.sleep(1)
        await ctx.report_progress(3)
        await trio.sleep(10)

    seen: list[Any] = []

    def note(what: Any) -> None:
        seen.append((round(trio.current_time() - started), what))

    async with wire.open(server, log_handler=lambda message: note(message.data)) as client:
        started = trio.current_time()
        await client.call_tool("tool", progress_handler=lambda progress, *_: note(progress))
    assert seen == [(0, 1), (1, "news"), (5, 3)]


async def test_calls_are_paced_apart(autojump_clock):
    server = paced(1)

    @server.tool
    async def tool(ctx: Context, delay: float) -> None:
        await trio.sleep(delay)
        for step in range(6):
            await ctx.report_progress(step)
            await trio.sleep(0.35)

    times: dict[float, list[float]] = {0: [], 0.5: []}
    async with open_client(server) as client, trio.open_nursery() as nursery:
        for delay, seen in times.items():

            async def call(delay: float = delay, seen: list[float] = seen) -> None:
                await client.call_tool(
                    "tool",
                    {"delay": delay},
                    progress_handler=lambda *_: seen.append(round(trio.current_time(), 3)),
                )

            nursery.start_soon(call)
    for delay, seen in times.items():
        first = seen[0]
        assert [round(time - first, 3) for time in seen] == [0, 1, 2], delay


async def test_a_cancelled_call_leaves_no_timer(autojump_clock):
    server = paced(1)

    @server.tool
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(1)
        await ctx.report_progress(2)
        await trio.sleep_forever()

    seen: list[Any] = []

    async def call() -> None:
        await client.call_tool("tool", progress_handler=lambda progress, *_: seen.append(progress))

    async with open_client(server) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()  # a deadline would travel, and be answered
        await trio.sleep(5)
        await client.ping()
    assert seen == [1]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_background_task_is_paced_on_its_token(protocol, autojump_clock):
    """2025-11-25 keeps the token alive; what was held back goes on with it."""
    server = paced(1)

    @server.tool(task=True)
    async def tool(ctx: Context) -> str:
        for step in range(1, 10):
            await ctx.report_progress(step, 9)
            await trio.sleep(0.3)
        return "done"

    seen: list[Any] = []
    async with open_client(server, protocol=protocol) as client:
        task = await client.call_tool(
            "tool", task=True, progress_handler=lambda progress, *_: seen.append(progress)
        )
        assert (await task.result()).data == "done"
    assert seen[0] == 1
    assert seen[-1] == 9
    assert all(a < b for a, b in itertools.pairwise(seen))
    if protocol == LEGACY:
        assert seen == [1, 4, 7, 9]


async def test_merged_messages_keep_the_interval_too(autojump_clock):
    server = Server("flow", settings=ServerSettings(progress=Conflate(message="merge", min_interval=1)))

    @server.tool
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(1, message="one")
        await ctx.report_progress(1, message="still one")
        await trio.sleep(3)
        await ctx.report_progress(2, message="two")
        await ctx.report_progress(2, message="the end")

    seen: list[Any] = []
    async with open_client(server) as client:
        await client.call_tool("tool", progress_handler=lambda *update: seen.append(update))
    assert seen == [(1, None, "one"), (2, None, "the end")]


@attrs.frozen
class Step:
    progress: int
    pause: float


@given(
    steps=st.lists(
        st.builds(Step, st.integers(0, 50), st.sampled_from([0, 0.1, 0.25, 1, 3])), min_size=1, max_size=40
    ),
    interval=st.sampled_from([0.2, 1, 2]),
    message=st.sampled_from(["nudge", "merge"]),
)
def test_random_reports(steps: list[Step], interval: float, message: Any) -> None:
    """Whatever is reported when: the ends arrive, values rise, notifications keep their distance."""
    server = Server(
        "flow", settings=ServerSettings(progress=Conflate(message=message, min_interval=interval))
    )

    @server.tool
    async def tool(ctx: Context) -> None:
        for number, step in enumerate(steps):
            await ctx.report_progress(step.progress, message=str(number))
            await trio.sleep(step.pause)

    seen: list[Any] = []
    recorder = MEMORY.recorder(server)

    async def main() -> None:
        async with open_client(recorder) as client:
            await client.call_tool("tool", progress_handler=lambda *update: note(*update))
            seen.append((trio.current_time(), None, None))

    def note(progress: float, total: float | None, text: str | None) -> None:
        seen.append((trio.current_time(), progress, text))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    *updates, (ended, _, _) = seen
    values = [progress for _, progress, _ in updates]
    assert values[0] == steps[0].progress
    assert values[-1] == max(step.progress for step in steps)
    assert updates[-1][2] == str(len(steps) - 1), "the last report arrives"
    sent = [params["params"]["progress"] for params in recorder.received_messages(PROGRESS)]
    assert all(a < b for a, b in itertools.pairwise(sent)), "MCP progress, MUST increase"
    for (before, _, _), (after, _, _) in itertools.pairwise(updates):
        assert after - before >= interval - 1e-9 or after == ended, "only the last may come early"


async def test_a_tool_has_a_policy_of_its_own(wire):
    """Lossless on a server that conflates: the buffer of two makes the handler wait, not the wire drop."""
    server = Server("flow", settings=ServerSettings(progress=Conflate(buffer=2)))

    async def count(ctx: Context) -> None:
        for step in range(1, 201):
            await ctx.report_progress(step)

    server.add_tool(count, name="every", progress=Lossless(buffer=2))
    server.add_tool(count, name="newest")
    async with wire.open(server) as client:
        seen: dict[str, list[Any]] = {"every": [], "newest": []}
        for name, values in seen.items():
            await client.call_tool(
                name, progress_handler=lambda progress, *_, values=values: values.append(progress)
            )
    assert seen["every"] == list(range(1, 201))
    assert (seen["newest"][0], seen["newest"][-1]) == (1, 200)


async def test_the_message_policy_of_a_tool(wire):
    server = Server("flow")

    @server.tool(progress=Conflate(message="merge"))
    async def tool(ctx: Context) -> None:
        for message in ("one", "two", "three"):
            await ctx.report_progress(1, message=message)

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        await client.call_tool("tool", progress_handler=lambda *_: None)
    sent = [message["params"] for message in recorder.received_messages(PROGRESS)]
    assert [params["message"] for params in sent] == ["one", "three"]


def test_another_value_than_a_policy_is_refused():
    server = Server("flow")
    with pytest.raises(ToolDefinitionError, match="tool 'tool': progress must be a policy, not 'lossless'"):
        server.add_tool(lambda: None, name="tool", progress="lossless")  # type: ignore[arg-type]


async def test_a_policy_for_each_session(wire):
    """The function sees who calls what, and what would hold; what it returns holds for that call."""
    calls: list[ProgressCall] = []

    def choose(call: ProgressCall) -> Any:
        calls.append(call)
        if call.client_info is not None and call.client_info.name == "plain":
            return attrs.evolve(call.policy, message="merge")
        return call.policy

    server = Server("flow", settings=ServerSettings(choose_progress=choose))

    @server.tool(progress=Conflate(buffer=9))
    async def tool(ctx: Context) -> None:
        for message in ("one", "two", "three"):
            await ctx.report_progress(1, message=message)

    seen: dict[str, list[Any]] = {"plain": [], "clever": []}
    async with open_server(server) as running:
        for name, messages in seen.items():
            info = Implementation(name=name, version="1")
            async with wire.open_running(running, client_info=info) as client:
                await client.call_tool(
                    "tool", progress_handler=lambda *update, messages=messages: messages.append(update[2])
                )
    assert seen == {"plain": ["one", "three"], "clever": ["one", "two", "three"]}
    assert [call.client_info and call.client_info.name for call in calls] == ["plain", "clever"]
    assert {(call.tool, call.policy, call.principal) for call in calls} == {
        ("tool", Conflate(buffer=9), None)
    }
    assert all((call.session_state is None) == (wire.protocol == MODERN) for call in calls)


async def test_a_policy_by_principal():
    def choose(call: ProgressCall) -> Any:
        return Conflate(message="merge") if call.principal == "ada" else call.policy

    server = Server("flow", settings=ServerSettings(choose_progress=choose))

    @server.tool
    async def tool(ctx: Context) -> None:
        for message in ("one", "two"):
            await ctx.report_progress(1, message=message)
        await ctx.report_progress(2)

    async with open_server(server) as running:
        for target, expected in ((running.authenticated("ada"), 2), (running, 3)):
            seen: list[Any] = []
            async with open_client(target) as client:
                await client.call_tool(
                    "tool", progress_handler=lambda *update, seen=seen: seen.append(update)
                )
            assert len(seen) == expected


@pytest.mark.parametrize("answer", [None, "raise"])
async def test_a_choice_that_fails_fails_its_call_only(wire, answer):
    def choose(call: ProgressCall) -> Any:
        if call.tool == "good":
            return call.policy
        if answer == "raise":
            raise KeyError("no such client")
        return answer

    server = Server("flow", settings=ServerSettings(choose_progress=choose))
    server.add_tool(lambda: 1, name="bad")
    server.add_tool(lambda: 1, name="good")
    async with wire.open(server) as client:
        with pytest.raises(ToolError, match=r"^Error in tool 'bad'$"):
            await client.call_tool("bad")
        assert (await client.call_tool("good")).data == "1"


@pytest.mark.parametrize("interval", [-1, math.nan, math.inf, True, "1", None])
def test_an_interval_must_be_one(interval):
    with pytest.raises(ValueError, match="min_interval must be a finite number of at least 0"):
        Conflate(min_interval=interval)


def test_a_client_refuses_an_interval():
    with pytest.raises(ValueError, match="min_interval is for servers"):
        ClientSettings(progress=Conflate(min_interval=1))
