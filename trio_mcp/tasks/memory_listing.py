"""Pages of the tasks that a memory store keeps.

Owns the order of a page, and what stands in none. Changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime

from trio_mcp.tasks.cursors import Cursors, Place
from trio_mcp.tasks.memory_queue import Entry
from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.store import TaskPage


def read_page(
    entries: Mapping[str, Entry],
    places: Sequence[tuple[datetime, int, str]] | None,
    cursors: Cursors,
    owner: Owner | None,
    cursor: str | None,
    limit: int,
    now: datetime,
) -> TaskPage:
    """A page of the tasks at `places`, oldest first, which are those of `owner`; None for everybody's."""
    if places is None:
        places = sorted(
            (entry.record.created_at, entry.number, task_id) for task_id, entry in entries.items()
        )
    end = len(places)
    if cursor is not None:
        end = bisect_left(places, cursors.place(owner, cursor), key=_place)
    records: list[TaskRecord] = []
    last = end
    for index in range(end - 1, -1, -1):
        entry = entries[places[index][2]]
        record = entry.record
        if record.has_expired(now) or not (entry.work is None or entry.work.is_listed):
            continue
        if len(records) == limit:
            return TaskPage(records, cursors.cursor(owner, _place(places[last])))
        records.append(record)
        last = index
    return TaskPage(records, None)


def _place(place: tuple[datetime, int, str]) -> Place:
    return place[:2]
