"""Who follows a task, wherever it runs.

Owns the choice between the live task and the store, and the channel of a reader in this process. Knows no
wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_task import Follower, LiveTask, ReportSource
from trio_mcp.tasks.record import Owner, TaskRecord

if TYPE_CHECKING:  # a server whose tasks all run in this process starts without it
    from trio_mcp.tasks.elsewhere import Begin, Elsewhere


class Followers:
    """The followers of one process.

    `find` returns a live task, and `fetch` the record of one that somebody may see. `make_elsewhere` is
    called when a task is first followed that does not run here.
    """

    def __init__(
        self,
        find: Callable[[str], LiveTask | None],
        fetch: Callable[[str, Owner | None], Awaitable[TaskRecord]],
        make_elsewhere: Callable[[], Elsewhere],
    ) -> None:
        self._find = find
        self._fetch = fetch
        self._make_elsewhere = make_elsewhere
        self._elsewhere: Elsewhere | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Followers: {self._elsewhere or 'none elsewhere'}>"

    def add(
        self,
        record: TaskRecord,
        follower: Follower,
        *,
        wants_all: bool = False,
        after: int | None = None,
        begin: Begin | None = None,
        on_gone: Callable[[], object] | None = None,
    ) -> None:
        """Tell `follower` of each change of a task since `record`, wherever it runs, until it is removed.

        If the task runs here, it is told at once, and of each report. If it runs elsewhere, the other
        arguments are those of `Elsewhere.follow`.
        """
        live = self._find(record.id)
        if live is not None:
            live.add_follower(follower)
        elif not record.is_final:
            self._find_elsewhere().follow(
                record, follower, wants_all=wants_all, after=after, begin=begin, on_gone=on_gone
            )

    def remove(self, task_id: str, follower: Follower) -> None:
        """Tell `follower` nothing more of a task."""
        live = self._find(task_id)
        if live is not None:
            live.remove_follower(follower)
        if self._elsewhere is not None:
            self._elsewhere.stop(follower)

    def take_over(self, live: LiveTask) -> None:
        """Let the followers of a lost task hear of it from the store."""
        if not self._is_closed:
            self._find_elsewhere().take_over(live)

    def close(self) -> None:
        """Follow nothing elsewhere any more."""
        self._is_closed = True
        if self._elsewhere is not None:
            self._elsewhere.close()

    def _find_elsewhere(self) -> Elsewhere:
        if self._elsewhere is None:
            self._elsewhere = self._make_elsewhere()
        return self._elsewhere

    @asynccontextmanager
    async def open_watch(
        self, task_id: str, asker: Owner | None
    ) -> AsyncIterator[trio.MemoryReceiveChannel[TaskRecord]]:
        """A channel of a task's record: as it is now, and after each change, wherever the task runs.

        It ends behind the final record, and without one if the task is forgotten before. Entering
        checkpoints, and raises TaskNotFound and TaskStoreError.
        """
        record = await self._fetch(task_id, asker)
        watcher = _Watcher()
        watcher.follow(record)
        if not record.is_final:
            self.add(record, watcher, on_gone=watcher.channel.close)
        try:
            async with watcher.channel.receive as receive:
                yield receive
        finally:
            self.remove(task_id, watcher)
            watcher.channel.close()


class _Watcher:
    """Follows a task for one reader, and keeps the newest record for it."""

    def __init__(self) -> None:
        self.channel = LatestChannel[TaskRecord]()

    def follow(self, record: TaskRecord) -> None:
        self.channel.offer(record)
        if record.is_final:
            self.channel.close()

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        self.channel.offer(task.record)
