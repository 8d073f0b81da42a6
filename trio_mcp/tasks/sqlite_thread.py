"""The thread of a `SQLiteTaskStore`, to which all of its calls go.

Owns the hand-over between Trio and the thread, and which calls are committed together. Knows no SQL.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import outcome
import trio

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.sqlite_jobs import Job, JobKind, Told
from trio_mcp.tasks.sqlite_tables import Tables
from trio_mcp.tasks.sqlite_transactions import Transactions

CLOSE_SECONDS: Final = 5.0
"""How long a store that is closed waits for its thread, which a broken disk may hold up for ever."""

GATHER_SECONDS: Final = 0.005
"""How long a commit waits at most for as many calls as the last one had."""


class StoreThread:
    """Does jobs in a thread of its own; all that wait while it is busy are one transaction.

    Jobs of progress are committed at most every `pace` seconds, or with the next job of another kind.
    `on_told` is called in Trio's thread, in the order of the transactions, before the callers go on.
    """

    def __init__(self, pace: float, on_told: Callable[[Told], object]) -> None:
        self._pace = pace
        self._on_told = on_told
        self._token = trio.lowlevel.current_trio_token()
        self._ready = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._progress: deque[Job] = deque()
        self._next_progress = 0.0
        # Callers that got their results come again soon, and one commit for all is worth half of one's time.
        self._last_size = 0
        self._gather_until = 0.0
        self._is_waking = False
        self._is_closing = False
        self._transactions: Transactions | None = None
        self._thread: threading.Thread | None = None
        self.turns = 0

    @property
    def commits(self) -> int:
        """How many transactions have been committed."""
        return 0 if self._transactions is None else self._transactions.commits

    @property
    def waiting(self) -> int:
        """How many jobs wait to be taken."""
        return len(self._jobs) + len(self._progress)

    async def start(self, open_tables: Callable[[], tuple[Tables, Callable[[], None]]]) -> None:
        """Start the thread, which calls `open_tables` first; raises what that raises. Checkpoints.

        `open_tables` returns the tables, and what closes them. It is waited for also if cancelled.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        opening = Job(JobKind.READ, lambda tables: None, trio.lowlevel.current_task())
        self._thread = threading.Thread(
            target=self._work, args=(opening, open_tables), name="task store", daemon=True
        )
        self._thread.start()
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    async def run(self, job: Job) -> Any:
        """Have a job done, and return its result. Checkpoints.

        If cancelled before the thread has taken the job, nothing is done; later it is done, and returns.
        Raises TaskStoreError if the store is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closing or self._thread is None:
            raise TaskStoreError("the task store is not open")
        job.task = trio.lowlevel.current_task()
        jobs = self._progress if job.kind is JobKind.PROGRESS else self._jobs
        with self._ready:
            jobs.append(job)
        if not self._is_waking:
            # Not at once: what other tasks ask for in this turn of the loop shall be committed with it.
            self._is_waking = True
            self._token.run_sync_soon(self._wake)

        def abort(_: object) -> trio.lowlevel.Abort:
            with self._ready:
                if job not in jobs:
                    return trio.lowlevel.Abort.FAILED
                jobs.remove(job)
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    async def stop(self) -> None:
        """Let the thread end what it has begun and close its tables. Checkpoints.

        Jobs that it has not taken raise TaskStoreError. Returns after CLOSE_SECONDS at the latest.
        """
        self._is_closing = True
        with self._ready:
            left = [*self._progress, *self._jobs]
            self._progress.clear()
            self._jobs.clear()
            self._ready.notify()
        for job in left:
            job.result = outcome.Error(TaskStoreError("the task store was closed"))
        self._deliver(left, Told())
        assert self._thread is not None, "it was started"
        await trio.to_thread.run_sync(self._thread.join, CLOSE_SECONDS)

    def _wake(self) -> None:
        self._is_waking = False
        with self._ready:
            self._ready.notify()

    def _deliver(self, jobs: list[Job], told: Told) -> None:
        """Hand results to their callers; runs in Trio's thread."""
        self._on_told(told)
        for job in jobs:
            assert job.task is not None, "it was asked for"
            assert job.result is not None, "it was done"
            trio.lowlevel.reschedule(job.task, job.result)

    # in the thread

    def _work(self, opening: Job, open_tables: Callable[[], tuple[Tables, Callable[[], None]]]) -> None:
        opened = outcome.capture(open_tables)
        opening.result = outcome.Value(None) if isinstance(opened, outcome.Value) else opened
        self._hand_back([opening], Told())
        if isinstance(opened, outcome.Error):
            return
        tables, close = opened.unwrap()
        self._transactions = transactions = Transactions(tables)
        try:
            while jobs := self._take():
                started = time.monotonic()
                done = outcome.capture(transactions.run, jobs)
                now = time.monotonic()
                self._last_size = len(jobs)
                self._gather_until = now + min((now - started) / 2, GATHER_SECONDS)
                if isinstance(done, outcome.Error):  # a mistake of ours must not leave callers waiting
                    for job in jobs:
                        job.result = done
                    done = outcome.Value(Told())
                self._hand_back(jobs, done.unwrap())
        finally:
            close()

    def _take(self) -> list[Job]:
        """Wait for jobs that are due, and take them; none if the store is closing."""
        with self._ready:
            while not self._is_closing:
                self.turns += 1
                now = time.monotonic()
                is_due = bool(self._progress) and now >= self._next_progress
                if is_due or any(job.kind is JobKind.WRITE for job in self._jobs):
                    if now < self._gather_until and self.waiting < self._last_size:
                        self._ready.wait(self._gather_until - now)
                        continue
                    jobs = [*self._progress, *self._jobs]
                    if self._progress:
                        self._next_progress = now + self._pace
                    self._progress.clear()
                    self._jobs.clear()
                    return jobs
                if self._jobs:
                    jobs = [*self._jobs]
                    self._jobs.clear()
                    return jobs
                self._ready.wait(self._next_progress - now if self._progress else None)
        return []

    def _hand_back(self, jobs: list[Job], told: Told) -> None:
        with suppress(trio.RunFinishedError):  # nobody waits any more
            self._token.run_sync_soon(self._deliver, jobs, told)
