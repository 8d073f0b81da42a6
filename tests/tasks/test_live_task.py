"""How far the life of a task has come: the table of its states, walked, and who waits for which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.live_state import (
    COMMITTED,
    DONE,
    ENDED,
    ENDING,
    EXPIRED,
    GONE,
    LOST,
    MOVES,
    NEEDED,
    REFUSED,
    UNDECIDED,
    LiveState,
)
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import BEARER, Outcome, TaskRecord, utc_now
from trio_mcp.tasks.stored_task import CLAIM_BITS
from trio_mcp.wire.errors import LocalProtocolError

EVENTS: dict[str, Callable[[LiveTask], None]] = {
    "need": LiveTask.need_task,
    "refuse": LiveTask.refuse,
    "handler done": lambda live: live.note_done(Outcome("cancelled")),
    "commit": LiveTask.note_committed,
    "end": LiveTask.begin_end,
    "ended": LiveTask.note_ended,
    "expire": LiveTask.expire,
    "lose": LiveTask.lose,
}

PATHS: dict[LiveState, list[str]] = {
    UNDECIDED: [],
    NEEDED: ["need"],
    REFUSED: ["refuse"],
    DONE: ["handler done"],
    COMMITTED: ["commit"],
    ENDING: ["commit", "end"],
    ENDED: ["commit", "end", "ended"],
    EXPIRED: ["commit", "expire"],
    GONE: ["commit", "expire", "end"],
    LOST: ["commit", "lose"],
}


def make_live(state: LiveState = UNDECIDED, **options: Any) -> LiveTask:
    now = utc_now()
    record = TaskRecord(id="t", tool="work", owner=BEARER, created_at=now, last_updated_at=now)
    live = LiveTask(record, TaskClock(), **options)
    for event in PATHS[state]:
        EVENTS[event](live)
    assert live.state is state
    return live


def test_the_table_has_every_state_and_every_event():
    assert set(MOVES) == set(LiveState) == set(PATHS)
    assert {event for row in MOVES.values() for event in row} == set(EVENTS)


@pytest.mark.parametrize("state", LiveState, ids=str)
@pytest.mark.parametrize("event", EVENTS)
async def test_each_event_leads_where_the_table_says(state, event):
    live = make_live(state)
    if event in MOVES[state]:
        EVENTS[event](live)
        assert live.state is MOVES[state][event]
    else:
        with pytest.raises(LocalProtocolError, match=f"{event!r} is not among"):
            EVENTS[event](live)
        assert live.state is state


def test_no_way_leads_back():
    """Whoever waits until a state is left may look late, and is right all the same."""
    after = {state: {to for to in row.values() if to is not state} for state, row in MOVES.items()}
    for state in LiveState:
        reachable: set[LiveState] = set()
        following = set(after[state])
        while following:
            reachable |= following
            following = {further for to in following for further in after[to]} - reachable
        assert state not in reachable


@pytest.mark.parametrize("state", LiveState, ids=str)
async def test_what_is_committed_and_what_is_ending(state):
    live = make_live(state)
    assert live.is_committed == ("commit" in PATHS[state])
    assert live.is_ending == (state in {ENDING, ENDED, GONE, LOST})
    live.report(1, 2, "late?")
    assert (live.record.progress is None) == live.is_ending, "the end alone changes the record then"


@pytest.mark.parametrize(
    ("left", "events"),
    [
        ((UNDECIDED,), ["handler done"]),
        ((UNDECIDED,), ["need"]),
        ((UNDECIDED, NEEDED), ["need", "commit"]),
        ((UNDECIDED, NEEDED), ["need", "refuse"]),
        ((UNDECIDED, REFUSED), ["refuse", "handler done"]),
        ((UNDECIDED, COMMITTED, ENDING), ["commit", "end", "ended"]),
        ((UNDECIDED, COMMITTED, ENDING), ["commit", "expire"]),
        ((UNDECIDED, COMMITTED, ENDING), ["commit", "end", "expire"]),
        ((UNDECIDED, COMMITTED, ENDING), ["commit", "lose"]),
        ((UNDECIDED, COMMITTED, ENDING), ["commit", "end", "lose"]),
    ],
)
async def test_who_waits_goes_on_with_the_last_of_the_states(left, events, nursery):
    live = make_live()
    gone_on = trio.Event()

    async def wait() -> None:
        await live.wait_left(*left)
        gone_on.set()

    nursery.start_soon(wait)
    for event in events:
        await wait_all_tasks_blocked()
        assert not gone_on.is_set()
        EVENTS[event](live)
    await wait_all_tasks_blocked()
    assert gone_on.is_set()


async def test_waiting_for_what_is_past_is_a_checkpoint():
    with trio.testing.assert_checkpoints():
        await make_live(ENDED).wait_ended()
    with trio.testing.assert_checkpoints():
        await make_live(DONE).wait_left(UNDECIDED, NEEDED)


@pytest.mark.parametrize("event", ["expire", "lose"])
async def test_a_record_that_expires_or_is_lost_cancels_its_handler(event):
    live = make_live(COMMITTED)
    EVENTS[event](live)
    assert live.scope.cancel_called


async def test_reports_are_kept_for_a_follower_from_the_commit_on():
    live = make_live(history_limit=10)
    live.report(1, None, None)
    live.note_committed()
    live.report(2, None, None)
    assert [report[0] for report in live.take_history() or ()] == [2]


async def test_a_live_task_shows_its_state():
    assert repr(make_live(NEEDED)) == "<LiveTask t of 'work': needed, working>"
    assert repr(make_live(ENDING)) == "<LiveTask t of 'work': ending, working>"


async def test_reports_are_numbered_by_the_claim_and_do_not_disturb_the_version(autojump_clock: Any) -> None:
    live = make_live()
    live.report(1, None, None)
    live.report(2, None, None)
    first = live.record
    assert first.progress is not None
    assert (first.progress.offset, first.version) == ((1 << CLAIM_BITS) + 2, 2)
    live.report(3, None, None)
    live.hold_under(2)
    live.report(4, None, None)
    second = live.record
    assert second.progress is not None
    assert (second.progress.offset, second.version) == ((2 << CLAIM_BITS) + 1, 4)
