"""By which wire the progress of a legacy task leaves, as clients wait for its result and stop waiting."""

from __future__ import annotations

import attrs
import pytest

from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.server.legacy_task_wires import LegacyTaskWires
from trio_mcp.session.connection import ServerConnection


@attrs.define
class Status:
    """What leaves by the wires, in the place of a LegacyStatus: it notes its outbox."""

    outbox: Outbox
    has_ended: bool = False

    def leaves_by(self, outbox: Outbox) -> bool:
        return outbox is self.outbox

    def move_to(self, outbox: Outbox) -> None:
        self.outbox = outbox


@pytest.fixture
def home() -> ServerConnection:
    return ServerConnection(Outbox(10), None)


@pytest.fixture
def status(home: ServerConnection) -> Status:
    return Status(home.outbox)


@pytest.fixture
def wires(home: ServerConnection, status: Status) -> LegacyTaskWires:
    wires = LegacyTaskWires(home)
    wires.begin(status)  # type: ignore[arg-type]
    return wires


def test_progress_leaves_by_the_response_while_the_client_waits_for_the_result(home, wires, status):
    branch = home.branch(Outbox(10))
    with wires.reachable_through(branch):
        assert status.outbox is branch.outbox
    assert status.outbox is home.outbox


def test_progress_leaves_by_the_home_wire_while_nobody_reads_the_response(home, wires, status):
    branch = home.branch(Outbox(10))
    with wires.reachable_through(branch):
        branch.note_heard(False)
        assert status.outbox is home.outbox
        branch.note_heard(True)
        assert status.outbox is branch.outbox


def test_the_last_progress_leaves_in_front_of_the_result(home, wires, status):
    """On another wire it could overtake what was sent on this one (order, law 1)."""
    branch = home.branch(Outbox(10))
    with wires.reachable_through(branch):
        status.has_ended = True
    assert status.outbox is branch.outbox


def test_the_last_progress_leaves_by_the_home_wire_if_nobody_reads_the_response(home, wires, status):
    branch = home.branch(Outbox(10))
    with wires.reachable_through(branch):
        status.has_ended = True
        branch.is_heard = False
    assert status.outbox is home.outbox


@pytest.mark.parametrize("first", ["the one that is read", "the one that is not"])
def test_the_last_progress_leaves_in_front_of_the_result_whoever_else_has_waited(home, wires, status, first):
    """Requests that wait for one task wake up together, in any order."""
    gone, read = home.branch(Outbox(10)), home.branch(Outbox(10))
    waits = [wires.reachable_through(gone), wires.reachable_through(read)]
    for wait in waits:
        wait.__enter__()
    gone.note_heard(False)
    assert status.outbox is read.outbox
    status.has_ended = True
    for wait in reversed(waits) if first == "the one that is read" else waits:
        wait.__exit__(None, None, None)
    assert status.outbox is read.outbox
