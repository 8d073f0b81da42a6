"""Processes that share a store of tasks, what they note, and the store as it is seen from outside.

Owns the life of the processes: each is started, killed, frozen and thawed here, and is ended with the fleet.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.durability.program import Settings, make_store
from tests.support.environments import ROOT
from tests.support.limits import HANG_SECONDS
from trio_mcp import SQLiteTaskStore
from trio_mcp.tasks.record import utc_now
from trio_mcp.tasks.store import TaskStore
from trio_mcp.tasks.stored_task import StoredTask

SHORT_LEASE: Final = 3.0
"""After so many seconds others take the tasks of a process that was killed or frozen."""

PAGE: Final = 500


@attrs.frozen
class Note:
    """What a process has noted: a tool that it has `begun`, a `step`, what was `kept`, and how it ended."""

    member: str
    process: int
    what: str
    call: str
    attempt: int = 0
    number: int = 0


class Member:
    """One process of a fleet."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.url = ""
        self._process = process
        self._log = log

    def __repr__(self) -> str:
        return f"<{self.name}, process {self.id}>"

    @property
    def id(self) -> int:
        """The id of the process."""
        return self._process.pid

    def kill(self) -> None:
        """End it as `kill -9` does, also if it is frozen; return when it has ended."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Stop it with SIGSTOP, and return when it stands still."""
        self._process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.id, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"{self} has ended: {self.read_log()}"

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def require_alive(self) -> None:
        """Raise AssertionError with its log if it has ended by itself."""
        assert self._process.poll() is None, f"{self} has ended by itself: {self.read_log()}"

    def read_log(self) -> str:
        """What it has written to stderr, and its end alone if that is long."""
        return self._log.read_text(errors="replace")[-4000:]


class Fleet:
    """The processes by name, the notes of all of them in their order, and their store."""

    def __init__(self, directory: Path, store: str, lease: float) -> None:
        self.members: dict[str, Member] = {}
        self.notes: list[Note] = []
        self.store = store
        self.lease = lease
        self._directory = directory
        self._pipe = directory / "notes"
        self._generation_file = directory / "generation"
        self._noted = trio.lowlevel.ParkingLot()
        os.mkfifo(self._pipe)
        self.generation = 0

    @property
    def generation(self) -> int:
        """What tools wait for before they end."""
        return int(self._generation_file.read_text())

    @generation.setter
    def generation(self, value: int) -> None:
        newer = self._directory / "generation.new"
        newer.write_text(str(value))
        newer.replace(self._generation_file)

    async def start(self, *names: str, role: str = "serve", max_running: int = 60) -> None:
        """Start processes, side by side, and return when they are ready."""
        seen = len(self.notes)
        for name in names:
            log = self._directory / f"{name}.log"
            settings = Settings(
                name=name,
                role=role,
                store=self.store,
                lease=self.lease,
                notes=str(self._pipe),
                generation=str(self._generation_file),
                max_running=max_running,
            )
            command = [sys.executable, "-m", "tests.durability.program", json.dumps(attrs.asdict(settings))]
            process = await trio.to_thread.run_sync(_start, command, log)
            self.members[name] = Member(name, process, log)
        for name in names:
            note = await self.wait_note("ready", start=seen, process=self.members[name].id)
            self.members[name].url = note.call

    async def wait_note(
        self,
        *what: str,
        start: int = 0,
        call: str | None = None,
        process: int | None = None,
        least_attempt: int = 0,
    ) -> Note:
        """Wait for a note that says one of `what`, from that number `start` on.

        It is of this call and this process, if they are given, and of no attempt before `least_attempt`.
        """
        while True:
            for note in self.notes[start:]:
                if (
                    note.what in what
                    and call in (None, note.call)
                    and process in (None, note.process)
                    and note.attempt >= least_attempt
                ):
                    return note
            start = len(self.notes)
            await self.wait_notes(start + 1)

    async def wait_notes(self, count: int) -> None:
        """Wait until there are so many notes."""
        with trio.move_on_after(HANG_SECONDS) as scope:
            while len(self.notes) < count:
                await self._noted.park()
        assert not scope.cancelled_caught, f"nothing is noted any more; {self.describe()}"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read what is noted, until cancelled."""
        # Opened for writing too, so that it has no end when the last process is gone.
        async with trio.lowlevel.FdStream(os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)) as stream:
            task_status.started()
            rest = b""
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                self.notes += (Note(*json.loads(line)) for line in lines)
                self._noted.unpark_all()

    def end(self) -> None:
        """Kill all processes."""
        for member in self.members.values():
            member.kill()

    def describe(self) -> str:
        """The logs of the processes, for a failure."""
        return "\n".join(f"{member}: {member.read_log()}" for member in self.members.values())

    async def read_store(self) -> dict[str, StoredTask]:
        """All that is stored now, by the ids of the tasks, as any other process reads it."""
        store: TaskStore
        if self.store.startswith("sqlite:"):
            store = SQLiteTaskStore(self.store.removeprefix("sqlite:"), read_only=True)
        else:
            store = make_store(self.store, HANG_SECONDS)
        async with store.open():
            return await read_all(store)


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)


async def read_all(store: TaskStore) -> dict[str, StoredTask]:
    """All that a store keeps, by the ids of the tasks."""
    found: dict[str, StoredTask] = {}
    cursor = None
    while True:
        page = await store.list_page(None, cursor, PAGE, utc_now())
        for record in page.records:
            task = await store.load(record.id)
            assert task is not None, f"task {record.id} is listed, but cannot be read"
            found[record.id] = task
        cursor = page.next_cursor
        if cursor is None:
            return found


@asynccontextmanager
async def open_fleet(directory: Path, store: str, lease: float = SHORT_LEASE) -> AsyncIterator[Fleet]:
    """A fleet without processes yet; those that are started in the block are ended with it."""
    fleet = Fleet(directory, store, lease)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(fleet.serve)
            yield fleet
            nursery.cancel_scope.cancel()
    finally:
        fleet.end()
