"""Pages of tasks in a Redis or Valkey server.

Owns how a page is read, and takes ids out of the lists that the server has forgotten by itself.
"""

from __future__ import annotations

from datetime import datetime

from trio_mcp.tasks.cursors import Place
from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.redis_session import RedisSession
from trio_mcp.tasks.redis_values import owner_key, place_text, read_place
from trio_mcp.tasks.store import TaskPage


async def read_page(
    session: RedisSession, owner: Owner | None, cursor: str | None, limit: int, now: datetime
) -> TaskPage:
    """A page, as TaskStore.list_page says. Checkpoints."""
    name = session.root + (b"all" if owner is None else b"o:" + owner_key(owner))
    below = b"+" if cursor is None else b"(" + place_text(session.cursors.place(owner, cursor))
    found: list[tuple[Place, TaskRecord]] = []
    while True:
        wanted = limit + 1 - len(found)
        members: list[bytes] = await session.link.ask(
            *(b"ZRANGE", name, below, b"-", b"BYLEX", b"REV", b"LIMIT", 0, wanted)
        )
        found += await _read_records(session, name, members, now)
        if len(found) > limit:
            page = found[:limit]
            return TaskPage([record for _, record in page], session.cursors.cursor(owner, page[-1][0]))
        if len(members) < wanted:
            return TaskPage([record for _, record in found], None)
        below = b"(" + members[-1]


async def _read_records(
    session: RedisSession, name: bytes, members: list[bytes], now: datetime
) -> list[tuple[Place, TaskRecord]]:
    """Those of the members that have not expired, with their places."""
    places = [read_place(member) for member in members]
    records = await session.read_records([task_id for _, task_id in places])
    gone = [member for member, record in zip(members, records, strict=True) if record is None]
    if gone:
        await session.link.ask(b"ZREM", name, *gone)
    return [
        (place, record)
        for (place, _), record in zip(places, records, strict=True)
        if record is not None and not record.has_expired(now)
    ]
