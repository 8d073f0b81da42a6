"""What one opening of a RedisTaskStore is made of: its connections, its lease, and what it holds.

Owns their life, and how what is in doubt is settled when a connection is made again. Knows no rule of tasks.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import trio

from trio_mcp.concurrency.nursery import open_service_nursery
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks import redis_scripts as scripts
from trio_mcp.tasks.cursors import Cursors
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.redis_address import RedisAddress
from trio_mcp.tasks.redis_held import HeldIds
from trio_mcp.tasks.redis_lease import Clock, Lease, Standing
from trio_mcp.tasks.redis_library import BaseConnection, ResponseError
from trio_mcp.tasks.redis_link import Argument, RedisLink, ServerAwayError, send_all
from trio_mcp.tasks.redis_values import FIELDS, flag, key_bytes, read_record, read_stored
from trio_mcp.tasks.redis_watching import RedisWatching
from trio_mcp.tasks.store import STORE_SECONDS
from trio_mcp.tasks.stored_codec import LAYOUT
from trio_mcp.tasks.stored_task import StoredTask

logger = logging.getLogger("trio_mcp.tasks")


@attrs.frozen
class SessionSettings:
    """Where the server is, how all keys begin, and the times in seconds."""

    address: RedisAddress
    root: bytes
    lease: float
    timeout: float
    clock: Clock


@asynccontextmanager
async def open_session(settings: SessionSettings) -> AsyncIterator[RedisSession]:
    """Connect, and hold a lease for as long as the block lasts. Checkpoints; raises TaskStoreError."""
    session = RedisSession(settings)
    async with open_service_nursery() as nursery:
        await session.start(nursery)
        try:
            yield session
        finally:
            with trio.move_on_after(STORE_SECONDS, shield=True):
                await session.leave()
            nursery.cancel_scope.cancel()


class RedisSession:
    """The connections of one opening, its lease, and what this process holds; `open_session` makes it."""

    cursors: Cursors

    def __init__(self, settings: SessionSettings) -> None:
        address, seconds = settings.address, settings.timeout
        self.address = address
        self.root = settings.root
        self.held = HeldIds()
        self.lease = Lease(settings.lease, settings.clock, self._renew, self.held.is_empty, self.held.clear)
        self.link = RedisLink(address, seconds, self._greet)
        self.watching = RedisWatching(
            address, seconds, self.root, self.read_records, read_record, self.held.note_changed
        )
        self._listening: str | None = None
        self._connected: tuple[bytes, int] | None = None  # the run of the server, and our id in it

    async def start(self, nursery: trio.Nursery) -> None:
        """Connect, and keep connections and lease in `nursery`. Checkpoints; raises TaskStoreError."""
        await nursery.start(self.link.run)
        layout, key = self.root + b"layout", self.root + b"cursor-key"
        _, _, found, secret = await self.link.ask_all(
            [
                (b"SET", layout, LAYOUT, b"NX"),
                (b"SET", key, secrets.token_bytes(32), b"NX"),
                (b"GET", layout),
                (b"GET", key),
            ]
        )
        if int(found) > LAYOUT:
            raise TaskStoreError(
                f"the tasks at {self.address} were written by a newer version of trio_mcp: update this one"
            )
        self.cursors = Cursors(secret)
        await self._warn_of_eviction()
        await nursery.start(self.watching.run)
        await self.hold()
        nursery.start_soon(self.lease.keep)
        nursery.start_soon(self.lease.watch)

    async def _warn_of_eviction(self) -> None:
        """Log a warning if the server throws away tasks when its memory is full, and says so."""
        with suppress(TaskStoreError):
            info = bytes(await self.link.ask(b"INFO", b"memory")).decode().splitlines()
            values = dict(line.split(":", 1) for line in info if ":" in line)
            policy = values.get("maxmemory_policy", "noeviction")
            if policy != "noeviction" and values.get("maxmemory") != "0":
                logger.warning(
                    "%s throws away tasks when its memory is full: "
                    "set its maxmemory-policy to noeviction, not %s",
                    self.address,
                    policy,
                )

    async def leave(self) -> None:
        """Say that this process holds nothing any more, if the server hears it in time. Checkpoints."""
        # Others need not wait for the end of the lease then.
        with suppress(TaskStoreError):
            await self.run(scripts.LEAVE, self.lease.holder)

    async def hold(self) -> str:
        """The id under which tasks can be held now, of whose changes this process hears."""
        holder = await self.lease.hold()
        if holder != self._listening:
            with trio.move_on_after(self.link.seconds) as scope:
                before, self._listening = self._listening, None
                await self.watching.listen_as(holder, before)
                self._listening = holder
            if scope.cancelled_caught:
                raise ServerAwayError(f"{self.address} confirms no subscription")
        return holder

    async def _renew(self, holder: str, is_new: bool, may_rest: bool) -> Standing:
        # Both at one time, because what costs an idle process most is to wake up.
        self.watching.ping()
        milliseconds = int(self.lease.seconds * 1000)
        return Standing(await self.run(scripts.RENEW, holder, milliseconds, flag(is_new), flag(may_rest)))

    def note_dead(self, holder: str) -> None:
        """The server counts this process as dead."""
        if holder == self.lease.holder and self.lease.is_registered:
            self.lease.lose()

    def give_up(self, ids: Sequence[str]) -> None:
        """Put tasks that nobody runs here back into the queue when the server is back."""
        for task_id in ids:
            self.held.discard(task_id)
        self.held.are_in_doubt = True

    async def _greet(self, connection: BaseConnection) -> None:
        """Prepare a new connection, before others use it."""
        version = connection.server_version or "0"
        if int(version.split(".")[0]) < 7:
            raise TaskStoreError(f"runs version {version}; tasks need Redis 7 or Valkey 8, or newer")
        run = await _find_run(connection)
        if self._connected is not None and self._connected[0] == run:
            # What was sent over the old connection must not come behind what is sent now.
            with suppress(ResponseError):
                await send_all(connection, [(b"CLIENT", b"KILL", b"ID", self._connected[1])])
        if run is not None and connection.client_id is not None:
            self._connected = run, connection.client_id
        await send_all(connection, [(b"SCRIPT", b"LOAD", script.text) for script in scripts.ALL])
        await self._settle_doubts(connection)

    async def _settle_doubts(self, connection: BaseConnection) -> None:
        """Take back what was created, and return what was claimed, by calls whose answers were lost."""
        held, holder = self.held, self.lease.holder
        doubts = [(key_bytes(task_id), b"1") for task_id in held.maybe_created]
        if held.are_in_doubt:
            (ids,) = await send_all(connection, [(b"SMEMBERS", self.root + b"held:" + holder.encode())])
            doubts += [(one, b"0") for one in ids if one.decode(errors="surrogatepass") not in held]
        await send_all(
            connection,
            [
                (b"EVALSHA", scripts.RETURN.sha, 1, self.root, task_id, holder, is_new)
                for task_id, is_new in doubts
            ],
        )
        if holder == self.lease.holder:
            held.maybe_created.clear()
            held.are_in_doubt = False

    async def run(self, script: scripts.Script, *arguments: Argument) -> Any:
        """Run a script, and return what it returns. Checkpoints; raises TaskStoreError."""
        return await self.link.run_script(script, self.root, *arguments)

    async def change(self, script: scripts.Script, *arguments: Argument) -> Any:
        """Run a script whose answer must be known, also if the call is cancelled meanwhile."""
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):  # it ends within the timeout
            return await self.run(script, *arguments)

    async def read_records(self, ids: Sequence[str]) -> list[TaskRecord | None]:
        """The records of tasks, None for each that is not there. Checkpoints; raises TaskStoreError."""
        answers = await self.link.ask_all([(b"HGET", self._task(task_id), b"r") for task_id in ids])
        return [None if data is None else read_record(data) for data in answers]

    async def load_all(self, ids: Sequence[str]) -> list[StoredTask | None]:
        """All that is kept of these tasks. Checkpoints; raises TaskStoreError."""
        commands: list[Sequence[Argument]] = []
        for task_id in ids:
            task = self._task(task_id)
            commands += [(b"HMGET", task, *FIELDS), (b"HGETALL", task + b":a")]
        answers = await self.link.ask_all(commands)
        return [read_stored(fields, kept) for fields, kept in zip(answers[::2], answers[1::2], strict=True)]

    def _task(self, task_id: str) -> bytes:
        return self.root + b"t:" + key_bytes(task_id)


async def _find_run(connection: BaseConnection) -> bytes | None:
    """What differs after each start of the server, whose ids of clients begin anew; None if untold."""
    with suppress(ResponseError):
        (info,) = await send_all(connection, [(b"INFO", b"server")])
        for line in bytes(info).splitlines():
            if line.startswith(b"run_id:"):
                return line
    return None
