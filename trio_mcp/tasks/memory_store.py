"""Task records in the memory of one process: the default store.

Owns the order of each owner's tasks, the order of expiry, cursors and
subscriptions. Reads no clock, starts no task, and keeps nothing when the
process ends.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import hmac
import secrets
import struct
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import attrs
import msgspec
import trio

from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.errors import CursorError, TaskOverload, TaskTooLarge
from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.store import TaskPage
from trio_mcp.validators import require_count
from trio_mcp.wire.errors import LocalProtocolError

DEFAULT_RECORDS: Final = 10_000
"""Tasks kept at once: a few MiB without their results, and an end to what clients can start."""

DEFAULT_RECORD_BYTES: Final = 16 * 1024 * 1024
"""One record: room for a result with some images; it is kept until it expires, so less than a frame."""

Place: TypeAlias = tuple[datetime, int]
"""Where a task stands among its owner's: when it was created, then in which order."""


class MemoryTaskStore:
    """Keeps task records until they expire or the process ends; implements TaskStore.

    `max_records` is the number of records kept at once, ended ones included;
    `max_record_bytes` the size of what a handler makes of one record: the outcome, the
    messages of status and progress, the texts of its stages, and the inputs. Both are integers
    larger than 0, else ValueError. A call that is cancelled changes nothing.
    """

    __slots__ = (
        "_cursors",
        "_entries",
        "_expiries",
        "_forgotten",
        "_owned",
        "max_record_bytes",
        "max_records",
        "write_behind",
    )

    def __init__(
        self, *, max_records: int = DEFAULT_RECORDS, max_record_bytes: int = DEFAULT_RECORD_BYTES
    ) -> None:
        require_count("max_records", max_records)
        require_count("max_record_bytes", max_record_bytes)
        self.max_records = max_records
        self.max_record_bytes = max_record_bytes
        self.write_behind: float | None = None
        self._entries: dict[str, _Entry] = {}  # at most max_records
        self._owned: dict[Owner, list[tuple[datetime, int, str]]] = {}  # oldest first, never an empty list
        self._expiries: list[tuple[datetime, str]] = []  # a heap; one that a change of ttl made wrong stays
        # The ids that `create` forgot to make room, which `delete_expired` returns. Whoever lets a full
        # store's worth of them pass never calls it.
        self._forgotten: deque[str] = deque(maxlen=max_records)
        self._cursors = Cursors(secrets.token_bytes(32))

    async def create(self, record: TaskRecord) -> None:
        """Keep a new record; when this returns, `get` finds it. Checkpoints.

        A full store first forgets what had expired when `record` was created, and nothing
        else. Raises TaskOverload if the store is full, TaskTooLarge if `record` is larger than
        `max_record_bytes`, ValueError if the id exists.
        """
        await trio.lowlevel.checkpoint()
        if record.id in self._entries:
            raise ValueError(f"task {record.id} exists already")
        self._check_size(record)
        if len(self._entries) >= self.max_records:
            self._forgotten.extend(self._forget_expired(record.created_at))
        if len(self._entries) >= self.max_records:
            raise TaskOverload(
                f"max_records is {self.max_records}, and so many tasks are kept; "
                "another fits when one of them has expired"
            )
        self._note_expiry(record)
        places = self._owned.get(record.owner, [])
        at = bisect_right(places, record.created_at, key=_created_at)
        # A number among those of the same moment only: one that counts all tasks would tell how many.
        number = places[at - 1][1] + 1 if at and places[at - 1][0] == record.created_at else 0
        places.insert(at, (record.created_at, number, record.id))
        self._owned[record.owner] = places
        self._entries[record.id] = _Entry(record, (record.created_at, number))

    async def get(self, task_id: str, now: datetime) -> TaskRecord | None:
        """The record, or None if there is none or it has expired by `now`. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(task_id)
        return None if entry is None or _has_expired(entry.record, now) else entry.record

    async def put(self, record: TaskRecord) -> None:
        """Keep `record` in place of its older version, and show it to the subscribers. Checkpoints.

        Changes nothing if the record kept is as new or final, or there is none. Raises
        TaskTooLarge if `record` is larger than `max_record_bytes`, LocalProtocolError
        if its tool, its owner or its time of creation is another.
        """
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(record.id)
        # Versions between the two may never have been put, and a status that is not final may move to
        # every other. The only move that can be wrong is one of a final record.
        if entry is None or entry.record.is_final or record.version <= entry.record.version:
            return
        for name in ("tool", "owner", "created_at"):
            if getattr(record, name) != getattr(entry.record, name):
                raise LocalProtocolError(f"{name} of task {record.id} is another now; it must never change")
        self._check_size(record)
        moved = record.expires_at != entry.record.expires_at
        entry.record = record
        if moved:
            self._note_expiry(record)
        for changes in entry.subscriptions:
            changes.offer(record)

    async def list_page(self, owner: Owner, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        """Up to `limit` tasks that `owner` owns, newest first, but none expired by `now`. Checkpoints.

        A cursor marks a place between two tasks. Tasks that are created or forgotten between two
        pages therefore make no other task appear twice or never. Raises CursorError for a cursor that
        this store did not give to this owner, ValueError for a limit smaller than 1.
        """
        await trio.lowlevel.checkpoint()
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit!r}")
        places = self._owned.get(owner, [])
        end = len(places)
        if cursor is not None:
            end = bisect_left(places, self._cursors.place(owner, cursor), key=_place)
        records: list[TaskRecord] = []
        for index in range(end - 1, -1, -1):
            record = self._entries[places[index][2]].record
            if _has_expired(record, now):
                continue
            if len(records) == limit:
                return TaskPage(records, self._cursors.cursor(owner, self._entries[records[-1].id].place))
            records.append(record)
        return TaskPage(records, None)

    async def delete(self, task_id: str) -> None:
        """Forget a record and end its subscriptions; does nothing if there is none. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(task_id)
        if entry is not None:
            self._forget(entry)

    async def delete_expired(self, now: datetime) -> Sequence[str]:
        """Forget what has expired by `now`, end its subscriptions, and return the ids. Checkpoints.

        The ids include those that `create` forgot to make room. Costs what expires, not what is kept.
        """
        await trio.lowlevel.checkpoint()
        ids = [*self._forgotten, *self._forget_expired(now)]
        self._forgotten.clear()
        return ids

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskRecord]]:
        """A channel of the record's changes from now on; entering checkpoints.

        It holds one version: a newer one replaces one that was not read yet. It
        ends, behind that version, when the record is forgotten, and at once if there is none.
        """
        await trio.lowlevel.checkpoint()
        changes = LatestChannel[TaskRecord]()
        entry = self._entries.get(task_id)
        if entry is None:
            changes.close()
        else:
            entry.subscriptions.add(changes)
        try:
            yield changes.receive
        finally:
            if entry is not None:
                entry.subscriptions.discard(changes)
            changes.close()
            changes.receive.close()

    def _check_size(self, record: TaskRecord) -> None:
        size = _size(record)
        if size > self.max_record_bytes:
            raise TaskTooLarge(
                f"max_record_bytes is {self.max_record_bytes}, and task {record.id} would take {size}"
            )

    def _note_expiry(self, record: TaskRecord) -> None:
        if record.expires_at is None:
            return
        if len(self._expiries) >= 2 * self.max_records:  # at least half are out of date, so this is rare
            kept = [(entry.record.expires_at, entry.record.id) for entry in self._entries.values()]
            self._expiries = [(when, task_id) for when, task_id in kept if when is not None]
            heapq.heapify(self._expiries)
        heapq.heappush(self._expiries, (record.expires_at, record.id))

    def _forget_expired(self, now: datetime) -> list[str]:
        ids: list[str] = []
        while self._expiries and self._expiries[0][0] <= now:
            _, task_id = heapq.heappop(self._expiries)
            entry = self._entries.get(task_id)
            if entry is not None and _has_expired(entry.record, now):
                self._forget(entry)
                ids.append(task_id)
        return ids

    def _forget(self, entry: _Entry) -> None:
        record = entry.record
        del self._entries[record.id]
        places = self._owned[record.owner]
        del places[bisect_left(places, entry.place, key=_place)]
        if not places:
            del self._owned[record.owner]
        for changes in entry.subscriptions:
            changes.close()


class Cursors:
    """Makes cursors and checks them: each is a place, and a code over the place and the owner.

    Keeps none of them. A cursor that passes can only be made with `key`.
    """

    __slots__ = ("_key",)

    _EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
    _PLACE: Final = struct.Struct(">qQ")  # with the code 48 bytes, which base64 puts without padding

    def __init__(self, key: bytes) -> None:
        self._key = key

    def cursor(self, owner: Owner, place: Place) -> str:
        """The cursor with which `owner` reads on behind `place`."""
        created_at, number = place
        packed = self._PLACE.pack((created_at - self._EPOCH) // timedelta(microseconds=1), number)
        return base64.urlsafe_b64encode(packed + self._code(owner, packed)).decode()

    def place(self, owner: Owner, cursor: str) -> Place:
        """The place that `cursor` marks; raises CursorError unless it was made for `owner`."""
        try:
            raw = base64.urlsafe_b64decode(cursor)
        except ValueError:
            raw = b""
        packed, code = raw[: self._PLACE.size], raw[self._PLACE.size :]
        # Decoding ignores characters that are not base64, so other texts mean the same bytes. Accept ours.
        if base64.urlsafe_b64encode(raw).decode() != cursor or not hmac.compare_digest(
            code, self._code(owner, packed)
        ):
            raise CursorError("the cursor was not given to this owner; hand back that of a page as it came")
        microseconds, number = self._PLACE.unpack(packed)
        return self._EPOCH + timedelta(microseconds=microseconds), number

    def _code(self, owner: Owner, packed: bytes) -> bytes:
        # `packed` comes first because its length is fixed and that of a name is not.
        named = f"{owner.kind}:{owner.name}".encode(errors="surrogatepass")
        return hmac.digest(self._key, packed + named, hashlib.sha256)


@attrs.define(eq=False)
class _Entry:
    """One record as it is kept."""

    record: TaskRecord
    place: Place
    subscriptions: set[LatestChannel[TaskRecord]] = attrs.field(factory=set)


def _created_at(place: tuple[datetime, int, str]) -> datetime:
    return place[0]


def _place(place: tuple[datetime, int, str]) -> Place:
    return place[:2]


def _has_expired(record: TaskRecord, now: datetime) -> bool:
    return record.expires_at is not None and record.expires_at <= now


def _size(record: TaskRecord) -> int:
    """The bytes of the values in `record` that come from the handler; nothing large is encoded."""
    size = _text_size(record.status_message)
    if record.progress is not None:
        size += _text_size(record.progress.message)
        for stage in record.progress.stages or ():
            size += sum(map(_text_size, (*stage.path, stage.message)))
    if record.outcome is not None:
        outcome = record.outcome
        size += 0 if outcome.result is None else len(outcome.result)
        if outcome.error is not None:
            data = outcome.error.data
            size += _text_size(outcome.error.message) + (len(data) if isinstance(data, msgspec.Raw) else 0)
    if record.inputs:
        size += len(
            msgspec.json.encode(record.inputs, enc_hook=dict)
        )  # dict, if it is a Mapping of another kind
    return size


def _text_size(text: str | None) -> int:
    if text is None:
        return 0
    # A str knows whether it is ASCII, and then needs no copy to be measured.
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
