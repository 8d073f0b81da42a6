"""The places for tasks, and how they are shared out among the owners that pay for them.

Owns two counts, in all and for each owner: the tasks that have not ended, and those that run. Also
owns the order in which tasks wait to run. Knows no record and runs nothing.
"""

from __future__ import annotations

import trio
from msgspec import Struct, field

from trio_mcp.errors import TaskOverload
from trio_mcp.tasks.record import Owner
from trio_mcp.tasks.settings import TaskSettings


class OwnerShare(Struct, eq=False):
    """The places that one owner has taken.

    `turns` of its tasks run, or are next to run; what `waits` comes after those, in this order.
    """

    payer: Owner
    unfinished: int = 0
    turns: int = 0
    waits: dict[trio.Event, None] = field(default_factory=dict)


class TaskPlaces:
    """The places of one running server.

    A task takes a place with `reserve` and keeps it until `release`. In between it runs from
    `wait_running` to `stop_running`. Tasks that wait run first come, first served, except that an
    owner with `max_running_per_owner` tasks that run or are next lets the others pass.
    """

    def __init__(self, settings: TaskSettings) -> None:
        self._settings = settings
        self._turns = min(settings.max_running_per_owner, settings.max_running)
        self._idle = settings.max_running
        self._next: dict[trio.Event, OwnerShare] = {}  # empty while there is an idle place
        self._shares: dict[Owner, OwnerShare] = {}
        self._released = trio.lowlevel.ParkingLot()
        self.taken = 0  # at most max_running + max_queued
        """How many tasks have a place: those that run, wait or are prepared."""

    @property
    def running(self) -> int:
        """How many tasks run."""
        return self._settings.max_running - self._idle

    @property
    def free(self) -> int:
        """How many more tasks may have a place."""
        return self._settings.max_running + self._settings.max_queued - self.taken

    def reserve(self, payer: Owner) -> OwnerShare:
        """Take a place for `payer` and return the share that it is out of; raises TaskOverload."""
        settings = self._settings
        if self.free <= 0:
            raise TaskOverload(f"overloaded: {settings.max_running} tasks run and {settings.max_queued} wait")
        share = self._shares.get(payer)
        if share is None:
            share = self._shares[payer] = OwnerShare(payer)
        elif share.unfinished >= settings.max_unfinished_per_owner:
            raise TaskOverload(
                f"overloaded: max_unfinished_per_owner is {settings.max_unfinished_per_owner}, and so many "
                "tasks of this client run or wait"
            )
        share.unfinished += 1
        self.taken += 1
        return share

    def adopt(self, payer: Owner) -> OwnerShare:
        """Take a place for a task that `payer` has already, whatever the caps say."""
        share = self._shares.get(payer)
        if share is None:
            share = self._shares[payer] = OwnerShare(payer)
        share.unfinished += 1
        self.taken += 1
        return share

    @property
    def free_turns(self) -> int:
        """How many more tasks could run now."""
        return max(0, self._settings.max_running - self.taken)

    async def wait_free_turn(self) -> None:
        """Wait until one more task could run; checkpoints."""
        await trio.lowlevel.checkpoint()
        while not self.free_turns:
            await self._released.park()

    def release(self, share: OwnerShare) -> None:
        """Give back a place that was taken out of `share`."""
        self._released.unpark_all()
        self.taken -= 1
        share.unfinished -= 1
        if not share.unfinished:
            del self._shares[share.payer]

    async def wait_running(self, share: OwnerShare) -> None:
        """Wait until a task with a place of `share` may run; checkpoints."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._idle and share.turns < self._turns:  # then nobody waits before it
            self._idle -= 1
            share.turns += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        turn = trio.Event()
        if share.turns < self._turns:
            share.turns += 1
            self._next[turn] = share
        else:
            share.waits[turn] = None
        try:
            await turn.wait()
        finally:
            if not turn.is_set():
                self._stop_waiting(turn, share)

    def stop_running(self, share: OwnerShare) -> None:
        """Let the next task run in the place of one that is done."""
        self._idle += 1
        self._give_turn(share)
        if self._next:
            turn = next(iter(self._next))
            del self._next[turn]
            self._idle -= 1
            turn.set()

    def _stop_waiting(self, turn: trio.Event, share: OwnerShare) -> None:
        if turn in self._next:
            del self._next[turn]
            self._give_turn(share)
        else:
            del share.waits[turn]

    def _give_turn(self, share: OwnerShare) -> None:
        """Hand on what counted as one of the owner's `turns` to the task that waits longest for it."""
        if share.waits:
            turn = next(iter(share.waits))
            del share.waits[turn]
            self._next[turn] = share
        else:
            share.turns -= 1
