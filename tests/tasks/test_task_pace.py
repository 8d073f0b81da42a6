"""The least time between two notifications of a task of the extension (`Conflate.min_interval`)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import MODERN, TRANSPORTS, Wire
from tests.support.raw_peer import RawPeer
from tests.tasks.task_server import Name
from tests.tasks.test_history import HISTORY, META, Listener, open_listener, open_raw_peer
from tests.tasks.test_joined import PROGRESS, REPORTS
from trio_mcp import (
    Conflate,
    Context,
    Progress,
    ProgressCall,
    Server,
    ServerSettings,
    StageState,
    TaskConfig,
    detailed,
    open_client,
    open_server,
)
from trio_mcp.wire.codec import encode_messages

AT_ONCE = TaskConfig(promote_after=0)

CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
ASKABLE = {**META, CAPABILITIES: {**META[CAPABILITIES], "elicitation": {"form": {}}}}


def paced(interval: float) -> Server:
    return Server("paced", version="1", settings=ServerSettings(progress=Conflate(min_interval=interval)))


def with_steps(server: Server, config: TaskConfig = AT_ONCE, **options: Any) -> Server:
    """The same with a tool that reports ten times, every 0.35 seconds."""

    @server.tool(task=config, **options)
    async def tool(ctx: Context) -> None:
        for step in range(1, 11):
            await ctx.report_progress(step, 10)
            await trio.sleep(0.35)

    return server


PACED = [(0, 1), (1, 3), (2, 6), (3, 9), (3.5, 10)]
"""What is seen of these steps at an interval of a second: the last comes with the end."""


async def timed(wire: Wire, server: Server) -> list[tuple[float, Any]]:
    """When each update of a call of `tool` reached the handler, and its progress."""
    seen: list[tuple[float, Any]] = []
    async with wire.open(server) as client:
        started = trio.current_time()
        await client.call_tool(
            "tool",
            progress_handler=lambda progress, *_: seen.append(
                (round(trio.current_time() - started, 2), progress)
            ),
        )
    return seen


@attrs.define
class Subscriber:
    """A raw peer that notes when which status and progress of a task was told."""

    peer: RawPeer
    told: list[tuple[float, str, Any]] = attrs.field(factory=list)
    joined: list[list[Any]] = attrs.field(factory=list)
    """With each of them, the reports beside it."""

    async def run(self) -> None:
        while True:
            for data in encode_messages(await self.peer._transport.receive_frames()):  # type: ignore[arg-type]
                self._note(msgspec.json.decode(data))

    def _note(self, message: Any) -> None:
        if message.get("method") == "notifications/tasks":
            task = message["params"]
            progress = task.get("_meta", {}).get(PROGRESS, {}).get("current")
            self.told.append((round(trio.current_time(), 2), task["status"], progress))
            self.joined.append([report[1] for report in task["_meta"].get(REPORTS, [])])

    async def send(self, method: str, **params: Any) -> None:
        meta = {**ASKABLE, **params.pop("meta", {})}
        await self.peer.send(
            {"jsonrpc": "2.0", "id": method, "method": method, "params": {**params, "_meta": meta}}
        )

    async def listen(self, task_id: str, **wishes: Any) -> None:
        meta = {f"io.github.trio-mcp/{name}": wish for name, wish in wishes.items()}
        await self.send("subscriptions/listen", notifications={"taskIds": [task_id]}, meta=meta)


@asynccontextmanager
async def open_subscriber(server: Server, tool: str = "tool") -> AsyncIterator[tuple[Subscriber, str]]:
    """A subscriber of `tool`, which it has started, and the task's id."""
    async with open_server(server) as running, open_raw_peer(running) as peer:
        subscriber = Subscriber(peer)
        await subscriber.send("tools/call", name=tool)
        task_id = (await peer.receive())["result"]["taskId"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscriber.run)
            yield subscriber, task_id
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_updates_of_a_task_keep_the_interval(transport, autojump_clock):
    """As those of a call do: first at once, then the newest at each due time, the last with the end."""
    assert await timed(Wire(transport, MODERN), with_steps(paced(1))) == PACED


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_promoted_call_keeps_the_interval(transport, autojump_clock):
    """The last update by the token comes before its answer; the interval counts from the state then."""
    server = with_steps(paced(1), TaskConfig(promote_after=0.5))
    assert await timed(Wire(transport, MODERN), server) == [(0, 1), (0.5, 2), (1.5, 5), (2.5, 8), (3.5, 10)]


@pytest.mark.parametrize("choice", ["tool", "call", "other"])
async def test_the_policy_is_that_of_the_call(choice, autojump_clock):
    """However it was chosen; a server without an interval tells each step."""
    policy = Conflate(min_interval=1)

    def choose(call: ProgressCall) -> Any:
        return policy if call.tool == "tool" else call.policy

    settings = ServerSettings(choose_progress=choose) if choice == "call" else ServerSettings()
    server = Server("paced", version="1", settings=settings)
    with_steps(server, **({"progress": policy} if choice == "tool" else {}))
    steps = [(round((step - 1) * 0.35, 2), step) for step in range(1, 11)]
    assert await timed(Wire("memory", MODERN), server) == (steps if choice == "other" else PACED)


async def test_a_lone_update_is_not_late_for_ever(autojump_clock):
    server = paced(2)

    @server.tool(task=AT_ONCE)
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(1)
        await trio.sleep(0.5)
        await ctx.report_progress(2)
        await trio.sleep(5)
        await ctx.report_progress(3)
        await trio.sleep(5)

    async with open_subscriber(server) as (subscriber, task_id):
        await subscriber.listen(task_id)
        await trio.sleep(20)
    assert subscriber.told[-4:] == [
        (0, "working", 1),
        (2, "working", 2),
        (5.5, "working", 3),
        (10.5, "completed", 3),
    ]


@pytest.mark.parametrize("joins", [None, "newest", "all"])
async def test_a_burst_is_its_first_and_its_last(joins, autojump_clock):
    server = paced(5)
    go_on = trio.Event()

    @server.tool(task=AT_ONCE)
    async def tool(ctx: Context) -> None:
        await go_on.wait()
        for step in range(1, 2001):
            await ctx.report_progress(step)
        await trio.sleep(8)

    async with open_subscriber(server) as (subscriber, task_id):
        await subscriber.listen(task_id, reports=joins)
        await trio.sleep(1)
        go_on.set()
        await trio.sleep(20)
    assert subscriber.told == [
        (0, "working", None),
        (1, "working", 1),
        (6, "working", 2000),
        (9, "completed", 2000),
    ]


@pytest.mark.parametrize("joins", [None, "newest", "all"])
async def test_a_status_never_waits_and_takes_the_last_report_with_it(joins, autojump_clock):
    server = paced(5)

    @server.tool(task=AT_ONCE)
    async def tool(ctx: Context) -> None:
        await trio.sleep(1)
        for step in (1, 2, 3):
            await ctx.report_progress(step)
            await trio.sleep(0.1)
        await ctx.elicit("Who?", Name)
        await ctx.report_progress(4)
        await trio.sleep(1)
        await ctx.report_progress(5)
        await trio.sleep(0.5)

    async with open_subscriber(server) as (subscriber, task_id):
        await subscriber.listen(task_id, reports=joins)
        await trio.sleep(3)
        answers = {"input-1": {"action": "accept", "content": {"name": "x"}}}
        await subscriber.send("tasks/update", taskId=task_id, inputResponses=answers)
        await trio.sleep(20)
    assert subscriber.told[:4] == [
        (0, "working", None),
        (1, "working", 1),
        (1.3, "working", 3),  # early, before the status
        (1.3, "input_required", 3),
    ]
    # What is reported behind a status waits for its turn, or for the end.
    assert subscriber.told[4:] in (
        [(3, "working", 3), (4.5, "working", 5), (4.5, "completed", 5)],
        [(3, "working", 3), (4.5, "completed", 5)],
    )
    assert len(subscriber.told[4:]) == (2 if joins == "all" else 3)


async def test_each_follower_is_paced_by_itself(autojump_clock):
    """One that comes later begins with the state now, at once."""
    seen: dict[float, list[tuple[float, Any]]] = {0: [], 0.5: []}
    async with open_server(with_steps(paced(1))) as running, trio.open_nursery() as nursery:

        async def follow(delay: float, task_id: str) -> None:
            async with open_client(running, protocol=MODERN) as client:
                await trio.sleep(delay)
                async with client.watch_task(task_id) as snapshots:
                    async for snapshot in snapshots:
                        seen[delay].append((round(trio.current_time(), 2), snapshot.current))

        async with open_client(running, protocol=MODERN) as client:
            task = await client.call_tool("tool", task=True)
            assert task.id is not None
            for delay in seen:
                nursery.start_soon(follow, delay, task.id)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
    first, second = ([update for update in updates if update[1] is not None] for updates in seen.values())
    assert first[:4] == PACED[:4]
    assert second[:4] == [(0.5, 2), (1.5, 5), (2.5, 8), (3.5, 10)]


async def test_the_history_leaves_at_once_and_counts_as_the_first(autojump_clock):
    async with open_subscriber(with_steps(paced(1))) as (subscriber, task_id):
        await trio.sleep(1.2)
        await subscriber.listen(task_id, history=True)
        await trio.sleep(10)
    assert subscriber.told == [
        *[(1.2, "working", step) for step in (1, 2, 3, 4, 4)],
        (2.2, "working", 7),
        (3.2, "working", 10),
        (3.5, "completed", 10),
    ]


async def test_the_stages_come_with_the_report_that_was_held(autojump_clock):
    server = paced(1)

    @server.tool(task=AT_ONCE)
    async def tool(ctx: Context) -> None:
        async with ctx.progress().stage("a", weight=8, total=8) as stage:
            for _ in range(8):
                stage.increment()
                await trio.sleep(0.4)

    seen: list[Progress] = []
    async with open_client(server, protocol=MODERN) as client:
        await client.call_tool("tool", progress_handler=detailed(seen.append))
    assert [(update.progress, update.stages) for update in seen[-4:]] == [
        (3, (StageState(("a",), 3, 8),)),
        (6, (StageState(("a",), 6, 8),)),
        (8, (StageState(("a",), 8, 8),)),
        (8, ()),
    ]


@pytest.mark.parametrize("end", ["leave", "break"])
async def test_a_report_that_was_held_when_its_follower_left_is_for_the_next(end, autojump_clock):
    server = paced(5)
    go_on = trio.Event()

    @server.tool(task=AT_ONCE)
    async def tool(ctx: Context) -> None:
        await go_on.wait()
        for step in (1, 2, 3):
            await ctx.report_progress(step)
            await trio.sleep(0.1)
        await trio.sleep(20)

    async with open_server(server) as running:
        async with open_raw_peer(running) as peer, trio.open_nursery() as nursery:
            task_id = await Listener(peer).start("tool")
            subscriber = Subscriber(peer)
            nursery.start_soon(subscriber.run)
            await subscriber.listen(task_id, history=True)
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
            await trio.sleep(1)
            assert subscriber.told == [(0, "working", None), (0, "working", 1)]
            if end == "leave":
                params = {"requestId": "subscriptions/listen", "_meta": META}
                await peer.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
                await trio.sleep(10)
                assert len(subscriber.told) == 2, "nothing is left that would wake"
            nursery.cancel_scope.cancel()
        await trio.sleep(1)
        async with open_listener(running) as listener:
            assert (await listener.listen(task_id))[HISTORY] is True
            assert [current for _, current, _ in await listener.told()] == [3, 3]


@attrs.frozen
class Step:
    progress: int
    pause: float
    asks: bool


@given(
    steps=st.lists(
        st.builds(
            Step,
            st.integers(0, 50),
            st.sampled_from([0, 0.1, 0.25, 1, 3]),
            st.sampled_from([False, False, False, True]),
        ),
        min_size=1,
        max_size=30,
    ),
    interval=st.sampled_from([0.2, 1, 2]),
    joins=st.sampled_from([None, "newest", "all"]),
)
def test_random_reports(steps: list[Step], interval: float, joins: str | None) -> None:
    """Whatever is reported when: progress alone keeps its distance, no status is late, nothing goes back."""
    server = paced(interval)
    changed: list[float] = []

    @server.tool(task=AT_ONCE)
    async def tool(ctx: Context) -> None:
        await trio.sleep(1)
        for step in steps:
            await ctx.report_progress(step.progress)
            await trio.sleep(step.pause)
            if step.asks:
                changed.append(round(trio.current_time(), 2))
                await ctx.elicit("Who?", Name)
        changed.append(round(trio.current_time(), 2))

    subscribers: list[Subscriber] = []

    async def main() -> None:
        async with open_subscriber(server) as (subscriber, task_id):
            subscribers.append(subscriber)
            await subscriber.listen(task_id, reports=joins)
            asked = 0
            while subscriber.told[-1:] == [] or subscriber.told[-1][1] != "completed":
                await trio.sleep(0.5)
                if subscriber.told[-1][1] == "input_required":
                    asked += 1
                    answers = {f"input-{asked}": {"action": "accept", "content": {"name": "x"}}}
                    await subscriber.send("tasks/update", taskId=task_id, inputResponses=answers)
                    await trio.testing.wait_all_tasks_blocked()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    told = subscribers[0].told
    values = [progress for _, _, progress in told if progress is not None]
    assert values == sorted(values)
    assert values[-1] == max(step.progress for step in steps)
    ends = [time for time, status, _ in told if status in ("input_required", "completed")]
    assert ends == changed
    for before, (time, status, _) in itertools.pairwise(told):
        if status == "working" and before[2] is not None and time not in ends and before[1] == "working":
            assert time - before[0] > interval - 0.02
