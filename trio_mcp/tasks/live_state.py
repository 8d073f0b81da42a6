"""How far the life of a task in this process has come.

Owns the states and the table of their moves. Knows no record.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias


class LiveState(enum.Enum):
    """How far the life of a task has come, which clients do not see."""

    UNDECIDED = "undecided"
    """The call is answered directly if its handler is done soon."""

    NEEDED = "needed"
    """The handler needs a task, for which there is no record yet."""

    REFUSED = "refused"
    """There will be no record; the call waits for its handler."""

    DONE = "done"
    """The handler was done before there was a record."""

    COMMITTED = "committed"
    """The record is stored: the task can be found."""

    ENDING = "ending"
    """The end is being stored; nothing else changes the record any more."""

    ENDED = "ended"
    """The end is stored, and the followers know of it."""

    EXPIRED = "expired"
    """The record was forgotten before the handler was done, which is being cancelled."""

    GONE = "gone"
    """The record was forgotten, and the end of the task is being told, or was."""

    LOST = "lost"
    """The store says that this process does not hold the task any more; nothing of it is stored."""

    __hash__ = object.__hash__  # a report asks for the state, and members are singletons


LiveEvent: TypeAlias = Literal["need", "refuse", "handler done", "commit", "end", "ended", "expire", "lose"]

UNDECIDED, NEEDED, REFUSED, DONE, COMMITTED, ENDING, ENDED, EXPIRED, GONE, LOST = LiveState

MOVES: Final[Mapping[LiveState, Mapping[LiveEvent, LiveState]]] = {
    UNDECIDED: {"need": NEEDED, "refuse": REFUSED, "handler done": DONE, "commit": COMMITTED},
    NEEDED: {"need": NEEDED, "refuse": REFUSED, "handler done": DONE, "commit": COMMITTED},
    REFUSED: {"need": REFUSED, "refuse": REFUSED, "handler done": DONE},
    # A handler may be faster than the store of its record.
    DONE: {"need": DONE, "refuse": DONE, "commit": COMMITTED},
    COMMITTED: {
        "need": COMMITTED,
        "refuse": COMMITTED,
        "handler done": COMMITTED,
        "end": ENDING,
        "expire": EXPIRED,
        "lose": LOST,
    },
    ENDING: {
        "need": ENDING,
        "refuse": ENDING,
        "handler done": ENDING,
        "ended": ENDED,
        "expire": GONE,
        "lose": LOST,
    },
    ENDED: {"need": ENDED, "refuse": ENDED, "handler done": ENDED, "expire": ENDED},
    EXPIRED: {"need": EXPIRED, "refuse": EXPIRED, "handler done": EXPIRED, "end": GONE},
    GONE: {"need": GONE, "refuse": GONE, "handler done": GONE, "ended": GONE},
    LOST: {"need": LOST, "refuse": LOST, "handler done": LOST},
}
"""From each state and by each event, the next state. A state that was left is never entered again.

A task made at once goes COMMITTED, ENDING, ENDED; a call answered directly ends in DONE; a promoted one
goes UNDECIDED or NEEDED, then COMMITTED and on. If the record expires under the handler, the task is EXPIRED,
then GONE. A task that another process has taken over is LOST: whoever follows it goes on by the store.
"""
