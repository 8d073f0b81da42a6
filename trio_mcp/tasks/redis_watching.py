"""What a Redis or Valkey server tells this process about tasks, over a connection of its own.

Owns the subscriptions, and keeps only the newest version of each task, however fast changes come. Whatever
may have been missed, because the connection was lost, is read again. Changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

import attrs
import trio

from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.redis_address import RedisAddress
from trio_mcp.tasks.redis_library import BaseConnection
from trio_mcp.tasks.redis_link import RedisLink, ServerAwayError

_FORGOTTEN: Final = b"-"
_PING_SECONDS: Final = 5.0
"""How often the connection is asked for while somebody follows a task; otherwise `ping` says when."""

_RETRY_SECONDS: Final = 0.2
_READ_AT_ONCE: Final = 100

ReadRecords = Callable[[Sequence[str]], Awaitable[Sequence[TaskRecord | None]]]


@attrs.define(eq=False)
class _Follower:
    """`seen` is the version from which on changes are told, None until it is known."""

    channel: LatestChannel[TaskRecord]
    seen: int | None = None


@attrs.define(eq=False)
class _Followed:
    """One task with those who follow it, and the newest of its records that was told of."""

    followers: set[_Follower] = attrs.field(factory=set)
    newest: TaskRecord | None = None

    def show(self, record: TaskRecord) -> None:
        if self.newest is None or record.version > self.newest.version:
            self.newest = record
            for follower in self.followers:
                self.show_newest(follower)

    def show_newest(self, follower: _Follower) -> None:
        newest = self.newest
        if newest is not None and follower.seen is not None and newest.version > follower.seen:
            follower.seen = newest.version
            follower.channel.offer(newest)


class Signal:
    """Counts what is told on one channel to all processes, and whatever may have been missed there."""

    def __init__(self, channel: bytes) -> None:
        self.channel = channel
        self.count = 0
        self._waiting = trio.lowlevel.ParkingLot()

    def note(self) -> None:
        """Something was told."""
        self.count += 1
        self._waiting.unpark_all()

    async def wait(self, seen: int, seconds: float) -> None:
        """Wait until `count` is no longer `seen`, but not longer than `seconds`. Checkpoints."""
        await trio.lowlevel.checkpoint()
        if self.count == seen:
            with trio.move_on_after(max(seconds, 0)):
                await self._waiting.park()


class RedisWatching:
    """The channels of one process, for as long as `run` runs.

    `read` returns the records of ids, None for those that are forgotten; `decode` makes a record of
    bytes. `when_told` is called with the id of a task that another process changed while it was held
    here, and with None if such a message may have been missed.
    """

    def __init__(
        self,
        address: RedisAddress,
        seconds: float,
        root: bytes,
        read: ReadRecords,
        decode: Callable[[bytes], TaskRecord],
        when_told: Callable[[str | None], None],
    ) -> None:
        self.link = RedisLink(address, seconds, self._greet, self._serve)
        self.queued = Signal(root + b"queued")
        """Something may have come into the queue."""
        self.leases = Signal(root + b"leases")
        """The lease of another process may be the first to end."""
        self._tasks_channel, self._holder_channel = root + b"c:", root + b"h:"
        self._signals = {signal.channel: signal for signal in (self.queued, self.leases)}
        self._read = read
        self._decode = decode
        self._when_told = when_told
        self._connection: BaseConnection | None = None
        self._channels: dict[bytes, trio.Event] = {}  # those that are wanted; set once they are subscribed
        self._due: Counter[bytes] = Counter()  # confirmations that are still to come
        self._followed: dict[str, _Followed] = {}
        self._newest: dict[str, bytes] = {}  # what was told of followed tasks and not shown yet
        self._unread: dict[str, None] = {}  # followed tasks of which more must be read
        self._wake_reader = trio.lowlevel.ParkingLot()
        self._wake_ping = trio.lowlevel.ParkingLot()
        self._ping_pause = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the subscriptions until cancelled; raises TaskStoreError if the first connection fails."""
        async with open_unwrapping_nursery() as nursery:
            await nursery.start(self.link.run)
            task_status.started()
            await self._read_again()

    async def listen_as(self, holder: str, before: str | None = None) -> None:
        """Hear what is told to `holder`, and not any more what is told to the one `before`. Checkpoints."""
        if before is not None:
            self._unlisten(self._holder_channel + before.encode())
        await self._listen(self._holder_channel + holder.encode())

    async def listen_to(self, signal: Signal) -> None:
        """From now on, `signal` counts. Checkpoints."""
        await self._listen(signal.channel)

    def ping(self) -> None:
        """Ask now whether the connection still is one."""
        self._wake_ping.unpark_all()

    @asynccontextmanager
    async def follow(self, task_id: str, channel: LatestChannel[TaskRecord]) -> AsyncIterator[None]:
        """Offer the changes of a task from now on; closes the channel if the task is forgotten.

        Entering checkpoints, and waits while the server is away.
        """
        followed = self._followed.setdefault(task_id, _Followed())
        follower = _Follower(channel)
        followed.followers.add(follower)
        if self._ping_pause.deadline == math.inf:
            self._ping_pause.deadline = trio.current_time() + _PING_SECONDS
        try:
            await self._listen(self._tasks_channel + task_id.encode())
            record = await self._read_one(task_id)
            if record is None:
                channel.close()
                self._drop(task_id, followed, follower)
            else:
                follower.seen = record.version
                followed.show_newest(follower)
            yield
        finally:
            self._drop(task_id, followed, follower)

    def _drop(self, task_id: str, followed: _Followed, follower: _Follower) -> None:
        followed.followers.discard(follower)
        if not followed.followers and self._followed.get(task_id) is followed:
            self._forget(task_id)

    def _forget(self, task_id: str) -> None:
        del self._followed[task_id]
        self._newest.pop(task_id, None)
        self._unread.pop(task_id, None)
        self._unlisten(self._tasks_channel + task_id.encode())

    async def _read_one(self, task_id: str) -> TaskRecord | None:
        while True:
            try:
                return (await self._read([task_id]))[0]
            except ServerAwayError:
                await trio.sleep(_RETRY_SECONDS)

    async def _read_again(self) -> None:
        """Read the tasks of which nothing but that they have changed is known."""
        while True:
            await trio.lowlevel.checkpoint()
            while not self._unread:
                await self._wake_reader.park()
            ids = list(self._unread)[:_READ_AT_ONCE]
            try:
                for task_id in ids:
                    del self._unread[task_id]
                records = await self._read(ids)
            except ServerAwayError:
                self._unread.update(dict.fromkeys(filter(self._followed.__contains__, ids)))
                await trio.sleep(_RETRY_SECONDS)
                continue
            except TaskStoreError:  # not records: whoever reads the tasks is told
                continue
            for task_id, record in zip(ids, records, strict=True):
                followed = self._followed.get(task_id)
                if followed is None:
                    continue
                if record is None:
                    self._end(task_id, followed)
                else:
                    followed.show(record)

    # the connection

    async def _listen(self, channel: bytes) -> None:
        await trio.lowlevel.checkpoint()
        event = self._channels.get(channel)
        if event is None:
            event = self._channels[channel] = trio.Event()
            self._send(b"SUBSCRIBE", channel)
        await event.wait()

    def _unlisten(self, channel: bytes) -> None:
        if self._channels.pop(channel, None) is not None:
            self._send(b"UNSUBSCRIBE", channel)

    def _send(self, command: bytes, *channels: bytes) -> None:
        # A connection that is just being lost: the next one subscribes to all that is wanted.
        if self._connection is not None and self._connection.usable and channels:
            if command == b"SUBSCRIBE":
                self._due.update(channels)
            self._connection.send_command(command, *channels)

    async def _greet(self, connection: BaseConnection) -> None:
        await connection.create_request(b"PING")

    async def _serve(self, connection: BaseConnection) -> None:
        self._connection = connection
        self._due.clear()
        for channel, event in self._channels.items():
            if event.is_set():
                self._channels[channel] = trio.Event()
        try:
            self._send(b"SUBSCRIBE", *self._channels)
            async with open_unwrapping_nursery() as nursery:
                nursery.start_soon(self._ping, connection)
                nursery.start_soon(_raise_refusals, connection)
                await self._drain(connection)
        finally:
            self._connection = None

    async def _ping(self, connection: BaseConnection) -> None:
        """Notice a server that stands still, or a connection that only seems to be there.

        While nobody follows a task, and none is held, the kernel sees to that: see `redis_connection.py`.
        """
        while True:
            self._ping_pause = trio.CancelScope()
            if self._followed:
                self._ping_pause.deadline = trio.current_time() + _PING_SECONDS
            with self._ping_pause:
                await self._wake_ping.park()
            with trio.fail_after(max(_PING_SECONDS, self.link.seconds)):
                await connection.create_request(b"PING")

    async def _drain(self, connection: BaseConnection) -> None:
        """Take all messages there are before more are read, which the library would keep without bound."""
        async with aclosing(connection.push_messages) as messages:
            while True:
                message = await anext(messages)
                async with self.link.budget:
                    self._take(message)
                    while connection.usable and not connection.reusable:
                        self._take(await anext(messages))
                for task_id in list(self._newest):
                    self._show(task_id)

    def _take(self, message: list[Any]) -> None:
        kind, channel = bytes(message[0]), bytes(message[1])
        if kind == b"message":
            self._hear(channel, bytes(message[2]))
        elif kind == b"subscribe":
            self._due[channel] -= 1
            if self._due[channel] <= 0:
                del self._due[channel]
                event = self._channels.get(channel)
                if event is not None:
                    event.set()
                    self._note_missed(channel)

    def _hear(self, channel: bytes, data: bytes) -> None:
        if channel.startswith(self._tasks_channel):
            task_id = channel.removeprefix(self._tasks_channel).decode()
            followed = self._followed.get(task_id)
            if followed is None:
                return
            if data == _FORGOTTEN:
                self._show(task_id)
                self._end(task_id, followed)
            elif data:
                self._newest[task_id] = data
            else:
                self._note_unread(task_id)
        elif (signal := self._signals.get(channel)) is not None:
            is_ours = signal is self.leases and self._holder_channel + data in self._channels
            if not is_ours:
                signal.note()
        else:
            self._when_told(data.decode() or None)

    def _note_missed(self, channel: bytes) -> None:
        """A channel is subscribed now; what was told there before may have been missed."""
        if not channel.startswith(self._tasks_channel):
            self._hear(channel, b"")
            return
        task_id = channel.removeprefix(self._tasks_channel).decode()
        followed = self._followed.get(task_id)
        # Those who just begin read the record themselves, and would only read it twice.
        if followed is not None and any(follower.seen is not None for follower in followed.followers):
            self._note_unread(task_id)

    def _note_unread(self, task_id: str) -> None:
        self._unread[task_id] = None
        self._wake_reader.unpark_all()

    def _show(self, task_id: str) -> None:
        data, followed = self._newest.pop(task_id, None), self._followed.get(task_id)
        if data is not None and followed is not None:
            with suppress(TaskStoreError):  # not a record: whoever reads the task is told
                followed.show(self._decode(data))

    def _end(self, task_id: str, followed: _Followed) -> None:
        for follower in followed.followers:
            follower.channel.close()
        self._forget(task_id)


async def _raise_refusals(connection: BaseConnection) -> None:
    """Raise what the server answers to a subscription that it does not allow."""
    async with aclosing(connection.streamed_messages) as messages:
        async for message in messages:
            if isinstance(message, BaseException):
                raise message
