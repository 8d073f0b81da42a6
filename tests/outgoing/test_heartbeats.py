"""Signs of life of silent handlers: when they come, what they say, and what they leave alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.progress.test_progress import PROGRESS
from trio_mcp import (
    ClientSettings,
    Conflate,
    Context,
    Heartbeat,
    Lossless,
    ProgressCall,
    Server,
    ServerSettings,
    TaskConfig,
    ToolDefinitionError,
    open_client,
    open_server,
)
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.heartbeats import BEATS_PER_TURN, Heartbeats, describe_elapsed
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.report import Report
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.server.progress_choice import ProgressChoice
from trio_mcp.wire.frames import OutFrame, ProgressRun, Response

Seen = list[tuple[float, float, float | None, str | None]]


def beating(every: float = 15, **settings: Any) -> Server:
    return Server("beating", settings=ServerSettings(progress=Heartbeat(every=every), **settings))


class Timed:
    """A progress handler that notes the time of each update, in seconds since it was made."""

    def __init__(self) -> None:
        self.started = trio.current_time()
        self.seen: Seen = []

    def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.seen.append((round(trio.current_time() - self.started, 3), progress, total, message))


async def test_a_silent_handler_shows_life(wire, autojump_clock):
    """The client sees the handler's own values again, and how long the call has taken."""
    server = beating()

    @server.tool
    async def tool(ctx: Context) -> str:
        await trio.sleep(16)
        await ctx.report_progress(3, 9, "copying")
        await trio.sleep(31)
        await ctx.report_progress(4, 9)
        await trio.sleep(14)
        return "done"

    async with wire.open(server) as client:
        timed = Timed()
        result = await client.call_tool("tool", progress_handler=timed)
    assert result.data == "done"
    assert timed.seen == [
        (15, 0, None, "running for 15 s"),
        (16, 3, 9, "copying"),
        (31, 3, 9, "copying (31 s)"),
        (46, 3, 9, "copying (46 s)"),
        (47, 4, 9, None),
    ]


async def test_progress_strictly_increases_over_heartbeats(wire, autojump_clock):
    """A sign of life is a little larger than what was sent, and never as large as the next number."""
    server = beating(every=1)

    @server.tool
    async def tool(ctx: Context) -> None:
        for step in (0, 1, 2, 2.5, 3):
            await ctx.report_progress(step, 3)
            await trio.sleep(4.5)

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        await client.call_tool("tool", progress_handler=lambda *_: None)
    sent = [message["params"] for message in recorder.received_messages(PROGRESS)]
    values = [params["progress"] for params in sent]
    assert len(values) == 25
    assert all(a < b for a, b in itertools.pairwise(values)), "MCP progress, MUST increase"
    reported = [params["progress"] for params in sent if "message" not in params]
    assert reported == [0, 1, 2, 2.5, 3], "each report arrives with its own number"
    assert values[-1] < 3.0001, "a total that was reached is passed by next to nothing"


async def test_nothing_is_sent_without_a_token(wire, autojump_clock):
    server = beating(every=1)

    @server.tool
    async def tool() -> None:
        await trio.sleep(60)

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        await client.call_tool("tool")
    assert recorder.received_messages(PROGRESS) == []


async def test_a_call_that_ends_in_time_sends_nothing_and_starts_no_wait(autojump_clock):
    server = beating(every=5)

    @server.tool
    async def tool() -> None:
        await trio.sleep(4)

    async with open_server(server) as running, open_client(running) as client:
        timed = Timed()
        for _ in range(2):
            await client.call_tool("tool", progress_handler=timed)
        waits = [task for task in running.nursery.child_tasks if "Heartbeats" in task.name]
        assert timed.seen == []
        assert len(waits) == 1, "one task waits for all calls"
        await trio.sleep(10)
        assert not running.nursery.child_tasks, "and ends when no call is left"
        await client.call_tool("tool", progress_handler=timed)
    assert timed.seen == []


async def test_heartbeats_are_off_unless_they_are_set(wire, autojump_clock):
    server = Server("plain")

    @server.tool
    async def tool() -> None:
        await trio.sleep(1000)

    async with wire.open(server) as client:
        timed = Timed()
        await client.call_tool("tool", progress_handler=timed)
    assert timed.seen == []


async def test_a_sync_tool_shows_life_from_outside_its_thread(wire):
    """The wait is in the server, so a tool that blocks its thread needs no help."""
    server = beating(every=0.01)

    @server.tool
    def tool(ctx: Context) -> None:
        ctx.progress().set_message("blocking")
        trio.from_thread.run(shown.wait)

    shown = trio.Event()

    def note(progress: float, total: float | None, message: str | None) -> None:
        if message is not None and message.startswith("blocking ("):
            shown.set()

    async with wire.open(server) as client:
        await client.call_tool("tool", progress_handler=note)
    assert shown.is_set()


async def test_stages_keep_their_message(wire, autojump_clock):
    server = beating()

    @server.tool
    async def tool(ctx: Context) -> None:
        progress = ctx.progress()
        async with progress.stage("export", total=2) as stage:
            stage.increment()
            stage.set_message("users")
            await trio.sleep(20)

    async with wire.open(server) as client:
        timed = Timed()
        await client.call_tool("tool", progress_handler=timed)
    (_, before, total, message), (at, value, total_then, message_then) = timed.seen[:2]
    assert (at, value, total_then) == (15, before, total)
    assert message_then == f"{message} (15 s)"


@pytest.mark.parametrize("policy", [Conflate(message="merge"), Conflate(message="nudge"), Lossless()])
async def test_with_every_policy(wire, autojump_clock, policy):
    """Also with "merge", which holds back a change of message of the handler's own."""
    server = Server("beating")

    @server.tool(progress=Heartbeat(every=2, policy=policy))
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(1, message="one")
        await trio.sleep(3)
        await ctx.report_progress(1, message="two")
        await trio.sleep(3.5)

    async with wire.open(server) as client:
        timed = Timed()
        await client.call_tool("tool", progress_handler=timed)
    messages = [message for *_, message in timed.seen]
    if policy == Conflate(message="merge"):
        assert messages == ["one", "one (2 s)", "two (4 s)", "two (6 s)", "two"]
    else:
        assert messages == ["one", "one (2 s)", "two", "two (5 s)"]


async def test_lossless_reports_are_all_delivered_between_heartbeats(wire, autojump_clock):
    server = Server("beating", settings=ServerSettings(progress=Lossless(buffer=4)))

    @server.tool(progress=Heartbeat(every=1))
    async def tool(ctx: Context) -> None:
        for step in range(1, 101):
            await ctx.report_progress(step)
            if step % 50 == 0:
                await trio.sleep(1.5)

    async with wire.open(server, settings=ClientSettings(progress=Lossless())) as client:
        timed = Timed()
        await client.call_tool("tool", progress_handler=timed)
    assert [progress for _, progress, _, message in timed.seen if message is None] == list(range(1, 101))
    assert [message for *_, message in timed.seen if message] == ["running for 1 s", "running for 2 s"]


async def test_an_interval_between_notifications_holds_for_heartbeats_too(wire, autojump_clock):
    server = Server("beating")

    @server.tool(progress=Heartbeat(every=1, policy=Conflate(min_interval=4)))
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(1)
        await trio.sleep(9)
        await ctx.report_progress(2)
        await trio.sleep(6)

    async with wire.open(server) as client:
        timed = Timed()
        await client.call_tool("tool", progress_handler=timed)
    assert [(at, progress) for at, progress, *_ in timed.seen] == [(0, 1), (4, 1), (8, 1), (12, 2)]


async def test_a_tool_or_a_call_may_have_its_own(wire, autojump_clock):
    """What `choose_progress` returns counts, else the tool's policy, else the server's."""
    asked: list[ProgressCall] = []

    def choose(call: ProgressCall) -> Any:
        asked.append(call)
        return Conflate() if call.tool == "quiet" else call.policy

    settings = ServerSettings(progress=Heartbeat(every=10, policy=Lossless()), choose_progress=choose)
    server = Server("beating", settings=settings)

    async def silent() -> None:
        await trio.sleep(25)

    server.add_tool(silent, name="usual")
    server.add_tool(silent, name="quiet")
    server.add_tool(silent, name="quick", progress=Heartbeat(every=6))
    server.add_tool(silent, name="plain", progress=Lossless())
    times: dict[str, list[float]] = {}
    async with wire.open(server) as client:
        for name in ("usual", "quiet", "quick", "plain"):
            timed = Timed()
            await client.call_tool(name, progress_handler=timed)
            times[name] = [at for at, *_ in timed.seen]
    assert times == {"usual": [10, 20], "quiet": [], "quick": [6, 12, 18, 24], "plain": []}
    policies = {call.tool: call.policy for call in asked}
    assert policies["quick"] == Heartbeat(every=6, policy=Lossless()), (
        "the server's policy fills what it lacks"
    )
    assert policies["plain"] == Lossless()


async def test_an_idle_timeout_does_not_end_a_call_that_shows_life(wire, autojump_clock):
    server = beating(every=15)

    @server.tool
    async def tool() -> str:
        await trio.sleep(2000)
        return "done"

    async with wire.open(server) as client:
        result = await client.call_tool("tool", progress_handler=lambda *_: None, idle_timeout=300)
    assert result.data == "done"


async def test_nothing_follows_a_cancelled_call(wire, autojump_clock):
    server = beating(every=5)

    @server.tool
    async def tool() -> None:
        await trio.sleep_forever()

    @server.tool
    async def other() -> None:
        await trio.sleep(60)

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        with trio.move_on_after(12):
            await client.call_tool("tool", progress_handler=lambda *_: None)
        sent = len(recorder.received_messages(PROGRESS))
        await client.call_tool("other")
        assert len(recorder.received_messages(PROGRESS)) == sent == 2


async def test_a_legacy_task_shows_life_by_the_token_of_its_call_and_its_record_does_not(autojump_clock):
    """The record says when the handler itself has reported last (`reported_at`)."""
    server = beating()

    @server.tool(task=TaskConfig(mode="required"))
    async def tool(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        await trio.sleep(40)
        return "done"

    async with open_server(server) as running, open_client(running, protocol=LEGACY) as client:
        timed = Timed()
        task = await client.call_tool("tool", task=True, progress_handler=timed)
        with trio.move_on_after(39):
            await task.result()
        record = await running.fetch_task(task.id)
        assert record.progress is not None
        assert (record.progress.message, record.progress.current) == ("half", 1)
        assert record.progress.reported_at - record.created_at < timedelta(seconds=1)
        assert (await task.result()).data == "done"
    assert [(at, message) for at, _, _, message in timed.seen] == [
        (0, "half"),
        (15, "half (15 s)"),
        (30, "half (30 s)"),
    ]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_task_that_its_client_waits_for_gives_its_result(autojump_clock, protocol):
    """A task of the extension has no token any more: its record is its sign of life."""
    server = beating(every=1)

    @server.tool(task=TaskConfig(promote_after=3))
    async def tool(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        await trio.sleep(10)
        return "done"

    async with open_client(server, protocol=protocol) as client:
        timed = Timed()
        result = await client.call_tool("tool", progress_handler=timed)
    assert result.data == "done"
    beats = [at for at, _, _, message in timed.seen if message != "half"]
    assert beats[:2] == [1, 2]
    if protocol == MODERN:
        assert all(at <= 3 for at in beats)


@attrs.frozen
class Name:
    name: str


async def test_progress_increases_over_the_rounds_of_a_call_that_asks(wire, autojump_clock):
    """In the modern era the handler is run again after the answer, and shows life in each round."""
    server = beating(every=1)

    @server.tool
    async def tool(ctx: Context) -> str:
        await ctx.report_progress(1, 3, "one")
        await trio.sleep(2.5)
        answer = await ctx.elicit("Who are you?", Name)
        await trio.sleep(2.5)
        await ctx.report_progress(2, 3, "two")
        await trio.sleep(1.5)
        return answer.action

    recorder = wire.recorder(server)
    async with wire.open(recorder, elicitation_handler=lambda request: {"name": "Trio"}) as client:
        timed = Timed()
        result = await client.call_tool("tool", progress_handler=timed)
    assert result.data == "accept"
    sent = [message["params"]["progress"] for message in recorder.received_messages(PROGRESS)]
    assert all(a < b for a, b in itertools.pairwise(sent)), "MCP progress, MUST increase"
    values = [progress for _, progress, *_ in timed.seen]
    assert values == sorted(values), "what the handler sees never goes back"
    assert values[0] == 1
    assert [message for *_, message in timed.seen if message in ("one", "two")] == ["one", "two"]
    assert len(values) >= 7


@pytest.mark.parametrize("every", [0, -1, math.inf, math.nan, "15", None, True])
def test_an_interval_is_a_finite_number_larger_than_0(every):
    with pytest.raises(ValueError, match="every must be a finite number larger than 0"):
        Heartbeat(every=every)


def test_a_heartbeat_is_no_policy_of_another_or_of_a_client():
    with pytest.raises(TypeError):
        Heartbeat(policy=Heartbeat())  # type: ignore[arg-type]  # it is wrong on purpose
    with pytest.raises(TypeError, match="progress must be Conflate or Lossless"):
        ClientSettings(progress=Heartbeat())  # type: ignore[arg-type]  # it is wrong on purpose
    with pytest.raises(TypeError):
        ServerSettings(progress=15)  # type: ignore[arg-type]  # it is wrong on purpose
    with pytest.raises(ToolDefinitionError, match="progress must be a policy"):
        Server("beating").add_tool(lambda: None, name="tool", progress=15)  # type: ignore[arg-type]  # it is wrong on purpose


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.9, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s"), (5400, "1 h 30 min")],
)
def test_the_time_reads_as_words(seconds, words):
    assert describe_elapsed(seconds) == words


class Sink:
    """A wire that takes nothing while it is `stuck`."""

    def __init__(self) -> None:
        self.frames: list[OutFrame] = []
        self.free = trio.Event()
        self.free.set()

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        await self.free.wait()
        self.frames.extend(frames)

    @property
    def messages(self) -> list[str | None]:
        return [
            update[2] for frame in self.frames if isinstance(frame, ProgressRun) for update in frame.updates
        ]


def make_call(outbox: Outbox, token: int = 1) -> tuple[CallQueue, ProgressReporter]:
    call_queue = CallQueue(outbox, token, Conflate(), lambda: None)
    return call_queue, ProgressReporter(call_queue)


async def test_a_client_that_does_not_read_has_one_heartbeat_waiting(autojump_clock):
    sink, outbox = Sink(), Outbox(8)
    sink.free = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, sink)
        call_queue, progress = make_call(outbox)
        Heartbeats(nursery).begin(call_queue, progress, 1)
        await trio.sleep(100)
        assert call_queue.frames <= 1
        call_queue.push(Report(1, None, "report"))
        await trio.sleep(100)
        sink.free.set()
        await trio.sleep(0.5)
        call_queue.finish(Response(1, b"{}"))
        nursery.cancel_scope.cancel()
    # One was on its way when the wire became stuck, the other waited behind it.
    assert sink.messages == ["running for 1 s", "running for 2 s", "report"]


async def test_many_calls_show_life_in_turns(autojump_clock):
    sink, outbox = Sink(), Outbox(8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, sink)
        heartbeats = Heartbeats(nursery)
        calls = [make_call(outbox, token) for token in range(3 * BEATS_PER_TURN)]
        for call_queue, progress in calls:
            heartbeats.begin(call_queue, progress, 1)
        await trio.sleep(2.5)
        assert len(sink.frames) == 2 * len(calls)
        for call_queue, _ in calls:
            call_queue.finish(None)
        await trio.sleep(2)
        assert len(sink.frames) == 2 * len(calls)
        assert repr(heartbeats) == "<Heartbeats of 0 calls, idle>"
        nursery.cancel_scope.cancel()


async def test_no_number_is_sent_that_reaches_the_next_integer(autojump_clock):
    """Beyond 2**53 floats are more than 1 apart, so a nudge would pass what the handler reports next."""
    sink, outbox = Sink(), Outbox(8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, sink)
        call_queue, progress = make_call(outbox)
        Heartbeats(nursery).begin(call_queue, progress, 1)
        await progress.report(2**60, None, "far")
        await trio.sleep(3.5)
        await progress.report(2**60 + 1, None, "next")
        await trio.sleep(0.5)
        call_queue.finish(None)
        nursery.cancel_scope.cancel()
    assert sink.messages == ["far", "next"]


async def test_a_server_that_ends_begins_no_heartbeat():
    async with trio.open_nursery() as nursery:
        choice = ProgressChoice(ServerSettings(progress=Heartbeat(every=1)), nursery)
        choice.close()
        call_queue, progress = make_call(Outbox(8))
        request: Any = SimpleNamespace(call_queue=call_queue, progress=progress)
        choice.settle(request, None, "tool", is_tool=True)
        assert not nursery.child_tasks
        assert call_queue.heart is None


async def test_the_wait_is_shortened_for_a_call_that_is_due_earlier(autojump_clock):
    server = Server("beating")

    async def silent() -> None:
        await trio.sleep(18)

    server.add_tool(silent, name="late", progress=Heartbeat(every=15))
    server.add_tool(silent, name="soon", progress=Heartbeat(every=4))
    async with open_client(server) as client, trio.open_nursery() as nursery:
        late, soon = Timed(), Timed()
        nursery.start_soon(lambda: client.call_tool("late", progress_handler=late))
        await trio.sleep(1)
        nursery.start_soon(lambda: client.call_tool("soon", progress_handler=soon))
    assert [at for at, *_ in late.seen] == [15]
    assert [at for at, *_ in soon.seen] == [5, 9, 13, 17]
