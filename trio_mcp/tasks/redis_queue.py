"""The queue of tasks in a Redis or Valkey server, and the tasks of processes that have died.

Owns how tasks are claimed, released and taken over. The rules are in `redis_scripts.py`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Final

import trio
from msgspec import structs

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks import redis_scripts as scripts
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.recovery import recovered
from trio_mcp.tasks.redis_link import ServerAwayError
from trio_mcp.tasks.redis_session import RedisSession
from trio_mcp.tasks.redis_values import (
    UNLISTED,
    flag,
    key_bytes,
    moment_argument,
    questions_argument,
)
from trio_mcp.tasks.store import EXPIRY_SECONDS, TaskChange
from trio_mcp.tasks.stored_codec import encode_record, to_microseconds
from trio_mcp.tasks.stored_task import StoredTask

_TRIES: Final = 100  # of changes that others may overtake

Put = Callable[[Sequence[TaskChange]], Awaitable[Collection[str]]]


class RedisQueue:
    """The queue under the keys of `session`, with methods of a TaskStore; `put` is that of the store."""

    def __init__(self, session: RedisSession, put: Put) -> None:
        self._session = session
        self._put = put

    async def release(self, record: TaskRecord, claim: int, ready_at: datetime | None = None) -> bool:
        """Put a task that is held under `claim` back into the queue; False if it is lost. Checkpoints.

        If the server is away, it is put back when the server is back, as it is stored.
        """
        self._session.lease.check()
        arguments = (
            *(key_bytes(record.id), self._session.lease.holder, claim, record.version, encode_record(record)),
            *(moment_argument(ready_at), moment_argument(record.expires_at), questions_argument(record)),
        )
        try:
            answer = await self._session.change(scripts.RELEASE, *arguments)
        except ServerAwayError:
            self._session.give_up([record.id])
            raise
        self._session.held.discard(record.id)
        return bool(answer == b"kept")

    async def claim(self, tools: Collection[str], limit: int, now: datetime) -> Sequence[StoredTask]:
        """Claim up to `limit` tasks of `tools` that are in the queue and ready by `now`. Checkpoints."""
        holder = await self._session.hold()
        names = [key_bytes(tool) for tool in tools]
        await trio.lowlevel.checkpoint_if_cancelled()
        tasks: list[StoredTask] = []
        # What was claimed must be known to this process, or nobody would run it. Each step ends in time.
        with trio.CancelScope(shield=True):
            try:
                claimed = await self._session.run(scripts.CLAIM, holder, to_microseconds(now), limit, *names)
            except ServerAwayError as error:
                self._session.held.are_in_doubt |= error.was_sent
                raise
            if claimed is None:
                self._session.note_dead(holder)
            else:
                ids = [one.decode(errors="surrogatepass") for one in claimed]
                tasks += await self._begin(ids, holder, now)
        return tasks

    async def _begin(self, ids: Sequence[str], holder: str, now: datetime) -> list[StoredTask]:
        """Count the attempt of tasks that were claimed, and return those that are still held."""
        for task_id in ids:
            self._session.held.add(task_id)
        try:
            tasks = []
            for task in await self._session.load_all(ids):
                if task is not None and task.holder == holder:
                    record = task.record.changed(now, attempt=task.record.attempt + 1)
                    tasks.append(structs.replace(task, record=record))
            lost = set(await self._put([TaskChange(task.record, task.claim) for task in tasks]))
        except TaskStoreError:
            self._session.give_up(ids)
            raise
        kept = [task for task in tasks if task.record.id not in lost]
        for task_id in {*ids} - {task.record.id for task in kept}:
            self._session.held.discard(task_id)
        return kept

    async def wait_claimable(self, tools: Collection[str], now: datetime) -> None:
        """Wait until `claim` may return something, counted from `now`, or was unable to. Checkpoints."""
        queued = self._session.watching.queued
        await self._session.watching.listen_to(queued)
        seen = queued.count
        try:
            first = await self._session.run(scripts.PEEK, *map(key_bytes, tools))
        except ServerAwayError:
            await self._session.link.wait_up()
            return
        await queued.wait(seen, _seconds_until(first, now))

    async def wait_sweep(self, now: datetime) -> None:
        """Wait until a process may be dead, or a task has expired long ago, counted from `now`. Checkpoints.

        The processes do not wake up all at once. While no other process holds a task, none wakes up.
        """
        leases = self._session.watching.leases
        await self._session.watching.listen_to(leases)
        seen = leases.count
        try:
            left, expiry = await self._session.run(scripts.NEXT_SWEEP, self._session.lease.holder)
        except ServerAwayError:
            await self._session.link.wait_up()
            return
        chance = random.random()
        seconds = math.inf if left == b"" else float(left) / 1000 + chance * self._session.lease.seconds / 15
        expired = _seconds_until(expiry, now) + EXPIRY_SECONDS * (1 + chance)
        await leases.wait(seen, min(seconds, expired))

    async def recover(self, now: datetime) -> Sequence[TaskRecord]:
        """Queue or fail the tasks of processes whose lease has ended. Checkpoints."""
        await trio.lowlevel.checkpoint()
        records: list[TaskRecord] = []
        while taken := await self._session.run(scripts.TAKE_DEAD):
            holder, ids = taken[0].decode(), [one.decode(errors="surrogatepass") for one in taken[1]]
            for task_id in ids:
                record = await self._recover_one(task_id, holder, now)
                if record is not None:
                    records.append(record)
            await self._session.run(scripts.BURY, holder)
        return records

    async def _recover_one(self, task_id: str, holder: str, now: datetime) -> TaskRecord | None:
        for _ in range(_TRIES):
            task = (await self._session.load_all([task_id]))[0]
            if task is None or task.holder != holder or task.record.has_expired(now):
                return None
            record = recovered(task, now).record
            if await replace(self._session, task.record, record, holder) == b"kept":
                return record
        return None


def _seconds_until(moment: bytes, now: datetime) -> float:
    """The seconds from `now` until a time in microseconds; infinity for none."""
    return math.inf if moment == b"" else (float(moment) - to_microseconds(now)) / 1e6


async def replace(session: RedisSession, record: TaskRecord, newer: TaskRecord, holder: str) -> bytes:
    """Keep `newer` in the place of `record`, if that is still there; see the script REPLACE."""
    answer: bytes = await session.run(
        scripts.REPLACE,
        *(key_bytes(record.id), session.lease.holder, record.version, newer.version, encode_record(newer)),
        *(flag(newer.is_final), moment_argument(newer.expires_at), questions_argument(newer), UNLISTED),
        holder,
    )
    return answer
