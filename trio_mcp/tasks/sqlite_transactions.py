"""The transactions of a `SQLiteTaskStore`: many calls become one.

Owns what is committed together, and what happens if that fails. Knows no statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import outcome

from trio_mcp.tasks.sqlite_file import is_busy, store_error
from trio_mcp.tasks.sqlite_jobs import CreateJob, Job, JobKind, PutJob, Told
from trio_mcp.tasks.sqlite_tables import Tables


class Transactions:
    """Runs jobs on `tables`; `commits` counts what was committed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.commits = 0

    def run(self, jobs: Sequence[Job]) -> Told:
        """Do all jobs in one transaction, and return what has changed when it is committed.

        If SQLite refuses it, each job gets a transaction of its own, so that one that fails fails alone.
        """
        try:
            if any(job.kind is not JobKind.READ for job in jobs):
                return self._transact(jobs)
            self._run_each(jobs)
        except (sqlite3.Error, OverflowError) as error:
            if len(jobs) > 1 and not (isinstance(error, sqlite3.Error) and is_busy(error)):
                told = Told()
                for job in jobs:
                    told.add(self.run([job]))
                return told
            refusal = store_error(self._tables.path, error)
            for job in jobs:
                job.result = outcome.Error(refusal)
        return Told()

    def _transact(self, jobs: Sequence[Job]) -> Told:
        tables = self._tables
        tables.begin()
        try:
            # What is only read comes first, so that it parts no groups.
            self._run_each([job for job in jobs if job.kind is JobKind.READ])
            for group in _grouped([job for job in jobs if job.kind is not JobKind.READ]):
                if len(group) == 1 or not self._run_group(group):
                    self._run_each(group)
            tables.db.execute("COMMIT")
        finally:
            tables.roll_back()
        self.commits += 1
        return tables.told

    def _run_each(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.result = outcome.capture(job.run, self._tables)
            if isinstance(job.result, outcome.Error):
                error = job.result.error
                if isinstance(error, (sqlite3.Error, OverflowError)):
                    raise error

    def _run_group(self, group: Sequence[Job]) -> bool:
        """Do jobs of one kind together; False, and nothing done, if each needs a look of its own."""
        creations = [job.new for job in group if isinstance(job, CreateJob)]
        if creations:
            if not self._tables.create_all(creations):
                return False
            for job in group:
                job.result = outcome.Value(None)
            return True
        puts = [job for job in group if isinstance(job, PutJob)]
        lost = self._tables.put_all([change for job in puts for change in job.changes])
        if lost is None:
            return False
        for job in puts:
            ids = [each.change.record.id for each in job.changes]
            job.result = outcome.Value([task_id for task_id in ids if task_id in lost])
        return True


def _grouped(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs in an order that has the same effect: creations together, and changes together.

    Those of different tasks may change places. One of a task that is in a group already, and every other
    job, ends the groups.
    """
    creations: list[Job] = []
    puts: list[Job] = []
    seen: set[str] = set()
    for job in jobs:
        if isinstance(job, CreateJob):
            ids, group = [job.new.record.id], creations
        elif isinstance(job, PutJob):
            ids, group = [each.change.record.id for each in job.changes], puts
        else:
            ids, group = [], None
        if group is None or not seen.isdisjoint(ids) or len(set(ids)) < len(ids):
            yield from (each for each in (creations, puts) if each)
            creations, puts, seen = [], [], set()
            if group is None or len(set(ids)) < len(ids):
                yield [job]
                continue
            group = creations if isinstance(job, CreateJob) else puts
        group.append(job)
        seen.update(ids)
    yield from (each for each in (creations, puts) if each)
