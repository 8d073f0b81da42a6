"""How the places for tasks are shared out, and whose turn it is."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_mcp.errors import TaskOverload
from trio_mcp.tasks.places import TaskPlaces
from trio_mcp.tasks.record import Owner
from trio_mcp.tasks.settings import TaskSettings

ALICE, BOB, CAROL = (Owner("principal", name) for name in ("alice", "bob", "carol"))


class Runs:
    """Tasks that run until they are told to end, named by their owner and a number."""

    def __init__(self, nursery: trio.Nursery, **settings: int) -> None:
        self.nursery = nursery
        self.places = TaskPlaces(TaskSettings(**settings))
        self.begun: list[str] = []
        self.waiting: dict[str, trio.CancelScope] = {}
        self.running: dict[str, trio.Event] = {}
        self._number = 0

    async def add(self, *owners: Owner) -> None:
        """Start a task for each, and wait until each of them runs or waits."""
        for owner in owners:
            self._number += 1
            self.nursery.start_soon(self._run, owner, f"{owner.name} {self._number}")
            await wait_all_tasks_blocked()

    async def _run(self, owner: Owner, name: str) -> None:
        share = self.places.reserve(owner)
        with trio.CancelScope() as self.waiting[name]:
            try:
                await self.places.wait_running(share)
            finally:
                del self.waiting[name]
            self.begun.append(name)
            self.running[name] = trio.Event()
            await self.running[name].wait()
            del self.running[name]
            self.places.stop_running(share)
        self.places.release(share)

    async def end(self, name: str) -> None:
        self.running[name].set()
        await wait_all_tasks_blocked()

    async def cancel(self, name: str) -> None:
        self.waiting[name].cancel()
        await wait_all_tasks_blocked()


async def test_tasks_of_one_owner_run_in_the_order_in_which_they_came():
    async with trio.open_nursery() as nursery:
        runs = Runs(nursery, max_running=2)
        await runs.add(*[ALICE] * 5)
        assert runs.begun == ["alice 1", "alice 2"]
        await runs.end("alice 2")
        await runs.end("alice 1")
        await runs.end("alice 4")
        assert runs.begun == [f"alice {number}" for number in (1, 2, 3, 4, 5)]
        nursery.cancel_scope.cancel()


async def test_one_owner_may_fill_a_small_max_running():
    async with trio.open_nursery() as nursery:
        runs = Runs(nursery, max_running=4)
        await runs.add(*[ALICE] * 5)
        assert runs.places.running == 4
        nursery.cancel_scope.cancel()


async def test_a_task_passes_those_of_an_owner_that_runs_its_most():
    async with trio.open_nursery() as nursery:
        runs = Runs(nursery, max_running=3, max_running_per_owner=2)
        await runs.add(ALICE, ALICE, ALICE, ALICE, BOB, BOB, CAROL)
        assert runs.begun == ["alice 1", "alice 2", "bob 5"]
        await runs.end("bob 5")
        await runs.end("bob 6")
        assert runs.begun[3:] == ["bob 6", "carol 7"]
        await runs.end("alice 1")
        await runs.end("carol 7")
        assert runs.begun[5:] == ["alice 3"], "the fourth would be the third that runs"
        await runs.end("alice 2")
        assert runs.begun[6:] == ["alice 4"]
        nursery.cancel_scope.cancel()


async def test_a_task_that_is_cancelled_while_it_waits_holds_up_nobody():
    async with trio.open_nursery() as nursery:
        runs = Runs(nursery, max_running=2, max_running_per_owner=1)
        await runs.add(ALICE, BOB, CAROL, ALICE, ALICE, BOB)
        await runs.cancel("carol 3")  # it was the next
        await runs.cancel("alice 4")  # it waited for its owner
        await runs.end("alice 1")
        await runs.end("bob 2")
        assert runs.begun == ["alice 1", "bob 2", "alice 5", "bob 6"]
        await runs.end("alice 5")
        await runs.end("bob 6")
        assert (runs.places.running, runs.places.taken, runs.places.free) == (0, 0, 1002)


async def test_places_are_refused_by_name():
    places = TaskPlaces(TaskSettings(max_running=2, max_queued=1, max_unfinished_per_owner=2))
    first, _ = places.reserve(ALICE), places.reserve(ALICE)
    with pytest.raises(TaskOverload, match="max_unfinished_per_owner is 2"):
        places.reserve(ALICE)
    places.reserve(BOB)
    with pytest.raises(TaskOverload, match="2 tasks run and 1 wait"):
        places.reserve(CAROL)
    places.release(first)
    places.reserve(CAROL)


@pytest.mark.parametrize("seed", range(20))
async def test_no_place_is_idle_while_somebody_may_run(seed):
    """Whatever comes, ends and is cancelled: the caps hold, and only they keep a task from running."""
    choices = random.Random(seed)
    most, per_owner = choices.randint(1, 4), choices.randint(1, 4)
    owners = (ALICE, BOB, CAROL)
    async with trio.open_nursery() as nursery:
        runs = Runs(nursery, max_running=most, max_running_per_owner=per_owner)
        for _ in range(80):
            step = choices.random()
            if step < 0.5 or not (runs.running or runs.waiting):
                await runs.add(choices.choice(owners))
            elif step < 0.8 and runs.running:
                await runs.end(choices.choice(list(runs.running)))
            elif runs.waiting:
                await runs.cancel(choices.choice(list(runs.waiting)))
            assert runs.places.running == len(runs.running) <= most
            assert runs.places.taken == len(runs.running) + len(runs.waiting)
            for owner in owners:
                mine = [name for name in runs.running if name.startswith(owner.name)]
                waits = [name for name in runs.waiting if name.startswith(owner.name)]
                assert len(mine) <= per_owner
                assert not waits or len(mine) == min(most, per_owner) or len(runs.running) == most
        for owner in owners:
            numbers = [int(name.split()[1]) for name in runs.begun if name.startswith(owner.name)]
            assert numbers == sorted(numbers), "in the order in which they came"
        nursery.cancel_scope.cancel()
