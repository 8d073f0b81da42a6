"""The place of a call queue, or of a task feed, in an outbox.

Owns whether it is queued there, held there until a time, or neither, and how it moves to another
outbox. Knows neither what a report says nor how a frame is made of it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, MutableSequence
from typing import Any, Final, Literal, TypeAlias

from trio_mcp.outgoing.outbox import Outbox, Source
from trio_mcp.outgoing.pacing import Pace


class SlotState(enum.Enum):
    """Where a slot stands in its outbox."""

    IDLE = "idle"
    """Nothing is pending."""

    QUEUED = "queued"
    """The writer drains the slot when its turn comes."""

    HELD = "held"
    """Only one report is pending, and the writer resumes the slot when its time has come."""

    # The state changes twice for each write of a call, and hashing the name would take longer than
    # the change. Members are singletons.
    __hash__ = object.__hash__


SlotEvent: TypeAlias = Literal["queue", "drained", "hold", "clear", "discard"]

IDLE, QUEUED, HELD = SlotState

MOVES: Final[Mapping[SlotState, Mapping[SlotEvent, SlotState]]] = {
    IDLE: {
        "queue": QUEUED,
        "clear": IDLE,
        "discard": IDLE,
    },
    QUEUED: {
        "queue": QUEUED,  # once is enough
        "drained": IDLE,
        "hold": HELD,  # all is drained except a report that may not leave yet
        "clear": QUEUED,  # the writer comes upon it, and finds nothing
        "discard": IDLE,
    },
    HELD: {
        "queue": QUEUED,  # the time has come, or something is pending that need not wait for it
        "clear": IDLE,
        "discard": IDLE,
    },
}
"""From each state and by each event, the next state. Only a slot that was queued is drained, or held."""


class Slot(Source):
    """A source that is queued in its outbox at most once, or held there until a time.

    It is a base class because an object of its own would cost every call an allocation, and a
    reference cycle between the two. `_items` is what is pending, `reports` counts the reports in it,
    and `_pace` holds back one report more.
    """

    __slots__ = ("_items", "_pace", "_state", "reports")

    def __init__(self, outbox: Outbox, items: MutableSequence[Any], pace: Pace | None = None) -> None:
        self.outbox = outbox
        self._items = items
        self._pace = pace
        self._state = IDLE
        self.reports = 0

    @property
    def state(self) -> SlotState:
        """Where the slot stands in its outbox."""
        return self._state

    @property
    def pending(self) -> int:
        """How many reports are pending, except one that is held."""
        return self.reports

    def move_to(self, outbox: Outbox) -> None:
        """Leave by `outbox` from now on, with all that is pending."""
        state = self._state
        if state is QUEUED:
            self.outbox.note_moved_away(self)
        elif state is HELD:
            self.outbox.unhold(self)
        self.outbox = outbox
        if outbox.take_back(self):
            self._state = MOVES[self._state]["queue"]
            outbox.flush()
        elif state is QUEUED:
            outbox.flush()
            if not outbox.enqueue(self):
                self.discard()
        if state is HELD:
            self.resume()

    def resume(self) -> None:
        """Queue again what was held until its time, unless something newer is pending."""
        if self._pace is not None and self._pace.put_back(self._items):
            self.reports += 1
            self._ask_turn()

    def _ask_turn(self) -> None:
        """Queue the slot for the writer; if the wire is gone, discard what is pending.

        While a report is held, a newer one takes its place and no turn is asked for. Any other item
        ends the hold.
        """
        state = self._state
        if state is QUEUED:
            return
        if self._pace is not None:
            if self._pace.replace_held(self._items):
                self.reports = 0
                return
            self.outbox.unhold(self)
        self._state = MOVES[state]["queue"]
        if not self.outbox.enqueue(self):
            self.discard()

    def _note_drained(self) -> None:
        """Leave the queue, because nothing is pending except what is held."""
        if self._pace is not None and self._pace.is_holding:
            self._state = MOVES[self._state]["hold"]
            self.outbox.hold_until(self, self._pace.due)
        else:
            self._state = MOVES[self._state]["drained"]

    def _clear(self) -> None:
        """Drop all that is pending; a slot that is queued keeps its place."""
        self._items.clear()
        self.reports = 0
        if self._state is HELD:
            self.outbox.unhold(self)
        self._state = MOVES[self._state]["clear"]
