"""A slot's place in its outbox: the table of its states, walked, and how it moves between outboxes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.outgoing.test_outbox import ANSWER, Recorder, drained, make_call_queue
from trio_mcp import Conflate
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.outbox import Outbox, OutboxStatistics
from trio_mcp.outgoing.report import Report
from trio_mcp.outgoing.slot import HELD, IDLE, MOVES, QUEUED, SlotState
from trio_mcp.wire.frames import Notification, ProgressRun

LOG = Notification("notifications/message")


@attrs.define
class Written:
    """An outbox whose writer is running, and a call of one notification a second."""

    wire: Recorder
    outbox: Outbox
    call_queue: CallQueue

    async def reach(self, state: SlotState) -> None:
        if state is not IDLE:
            self.call_queue.push(Report(1, None, None))
        if state is HELD:
            await wait_all_tasks_blocked()  # the first leaves at once
            self.call_queue.push(Report(2, None, None))
            await wait_all_tasks_blocked()
        assert self.call_queue.state is state

    @property
    def progress(self) -> list[float]:
        runs = [f for write in self.wire.writes for f in write if isinstance(f, ProgressRun)]
        return [update[0] for run in runs for update in run.updates]


def make_written(nursery: trio.Nursery) -> Written:
    wire, outbox = Recorder(), Outbox(10)
    nursery.start_soon(outbox.write, wire)
    return Written(wire, outbox, make_call_queue(outbox, Conflate(min_interval=1)))


async def put(call_queue: CallQueue) -> None:
    call_queue.put(LOG)


async def drain_all(call_queue: CallQueue) -> None:
    await wait_all_tasks_blocked()


async def drain_but_one(call_queue: CallQueue) -> None:
    call_queue.push(Report(3, None, None))
    await wait_all_tasks_blocked()


async def withdraw(call_queue: CallQueue) -> None:
    call_queue.withdraw()


async def discard(call_queue: CallQueue) -> None:
    call_queue.move_to(Outbox(10))  # it has no writer
    call_queue.discard()


EVENTS: dict[str, Callable[[CallQueue], Awaitable[None]]] = {
    "queue": put,
    "drained": drain_all,
    "hold": drain_but_one,
    "clear": withdraw,
    "discard": discard,
}


def test_the_table_has_every_state_and_every_event():
    assert set(MOVES) == set(SlotState)
    assert {event for row in MOVES.values() for event in row} == set(EVENTS)


@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state, row in MOVES.items() for event in row], ids=str
)
async def test_each_event_leads_where_the_table_says(state, event, nursery, autojump_clock):
    written = make_written(nursery)
    await written.reach(state)
    await EVENTS[event](written.call_queue)
    assert written.call_queue.state is MOVES[state][event]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("state", [state for state, row in MOVES.items() if "drained" not in row])
async def test_what_is_not_queued_cannot_be_drained(state, nursery, autojump_clock):
    written = make_written(nursery)
    await written.reach(state)
    with pytest.raises(KeyError):
        written.call_queue.drain(10)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("state", SlotState)
async def test_a_slot_moves_with_all_that_is_pending(state, nursery, autojump_clock):
    old, new = make_written(nursery), make_written(nursery)
    await old.reach(state)
    pending = {IDLE: [], QUEUED: [1], HELD: [2]}[state]
    left = old.progress
    old.call_queue.move_to(new.outbox)
    assert old.call_queue.outbox is new.outbox
    assert (old.outbox.statistics().held, old.outbox.statistics().moved_away) == (0, int(state is QUEUED))
    assert new.outbox.statistics().queued == int(state is not IDLE)
    await wait_all_tasks_blocked()
    assert old.call_queue.state is (HELD if state is HELD else IDLE), "what was held is held there too"
    assert new.outbox.statistics().held == int(state is HELD)
    await trio.sleep(1)
    await wait_all_tasks_blocked()
    assert (old.progress, new.progress) == (left, pending)
    assert old.outbox.statistics().moved_away == 0
    nursery.cancel_scope.cancel()


async def test_what_comes_back_has_one_place(nursery):
    """The place that was left is used again, so that the writer does not come upon the call twice."""
    here, there = make_written(nursery), make_written(nursery)
    await here.reach(QUEUED)
    here.call_queue.move_to(there.outbox)
    here.call_queue.move_to(here.outbox)
    assert (here.outbox.queued, here.outbox.statistics().moved_away) == (1, 0)
    assert (there.outbox.queued, there.outbox.statistics().moved_away) == (1, 1)
    await wait_all_tasks_blocked()
    assert (here.progress, there.progress) == ([1], [])
    assert there.outbox.statistics().moved_away == 0
    nursery.cancel_scope.cancel()


async def test_a_frame_does_not_wait_for_a_report_that_is_held(nursery, autojump_clock):
    written = make_written(nursery)
    await written.reach(HELD)
    await put(written.call_queue)
    await wait_all_tasks_blocked()
    assert written.wire.writes[-1] == [LOG]
    assert written.call_queue.state is HELD, "it is held again, until the same time"
    assert written.progress == [1]
    await trio.sleep(1)
    await wait_all_tasks_blocked()
    assert written.progress == [1, 2]
    assert written.call_queue.state is IDLE
    nursery.cancel_scope.cancel()


async def test_a_task_that_takes_over_has_what_was_held(nursery, autojump_clock):
    written = make_written(nursery)
    await written.reach(HELD)
    successor = written.call_queue.succeed(written.outbox, "task")
    assert (written.call_queue.state, successor.state) == (IDLE, QUEUED)
    written.call_queue.finish(ANSWER)
    await wait_all_tasks_blocked()
    assert written.wire.writes[-1] == [ANSWER]
    assert successor.state is HELD
    await trio.sleep(1)
    await wait_all_tasks_blocked()
    assert written.progress == [1, 2]
    nursery.cancel_scope.cancel()


def test_without_an_interval_nothing_is_held():
    call_queue = make_call_queue(Outbox(10))
    call_queue.push(Report(1, None, None))
    call_queue.push(Report(2, None, None))
    assert [update[0] for update in drained(call_queue)] == [1, 2]
    assert call_queue.state is IDLE


async def test_an_outbox_has_statistics(nursery, autojump_clock):
    written = make_written(nursery)
    assert repr(written.outbox) == "<Outbox: 0 queued, 0 held>"
    await written.reach(HELD)
    written.outbox.put(ANSWER)
    assert written.outbox.statistics() == OutboxStatistics(
        queued=1, held=1, moved_away=0, tasks_waiting_room=0, is_broken=False
    )
    assert repr(written.outbox) == "<Outbox: 1 queued, 1 held>"
    written.outbox.close()
    await wait_all_tasks_blocked()
    assert written.outbox.statistics() == OutboxStatistics(
        queued=0, held=0, moved_away=0, tasks_waiting_room=0, is_broken=True
    )
    assert repr(written.outbox) == "<Outbox: broken>"


async def test_readers_that_wait_for_room_are_counted(nursery):
    outbox, wire = Outbox(0), Recorder(gate=trio.Event())
    outbox.put(ANSWER)
    nursery.start_soon(outbox.wait_room)
    await wait_all_tasks_blocked()
    assert outbox.statistics().tasks_waiting_room == 1
    nursery.start_soon(outbox.write, wire)
    wire.gate.set()
    await wait_all_tasks_blocked()
    assert outbox.statistics().tasks_waiting_room == 0
    outbox.close()


async def test_a_call_queue_shows_its_state(nursery, autojump_clock):
    written = make_written(nursery)
    await written.reach(HELD)
    call_queue = written.call_queue
    assert repr(call_queue) == "<CallQueue of token 1: 0 reports, 0 other frames, held>"
    call_queue.put(LOG)
    assert repr(call_queue) == "<CallQueue of token 1: 0 reports, 1 other frames, queued>"
    call_queue.withdraw()
    assert repr(call_queue) == "<CallQueue of token 1: 0 reports, 0 other frames, closed, queued>"
    nursery.cancel_scope.cancel()
