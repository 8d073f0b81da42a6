"""A hundred tasks in a fleet, some of whose processes are killed again and again, and what must hold then.

Owns the calls, the random choices, which all come from one seed, and the comparison of what was stored before
with what is stored later and with what the handlers have noted.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

import attrs
import trio

from tests.durability.fleet import Fleet, Note
from tests.durability.program import expected_text
from tests.support.limits import HANG_SECONDS
from trio_mcp import Client, ConnectionLost, open_client
from trio_mcp.tasks.record import TaskStatus as Status  # flake8-async takes a TaskStatus for trio's
from trio_mcp.tasks.recovery import INTERRUPTED
from trio_mcp.tasks.stored_codec import encode_record
from trio_mcp.tasks.stored_task import StoredTask

RUNNING: Final = 100
SEED: Final = "TRIO_MCP_DURABILITY_SEED"
"""The variable that repeats the choices of a run that has failed."""

ATTEMPTS: Final = {"restarting": 100, "restarting_once": 2, "failing": 1, "greet": 100}
CALLERS: Final = 10
FAR: Final = 1_000_000


@attrs.frozen
class Call:
    """A call that was answered with the id of a task, which ends in the generation `until`."""

    name: str
    tool: str
    task_id: str
    until: int


class Campaign:
    """The calls that were made of one fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(2**32))
        print(f"{SEED}={self.seed}")
        self.random = random.Random(self.seed)
        self.calls: dict[str, Call] = {}
        self._numbers = count()

    async def call(self, url: str, times: int) -> None:
        """Make so many calls of one process, several at a time; each returns a task."""
        plan = [self._choose() for _ in range(times)]

        async def make() -> None:
            while plan:
                await self.call_one(client, *plan.pop())

        with trio.fail_after(HANG_SECONDS):
            async with open_client(url) as client, trio.open_nursery() as nursery:
                for _ in range(CALLERS):
                    nursery.start_soon(make)

    async def call_one(self, client: Client, tool: str, until: int) -> Call:
        """Make one call, which ends in the generation `until`."""
        name = f"call-{next(self._numbers)}"
        handle = await client.call_tool(tool, {"call": name, "until": until}, task=True)
        assert handle.id is not None
        call = self.calls[handle.id] = Call(name, tool, handle.id, until)
        return call

    def _choose(self) -> tuple[str, int]:
        """A tool, and the generation in which it ends: the present one, or one of the next three."""
        tool = self.random.choices(["restarting", "restarting_once", "failing"], [5, 3, 2])[0]
        return tool, self.fleet.generation + self.random.choices([0, 1, 2, 3], [2, 3, 3, 2])[0]

    async def kill(self, names: Sequence[str], url: str) -> dict[str, StoredTask]:
        """Have a hundred tasks run, kill processes at a random moment, and return what is stored then.

        `url` is that of a process that takes calls.
        """
        stored = await self.fleet.read_store()
        unfinished = {task_id for task_id, task in stored.items() if not task.record.is_final}
        await self.call(url, RUNNING - len(unfinished))
        # Soon, or when others have taken over what the kill before has left. The moment comes for certain,
        # because these go on until then; of what was running at that kill, others may not.
        lasting = sum(
            call.until > self.fleet.generation and (call.tool == "restarting" or call.task_id not in stored)
            for call in self.calls.values()
            if call.task_id in unfinished or call.task_id not in stored
        )
        await self.fleet.wait_notes(
            len(self.fleet.notes) + self.random.randrange(1 + lasting * self.random.choice([3, 30]))
        )
        before = await self.fleet.read_store()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._call_until_lost, url)
            await self.fleet.wait_notes(len(self.fleet.notes) + self.random.randrange(30))
            for name in names:
                self.fleet.members[name].require_alive()
                self.fleet.members[name].kill()
        after = await self.fleet.read_store()
        self.require_kept(before, after)
        self.fleet.generation += 1
        return after

    async def _call_until_lost(self, url: str, *, task_status: trio.TaskStatus[None]) -> None:
        """Make calls while a process is killed; those that are answered count."""
        with suppress(ConnectionLost):
            async with open_client(url) as client:
                task_status.started()
                for _ in range(CALLERS):
                    await self.call_one(client, *self._choose())

    async def finish(self, url: str) -> dict[str, StoredTask]:
        """Let all tasks end, watched through the process at `url`, and return what is stored then."""
        before = await self.fleet.read_store()
        self.fleet.generation = FAR
        flaws: list[str] = []

        async def watch(task_id: str) -> None:
            highest = 0.0
            snapshot = None
            async with client.watch_task(task_id) as snapshots:
                async for snapshot in snapshots:
                    current = snapshot.current or 0.0
                    if current < highest:
                        flaws.append(f"{task_id} was told {current} behind {highest}")
                    highest = max(highest, current)
            if snapshot is None or not snapshot.is_final:
                flaws.append(f"the watching of {task_id} has ended with {snapshot}")

        with trio.move_on_after(HANG_SECONDS) as scope:
            async with open_client(url) as client, trio.open_nursery() as nursery:
                for task_id, task in before.items():
                    if not task.record.is_final:
                        nursery.start_soon(watch, task_id)
        after = await self.fleet.read_store()
        if scope.cancelled_caught:
            flaws.append("some tasks do not end")
        self.require_kept(before, after)
        self.require(flaws, after)
        self.require_ended(after)
        print(
            Counter(
                (task.record.tool, task.record.status.value, task.record.attempt) for task in after.values()
            )
        )
        return after

    def require_kept(self, before: Mapping[str, StoredTask], after: Mapping[str, StoredTask]) -> None:
        """Nothing of what was stored before is lost later, and what has ended is as it was."""
        flaws = [f"{self.calls[lost]} is not stored" for lost in self.calls.keys() - after.keys()]
        flaws += [f"{lost} was stored, and is lost" for lost in before.keys() - after.keys()]
        for task_id in before.keys() & after.keys():
            old, new = before[task_id].record, after[task_id].record
            if old.is_final:
                if encode_record(old) != encode_record(new):
                    flaws.append(f"{task_id} has changed behind its end")
                continue
            if new.version < old.version:
                flaws.append(f"{task_id} went back from version {old.version}")
            if new.attempt < old.attempt or after[task_id].claim < before[task_id].claim:
                flaws.append(f"{task_id} went back from attempt {old.attempt}, claim {before[task_id].claim}")
            if _current(before[task_id]) > _current(after[task_id]):
                flaws.append(f"{task_id} went back from progress {_current(before[task_id])}")
        self.require(flaws, after)

    def require_ended(self, tasks: Mapping[str, StoredTask]) -> None:
        """Each task has ended, as its tool says, and by what its last attempt has done."""
        flaws: list[str] = []
        for task_id, call in self.calls.items():
            task = tasks.get(task_id)
            if task is not None:  # else it was found to be lost
                notes = [note for note in self.fleet.notes if note.call == call.name]
                flaws += [f"{task_id}: {flaw}" for flaw in find_flaws(task, call, notes)]
        self.require(flaws, tasks)

    def require(self, flaws: Sequence[str], tasks: Mapping[str, StoredTask]) -> None:
        """Raise AssertionError if there are flaws, with the seed, the records concerned, and their notes."""
        if not flaws:
            return
        lines = [f"{len(flaws)} flaws, seed {self.seed}:", *flaws[:50]]
        for task_id, call in self.calls.items():
            if any(task_id in flaw for flaw in flaws[:10]):
                lines.append(describe(tasks[task_id]) if task_id in tasks else f"{call} is not there")
                lines += [f"    {note}" for note in self.fleet.notes if note.call == call.name]
        raise AssertionError("\n".join([*lines, self.fleet.describe()]))


def find_flaws(task: StoredTask, call: Call, notes: Sequence[Note]) -> list[str]:
    """What is wrong with a task that should have ended, given what its handlers have noted."""
    record, flaws = task.record, []
    begun = [note for note in notes if note.what == "begun"]
    attempts = [note.attempt for note in begun]
    kept = 0
    if attempts != sorted(set(attempts)):
        flaws.append(f"attempts were begun in the order {attempts}")
    if not max(attempts, default=0) <= record.attempt <= ATTEMPTS[call.tool]:
        flaws.append(f"attempt {record.attempt} is stored, and {attempts} were begun")
    for note in notes:
        if note.what == "begun" and note.number < kept:
            flaws.append(f"attempt {note.attempt} began at {note.number}, although {kept} was kept")
        kept = max(kept, note.number if note.what == "kept" else 0)
    if _current(task) < kept:
        flaws.append(f"the progress is {_current(task)}, although {kept} was kept")
    if task.holder is not None:
        flaws.append("somebody holds it")
    if record.status is Status.COMPLETED:
        flaws += _find_flaws_of_result(task, call, notes, max(attempts, default=0))
    elif record.status is not Status.FAILED:
        flaws.append(f"it is {record.status.value}")
    elif record.outcome is None or record.outcome.error is None:
        flaws.append("it has failed without an error")
    elif not record.outcome.error.message.startswith(INTERRUPTED):
        flaws.append(f"it has failed because of {record.outcome.error.message}")
    elif record.attempt != ATTEMPTS[call.tool]:
        flaws.append(f"it was interrupted in attempt {record.attempt}, and not begun again")
    return flaws


def _find_flaws_of_result(task: StoredTask, call: Call, notes: Sequence[Note], last: int) -> list[str]:
    outcome = task.record.outcome
    if outcome is None or outcome.result is None:
        return ["it has no result"]
    attempt, process, text = json.loads(bytes(outcome.result))["content"][0]["text"].split(" ")
    flaws = []
    if text != expected_text(call.name):
        flaws.append(f"the result is {text[:80]}...")
    if not int(attempt) == task.record.attempt == last:
        flaws.append(f"the result is of attempt {attempt}, stored is {task.record.attempt}, begun was {last}")
    if not any(
        (note.what, note.attempt, note.process) == ("done", int(attempt), int(process)) for note in notes
    ):
        flaws.append(f"the result is of process {process}, which has not done it")
    return flaws


def describe(task: StoredTask) -> str:
    """A task in one line, for a failure."""
    record = task.record
    outcome = None if record.outcome is None else record.outcome.error or record.outcome.kind
    return (
        f"{record.id} {record.tool} {record.status.value} version {record.version} attempt {record.attempt} "
        f"claim {task.claim} of {task.holder}, progress {record.progress}, checkpoint {task.checkpoint!r}, "
        f"outcome {outcome}"
    )


def _current(task: StoredTask) -> float:
    progress = task.record.progress
    return 0.0 if progress is None or progress.current is None else progress.current
