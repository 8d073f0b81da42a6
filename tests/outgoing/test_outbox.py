"""The call queue of a call and the single writer: caps, order, when it writes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from tests.support.limits import HANG_SECONDS
from trio_mcp import Conflate, Lossless
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.report import Report
from trio_mcp.wire.frames import Notification, OutFrame, ProgressRun, Response

ANSWER = Response(1, Raw(b"{}"))


@attrs.define
class Recorder:
    """A transport that notes each write, and may hold it back."""

    writes: list[list[OutFrame]] = attrs.field(factory=list)
    gate: trio.Event | None = None

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.writes.append(list(frames))
        await trio.lowlevel.checkpoint()

    async def receive_frames(self) -> Sequence[OutFrame]:
        raise AssertionError("the writer does not read")

    async def aclose(self) -> None:
        raise AssertionError("the writer does not close")


def make_call_queue(outbox: Outbox, policy: Any = None, answered: list[int] | None = None) -> CallQueue:
    note = [] if answered is None else answered
    return CallQueue(outbox, 1, policy or Conflate(), lambda: note.append(1))


def drained(call_queue: CallQueue) -> list[Any]:
    frames, _, empty = call_queue.drain(10_000)
    assert empty
    return [update for frame in frames if isinstance(frame, ProgressRun) for update in frame.updates]


def test_the_oldest_but_the_very_first_give_way():
    call_queue = make_call_queue(Outbox(10), Conflate(buffer=4))
    for i in range(10):
        call_queue.push(Report(i, None, None))
    assert call_queue.pending == 4
    assert [update[0] for update in drained(call_queue)] == [0, 7, 8, 9]
    for i in range(10, 20):
        call_queue.push(Report(i, None, None))
    assert [update[0] for update in drained(call_queue)] == [16, 17, 18, 19], "the first is written already"


def test_frames_are_never_dropped_for_progress():
    call_queue = make_call_queue(Outbox(10), Conflate(buffer=2))
    log = Notification("notifications/message")
    call_queue.put(log)
    for i in range(10):
        call_queue.push(Report(i, None, None))
        call_queue.put(log)
    frames, _, _ = call_queue.drain(100)
    assert sum(frame is log for frame in frames) == 11
    assert [f.updates[0][0] for f in frames if isinstance(f, ProgressRun)] == [0, 9]


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
            st.none() | st.integers(1, 3),
            st.none() | st.sampled_from("ab"),
        ),
        min_size=1,
    ),
    st.integers(2, 8),
    st.sampled_from(["nudge", "merge"]),
    st.integers(1, 5),
)
def test_whatever_is_reported_increases_on_the_wire(reports, buffer, message, drain_every):
    """Strictly increasing, and the last state arrives, whatever the cap and the policy."""
    call_queue = make_call_queue(Outbox(10), Conflate(buffer=buffer, message=message))
    sent: list[Any] = []
    current = -math.inf
    for index, (progress, total, text) in enumerate(reports):
        current = max(current, progress)
        call_queue.push(Report(current, total, text))
        assert call_queue.pending <= buffer
        if index % drain_every == 0:
            sent += drained(call_queue)
    call_queue.finish(ANSWER)
    sent += drained(call_queue)
    values = [update[0] for update in sent]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert all(math.isfinite(value) for value in values)
    progress, total, text, exact = sent[-1]
    if values[-1] < math.nextafter(math.inf, 0):
        assert (progress if exact is None else exact, total, text) == (current, *reports[-1][1:])


def test_the_answer_is_the_last_that_leaves():
    answered: list[int] = []
    call_queue = make_call_queue(Outbox(10), answered=answered)
    call_queue.push(Report(1, None, None))
    call_queue.finish(ANSWER)
    call_queue.push(Report(2, None, None))
    call_queue.put(Notification("late"))
    call_queue.finish(ANSWER)
    frames, _, empty = call_queue.drain(100)
    assert [type(frame) for frame in frames] == [ProgressRun, Response]
    assert empty
    assert answered == [1]


def test_a_withdrawn_call_sends_nothing():
    answered: list[int] = []
    call_queue = make_call_queue(Outbox(10), answered=answered)
    call_queue.push(Report(1, None, None))
    call_queue.withdraw()
    call_queue.push(Report(2, None, None))
    call_queue.finish(ANSWER)
    assert call_queue.drain(100) == ([], 0, True)
    assert answered == [1]


def test_without_a_token():
    call_queue = CallQueue(Outbox(10), UNSET, Conflate(), lambda: None)
    assert not call_queue.has_token
    assert CallQueue(Outbox(10), 0, Conflate(), lambda: None).has_token
    assert CallQueue(Outbox(10), "", Conflate(), lambda: None).has_token


@pytest.mark.parametrize("kind", [Conflate, Lossless])
@pytest.mark.parametrize("buffer", [1, 0, -1, 2.5, "9"])
def test_caps_must_make_sense(kind, buffer):
    with pytest.raises((ValueError, TypeError)):
        kind(buffer=buffer)
    with pytest.raises(ValueError, match="nudge"):
        kind(message="loud")


async def rounds_until_written(outbox: Outbox, transport: Recorder) -> int:
    for count in range(100):
        if transport.writes:
            return count
        await trio.lowlevel.checkpoint()
    raise AssertionError("never written")


async def test_an_answer_is_written_at_once_with_all_before_it(nursery):
    """Neither a lone answer nor a sequence of calls waits for company."""
    outbox, transport = Outbox(10), Recorder()
    nursery.start_soon(outbox.write, transport)
    await trio.testing.wait_all_tasks_blocked()
    call_queue = make_call_queue(outbox)
    call_queue.push(Report(1, None, None))
    call_queue.finish(ANSWER)
    assert await rounds_until_written(outbox, transport) <= 2
    assert [[type(frame) for frame in write] for write in transport.writes] == [[ProgressRun, Response]]
    outbox.close()


async def test_a_lone_update_waits_two_quiet_rounds_and_no_timer(nursery, mock_clock):
    """The clock stands still here, so a timer would wait forever."""
    outbox, transport = Outbox(10), Recorder()
    nursery.start_soon(outbox.write, transport)
    await trio.testing.wait_all_tasks_blocked()
    make_call_queue(outbox).push(Report(1, None, None))
    assert await rounds_until_written(outbox, transport) <= 5
    outbox.close()


async def test_updates_of_the_next_rounds_leave_in_the_same_write(nursery):
    outbox, transport = Outbox(10), Recorder()
    nursery.start_soon(outbox.write, transport)
    await trio.testing.wait_all_tasks_blocked()
    call_queues = [make_call_queue(outbox) for _ in range(3)]
    for i in range(5):
        for call_queue in call_queues:
            call_queue.push(Report(i, None, None))
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert len(transport.writes) == 1
    assert sum(len(frame.updates) for frame in transport.writes[0]) == 15
    outbox.close()


async def test_the_channel_holds_a_call_at_most_once(nursery):
    outbox, transport = Outbox(10), Recorder(gate=trio.Event())
    nursery.start_soon(outbox.write, transport)
    call_queues = [make_call_queue(outbox) for _ in range(3)]
    for _ in range(1_000):
        for call_queue in call_queues:
            call_queue.push(Report(1, None, None))
        assert outbox.queued <= 3
    await trio.testing.wait_all_tasks_blocked(0.01)
    for i in range(1_000):
        for call_queue in call_queues:
            call_queue.push(Report(2 + i, None, None))
        assert outbox.queued <= 3
    transport.gate.set()
    outbox.close()


async def test_one_write_has_a_cap(nursery):
    outbox, transport = Outbox(10), Recorder(gate=trio.Event())
    nursery.start_soon(outbox.write, transport)
    call_queues = [make_call_queue(outbox) for _ in range(20)]
    for call_queue in call_queues:
        for i in range(256):
            call_queue.push(Report(i, None, None))
    transport.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    sizes = [sum(len(frame.updates) for frame in write) for write in transport.writes]
    assert sum(sizes) == 20 * 256
    assert max(sizes) <= 1024
    outbox.close()


async def test_close_writes_what_is_queued_first(nursery):
    outbox, transport = Outbox(10), Recorder()
    call_queue = make_call_queue(outbox)
    call_queue.push(Report(1, None, None))
    outbox.put(Notification("bare"))
    outbox.close()
    await outbox.write(transport)
    assert [type(frame) for write in transport.writes for frame in write] == [ProgressRun, Notification]
    call_queue.push(Report(2, None, None))
    outbox.put(Notification("late"))


async def test_lossless_waits_for_space(nursery, autojump_clock):
    outbox, transport = Outbox(10), Recorder()
    call_queue = make_call_queue(outbox, Lossless(buffer=4))
    for i in range(4):
        call_queue.push(Report(i, None, None))
    assert call_queue.full
    with trio.move_on_after(0.01) as scope:
        await call_queue.wait_space()
    assert scope.cancelled_caught
    nursery.start_soon(outbox.write, transport)
    with trio.fail_after(HANG_SECONDS):
        await call_queue.wait_space()
    outbox.close()


async def test_a_reporter_that_waits_for_space_goes_on_when_the_call_ends(nursery):
    call_queue = make_call_queue(Outbox(10), Lossless(buffer=4))
    for i in range(4):
        call_queue.push(Report(i, None, None))
    nursery.start_soon(call_queue.wait_space)
    await trio.testing.wait_all_tasks_blocked()
    call_queue.withdraw()


async def test_a_frame_behind_the_end_of_a_call_stays_behind_all_its_updates(nursery):
    """A call that fills more than one write keeps its place once it has ended."""
    outbox, transport = Outbox(10), Recorder(gate=trio.Event())
    nursery.start_soon(outbox.write, transport)
    for count in range(8):
        call_queue = make_call_queue(outbox, Conflate(buffer=3000))
        for i in range(300 * count):
            call_queue.push(Report(i, None, None))
        call_queue.finish(None)
        outbox.put(Notification(f"behind {count}"))
    transport.gate.set()
    outbox.close()
    await trio.testing.wait_all_tasks_blocked()
    names = [
        len(frame.updates) if isinstance(frame, ProgressRun) else frame.method
        for write in transport.writes
        for frame in write
    ]
    left = 0
    for name in names:
        if isinstance(name, int):
            left += name
        else:
            assert left == 300 * int(name.removeprefix("behind "))
            left = 0


@attrs.define
class DirectRecorder(Recorder):
    """A transport that can take a lone frame at once, while it is `open`."""

    open: bool = True
    direct: list[OutFrame] = attrs.field(factory=list)

    def send_now(self, frame: OutFrame) -> bool:
        if self.open:
            self.writes.append([frame])
            self.direct.append(frame)
        return self.open


async def test_a_lone_frame_is_written_in_place_while_the_writer_waits_for_work():
    outbox, wire = Outbox(10), DirectRecorder()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, wire)
        await trio.testing.wait_all_tasks_blocked()
        answered: list[int] = []
        make_call_queue(outbox, answered=answered).finish(ANSWER)
        assert (wire.direct, answered) == ([ANSWER], [1])
        outbox.close()


async def test_no_frame_overtakes_a_pending_report():
    outbox, wire = Outbox(10), DirectRecorder()
    lone = Notification("notifications/lone")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, wire)
        await trio.testing.wait_all_tasks_blocked()
        call_queue = make_call_queue(outbox)
        call_queue.push(Report(1, None, None))
        outbox.put(lone)  # the report is in the channel, the writer not yet awake
        call_queue.finish(ANSWER)
        assert wire.direct == []
        outbox.close()
    assert [frame for write in wire.writes for frame in write] == [
        ProgressRun(1, [(1, None, None, None)]),
        ANSWER,
        lone,
    ]


async def test_a_held_message_leaves_before_the_answer_that_is_written_in_place():
    outbox, wire = Outbox(10), DirectRecorder()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, wire)
        call_queue = make_call_queue(outbox, Conflate(message="merge"))
        call_queue.push(Report(1, None, "one"))
        call_queue.push(Report(1, None, "still one"))
        await trio.testing.wait_all_tasks_blocked()
        call_queue.finish(ANSWER)
        outbox.close()
    assert [type(frame) for write in wire.writes for frame in write] == [ProgressRun, ProgressRun, Response]


async def test_a_frame_that_the_wire_does_not_take_at_once_is_queued():
    outbox, wire = Outbox(10), DirectRecorder(open=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, wire)
        await trio.testing.wait_all_tasks_blocked()
        outbox.put(ANSWER)
        assert wire.writes == []
        outbox.close()
    assert (wire.writes, wire.direct) == ([[ANSWER]], [])


async def test_before_the_writer_runs_everything_waits_for_it():
    outbox, wire = Outbox(10), DirectRecorder()
    outbox.put(ANSWER)
    assert wire.writes == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, wire)
        outbox.close()
    assert wire.writes == [[ANSWER]]


async def test_after_close_nothing_is_written_in_place():
    outbox, wire = Outbox(10), DirectRecorder()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, wire)
        await trio.testing.wait_all_tasks_blocked()
        outbox.close()
        outbox.put(ANSWER)  # before the writer has seen the end
    assert wire.writes == []
