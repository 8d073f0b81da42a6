"""The tables of a `SQLiteTaskStore`: what its thread reads and writes.

Owns the statements. Each method is a part of a transaction that others begin and end. Creations and changes
that wait together are done by few statements, since each costs the thread a wait for the interpreter while
the event loop is busy.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from trio_mcp.tasks.record import Outcome, TaskRecord, TaskStatus
from trio_mcp.tasks.sqlite_file import store_error
from trio_mcp.tasks.sqlite_jobs import EncodedChange, NewTask, Told
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.store_checks import full_store
from trio_mcp.tasks.stored_codec import (
    decode_answers,
    decode_record,
    decode_work,
    encode_answers,
    from_microseconds,
    to_microseconds,
)
from trio_mcp.tasks.stored_task import StoredTask

T = TypeVar("T")

CHUNKS: Final = (64, 8, 1)
"""How many rows one statement takes: few sizes, so that the statements stay prepared."""

_COLUMNS: Final = "t.seq, t.record, t.holder, t.claim, t.ready_at, t.offset"
_STORED: Final = (
    f"SELECT {_COLUMNS}, works.data, checkpoints.data, answers.data FROM tasks t"
    " LEFT JOIN works ON works.task = t.seq LEFT JOIN checkpoints ON checkpoints.task = t.seq"
    " LEFT JOIN answers ON answers.task = t.seq "
)
ALIVE: Final = "(t.expires_at IS NULL OR t.expires_at > ?)"
"""The condition that a task has not expired by a time."""


def _values(columns: int, rows: int) -> str:
    """The rows of a VALUES clause."""
    row = "(" + ",".join("?" * columns) + ")"
    return ",".join([row] * rows)


def _in_chunks(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, list[Any]]]:
    """`rows` in pieces of few sizes: how many, and all their values."""
    at = 0
    for size in CHUNKS:
        while len(rows) - at >= size:
            yield size, [value for row in rows[at : at + size] for value in row]
            at += size


def open_tables(db: sqlite3.Connection, path: str, holder: str, max_records: int) -> Tables:
    """The tables behind `db`; raises TaskStoreError if they cannot be read."""
    try:
        return Tables(db, path, holder, max_records)
    except sqlite3.Error as error:
        raise store_error(path, error) from error


class Tables:
    """The tables behind one connection."""

    def __init__(self, db: sqlite3.Connection, path: str, holder: str, max_records: int) -> None:
        self.db = db
        self.path = path
        self.holder = holder
        self._max_records = max_records
        self.told = Told()
        self._forgotten: deque[str] = deque(maxlen=max_records)  # whom `delete_expired` has not told yet
        self._count = self._read_count()
        (self._queued,) = db.execute("SELECT coalesce(max(queued), 0) FROM tasks").fetchone()

    def begin(self) -> None:
        """Begin to write: what changes from now on is told by `told`."""
        self.told = Told()
        self.db.execute("BEGIN IMMEDIATE")

    def roll_back(self) -> None:
        """Undo what was written since `begin`, if it was not committed."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
            self._count = self._read_count()

    def _read_count(self) -> int:
        (count,) = self.db.execute("SELECT count(*) FROM tasks").fetchone()
        return int(count)

    # create

    def create(self, new: NewTask) -> StoredTask | None:
        """Keep a new task; returns the task that has its key already, if there is one."""
        record = new.record
        created_at = to_microseconds(record.created_at)
        if new.key is not None:
            known = self._find("t.key = ?", new.key)
            if known is not None:
                if known[1].record.expires_at is None or known[1].record.expires_at > record.created_at:
                    return known[1]
                self.delete(known[1].record.id)
                self._forgotten.append(known[1].record.id)
        if self.db.execute("SELECT 1 FROM tasks WHERE id = ?", (record.id,)).fetchone() is not None:
            raise ValueError(f"task {record.id} exists already")
        if new.refusal is not None:
            raise new.refusal
        if self._count >= self._max_records:
            self._forgotten.extend(self._forget_expired(created_at))
        if self._count >= self._max_records:
            raise full_store(self._max_records)
        self._insert([new])
        return None

    def create_all(self, new: Sequence[NewTask]) -> bool:
        """Keep new tasks together; False, and nothing done, if each needs a look of its own."""
        if self._count + len(new) > self._max_records or any(one.key or one.refusal for one in new):
            return False
        if len({(one.record.owner, one.record.created_at) for one in new}) < len(new):
            return False  # their order at one moment is that of the statements
        self._insert(new)
        return True

    def _insert(self, new: Sequence[NewTask]) -> None:
        rows: list[tuple[Any, ...]] = []
        for one in new:
            if one.is_queued:
                self._queued += 1
                self.told.is_queued = True
            is_held = not one.is_queued and not one.record.is_final
            rows.append(
                (
                    *one.row,
                    one.key,
                    self.holder if is_held else None,
                    int(is_held),
                    self._queued if one.is_queued else None,
                )
            )
        for size, parameters in _in_chunks(rows):
            self.db.execute(
                "INSERT INTO tasks (id, owner, tool, created_at, expires_at, version, is_final, is_listed,"
                " record, key, holder, claim, queued, number) SELECT v.*, coalesce((SELECT max(number) + 1"
                " FROM tasks WHERE owner = v.column2 AND created_at = v.column4 AND is_listed), 0)"
                f" FROM (VALUES {_values(13, size)}) v",
                parameters,
            )
        works = [(one.record.id, one.work) for one in new if one.work is not None]
        for size, parameters in _in_chunks(works):
            self.db.execute(
                "INSERT INTO works SELECT t.seq, v.column2 FROM"
                f" (VALUES {_values(2, size)}) v CROSS JOIN tasks t ON t.id = v.column1",
                parameters,
            )
        self._count += len(new)

    # put

    def put(self, changes: Sequence[EncodedChange]) -> Collection[str]:
        """Keep each change that is newer, and return the ids of tasks that are lost."""
        lost: list[str] = []
        if any(each.refusal for each in changes):
            refused = self._refused(changes)
            for i, each in enumerate(changes):
                if each.refusal is not None and i not in refused:
                    raise each.refusal
        ids = [each.change.record.id for each in changes]
        if len(set(ids)) == len(ids):
            return self.put_all(changes) or ()
        for each in changes:  # several of one task count in their order
            lost += self.put_all([each]) or ()
        return lost

    def put_all(self, changes: Sequence[EncodedChange]) -> list[str] | None:
        """Keep changes of different tasks; None, and nothing done, if one of them is too large."""
        refused = self._refused(changes)
        kept = [each for i, each in enumerate(changes) if i not in refused]
        if any(each.refusal for each in kept):
            return None
        told = [
            (each.change.record.id, each.count, each.last, each.reports)
            for each in kept
            if each.reports is not None
        ]
        for size, parameters in _in_chunks(told):
            self.db.execute(
                "INSERT INTO reports SELECT t.seq, t.told + v.column2, v.column3, v.column4"
                f" FROM (VALUES {_values(4, size)}) v CROSS JOIN tasks t ON t.id = v.column1",
                parameters,
            )
        for each in kept:
            if each.change.checkpoint is not None and not each.change.record.is_final:
                self.db.execute(
                    "INSERT OR REPLACE INTO checkpoints SELECT seq, ? FROM tasks WHERE id = ?",
                    (bytes(each.change.checkpoint), each.change.record.id),
                )
        for is_final in (False, True):
            self._update([each for each in kept if each.change.record.is_final == is_final], is_final)
        self.told.records += [each.change.record for each in kept]
        return [changes[i].change.record.id for i, is_lost in refused.items() if is_lost]

    def _refused(self, changes: Sequence[EncodedChange]) -> dict[int, bool]:
        """The numbers of changes that change nothing, and whether their tasks are lost."""
        refused: dict[int, bool] = {}
        rows = [
            (i, each.change.record.id, each.change.claim, each.change.record.version)
            for i, each in enumerate(changes)
        ]
        for size, parameters in _in_chunks(rows):
            # One row with all of them: each row that is fetched would be another wait.
            (found,) = self.db.execute(
                "SELECT json_group_array(json_array(v.column1, t.id IS NULL))"
                f" FROM (VALUES {_values(4, size)}) v"
                " LEFT JOIN tasks t ON t.id = v.column2 AND t.holder = ? AND t.claim = v.column3"
                " WHERE t.id IS NULL OR t.version >= v.column4",
                (*parameters, self.holder),
            ).fetchone()
            refused.update((i, bool(is_lost)) for i, is_lost in json.loads(found))
        return refused

    def _update(self, changes: Sequence[EncodedChange], is_final: bool) -> None:
        rows = [
            (
                each.change.record.id,
                each.record,
                each.change.record.version,
                each.expires_at,
                each.count,
                each.last,
            )
            for each in changes
        ]
        end = ", is_final = 1, holder = NULL, queued = NULL, ready_at = NULL" if is_final else ""
        for size, parameters in _in_chunks(rows):
            self.db.execute(
                "UPDATE tasks SET record = v.column2, version = v.column3, expires_at = v.column4,"
                f" told = told + v.column5, offset = max(offset, v.column6){end}"
                f" FROM (VALUES {_values(6, size)}) v WHERE tasks.id = v.column1",
                parameters,
            )

    # one task

    def read_record(self, task_id: str, now: int) -> TaskRecord | None:
        """The record of a task that has not expired."""
        row = self.db.execute(
            f"SELECT t.record FROM tasks t WHERE t.id = ? AND {ALIVE}", (task_id, now)
        ).fetchone()
        return None if row is None else self.decode(decode_record, row[0])

    def load(self, task_id: str) -> StoredTask | None:
        """All that is kept of a task."""
        found = self._find("t.id = ?", task_id)
        return None if found is None else found[1]

    def read_version(self, task_id: str) -> int | None:
        """The version of the record of a task."""
        row = self.db.execute("SELECT version FROM tasks WHERE id = ?", (task_id,)).fetchone()
        return None if row is None else int(row[0])

    def release(self, each: EncodedChange, ready_at: int | None) -> bool:
        """Put a task that is held under the claim of the change back into the queue."""
        record = each.change.record
        refused = self._refused([each])
        if refused.get(0):
            return False
        if each.refusal is not None:
            raise each.refusal
        if not refused:
            self.put_all([each])
        if not record.is_final:
            self.enqueue(record.id, ready_at)
        return True

    def enqueue(self, task_id: str, ready_at: int | None = None) -> None:
        """Put a task into the queue, behind all others."""
        self._queued += 1
        self.db.execute(
            "UPDATE tasks SET holder = NULL, queued = ?, ready_at = ? WHERE id = ?",
            (self._queued, ready_at, task_id),
        )
        self.told.is_queued = True

    def answer(self, task_id: str, answers: Mapping[str, Raw], now: int) -> None:
        """Keep answers to the questions of a task that have none."""
        found = self._find(f"t.is_final = 0 AND t.id = ? AND {ALIVE}", task_id, now)
        if found is None:
            return
        seq, task = found
        new = {key: raw for key, raw in answers.items() if key in task.record.inputs}
        if new.keys() - task.answers.keys():
            self.db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (seq, encode_answers({**new, **task.answers}))
            )

    def cancel(self, task_id: str, now: int) -> TaskRecord | None:
        """Move a task to "cancelled", whoever holds it."""
        record = self.read_record(task_id, now)
        if record is None or record.is_final:
            return record
        moment = from_microseconds(now)
        record = record.moved(TaskStatus.CANCELLED, moment, outcome=Outcome("cancelled"), inputs={})
        self.replace(record)
        return record

    def delete(self, task_id: str) -> None:
        """Forget a task."""
        count = self.db.execute("DELETE FROM tasks WHERE id = ?", (task_id,)).rowcount
        if count:
            self._count -= count
            self.told.gone.append(task_id)

    def delete_expired(self, now: int) -> list[str]:
        """Forget what has expired by `now`; returns the ids, and those that gave way to new tasks."""
        ids = [*self._forgotten, *self._forget_expired(now)]
        self._forgotten.clear()
        return ids

    def _forget_expired(self, now: int) -> list[str]:
        rows = self.db.execute("DELETE FROM tasks WHERE expires_at <= ? RETURNING id", (now,)).fetchall()
        ids = [task_id for (task_id,) in rows]
        self._count -= len(ids)
        self.told.gone += ids
        return ids

    # lists and reports

    def decode(self, decode: Callable[[bytes], T], data: bytes) -> T:
        """What `data` stands for; raises TaskStoreError if the file is damaged there."""
        try:
            return decode(data)
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise store_error(self.path, error) from error

    def replace(self, record: TaskRecord) -> None:
        """Keep a record that was made here in place of its older version."""
        self._update([EncodedChange.of(TaskChange(record))], record.is_final)
        self.told.records.append(record)

    def find_all(self, where: str, *parameters: Any) -> list[tuple[int, StoredTask]]:
        """The tasks of which a condition is true, and the numbers of their rows."""
        return [
            self._stored(row) for row in self.db.execute(f"{_STORED} WHERE {where}", parameters).fetchall()
        ]

    def _find(self, where: str, *parameters: Any) -> tuple[int, StoredTask] | None:
        return next(iter(self.find_all(where, *parameters)), None)

    def _stored(self, row: tuple[Any, ...]) -> tuple[int, StoredTask]:
        seq, record, holder, claim, ready_at, offset, work, checkpoint, answers = row
        return seq, StoredTask(
            record=self.decode(decode_record, record),
            work=None if work is None else self.decode(decode_work, work),
            holder=holder,
            claim=claim,
            ready_at=None if ready_at is None else from_microseconds(ready_at),
            checkpoint=None if checkpoint is None else Raw(checkpoint),
            answers={} if answers is None else self.decode(decode_answers, answers),
            offset=offset,
        )
