"""The methods by which clients follow and steer background tasks, in both eras.

Owns tasks/*, and what a subscription sends of a task. What a task is, and who may see it, the supervisor
knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import trio
from msgspec import Struct

from trio_mcp.errors import CursorError, ProtocolError, TaskNotFound, TaskStoreError
from trio_mcp.server.functions import NO_SCOPES
from trio_mcp.server.registry import Registry
from trio_mcp.server.task_choice import declares_tasks, find_owner, missing_extension
from trio_mcp.server.task_run import TaskRun
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.rendering import (
    extension_task,
    legacy_result,
    legacy_task,
    outcome_result,
    progress_meta,
    related_meta,
)
from trio_mcp.tasks.store import STORE_SECONDS
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.tasks.task_feed import Joins, TaskFeed
from trio_mcp.validators import describe_seconds
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.frames import Notification, OutFrame
from trio_mcp.wire.messages import (
    META_HISTORY,
    META_OFFSET,
    META_REPORTS,
    META_SINCE,
    META_SUBSCRIPTION_ID,
    EmptyResult,
    ListParams,
    Result,
    TaskIdParams,
    UpdateTaskParams,
)
from trio_mcp.wire.tasks import ListTasksResult

CHANGED: Final = "notifications/tasks"


class TaskMethods:
    """Answers the task methods of one running server."""

    def __init__(
        self, supervisor: Supervisor, runs: Mapping[str, TaskRun], tools: Registry[ToolDefinition]
    ) -> None:
        self._supervisor = supervisor
        self._runs = runs
        self._tools = tools

    def _scopes_of(self, record: TaskRecord) -> frozenset[str]:
        """What a client must be allowed to see the task: the scopes of its tool."""
        tool = self._tools.find(record.tool)
        return NO_SCOPES if tool is None else tool.scopes

    async def _fetch(self, request: ServerRequest, *, newest: bool = False) -> TaskRecord:
        """The task that a request names; raises the same error for an unknown, expired or foreign one."""
        if request.era.modern and not declares_tasks(request):
            raise missing_extension()
        assert isinstance(request.params, TaskIdParams)
        try:
            access = self._supervisor.access
            fetch = access.fetch_newest if newest else access.fetch
            record = await fetch(request.params.task_id, find_owner(request))
        except TaskNotFound:
            raise _not_found() from None
        if request.connection.permit is not None:
            request.connection.permit.require(self._scopes_of(record))
        return record

    async def get(self, request: ServerRequest) -> Result:
        """Answer tasks/get."""
        # A client that asks several replicas in turn sees no step back.
        record = await self._fetch(request, newest=True)
        return extension_task(record) if request.era.modern else legacy_result(record)

    async def wait_result(self, request: ServerRequest) -> Result:
        """Answer tasks/result, once the task has ended (MCP tasks 2025-11-25)."""
        record = await self._fetch(request)
        live = self._supervisor.find(record.id)
        if live is not None:
            run = self._runs.get(record.id)
            wires = None if run is None else run.wires
            with nullcontext() if wires is None else wires.reachable_through(request.connection):
                await live.wait_ended()
            record = await self._fetch(request)
        if not record.is_final:
            record = await self._wait_elsewhere(request, record)
        assert record.outcome is not None, "the task has ended"
        result = outcome_result(record.outcome)
        # With the progress: a report that left by another stream may come later than this answer.
        reported = {} if record.progress is None else progress_meta(record.progress)
        result.meta = {**(result.meta or {}), **reported, **related_meta(record.id)}
        return result

    async def _wait_elsewhere(self, request: ServerRequest, record: TaskRecord) -> TaskRecord:
        # Imported here: a server whose tasks all run in this process starts sooner without that module.
        from trio_mcp.server.remote_result import wait_elsewhere

        try:
            return await wait_elsewhere(self._supervisor, request, record.id)
        except TaskNotFound:
            raise _not_found() from None

    async def list_page(self, request: ServerRequest) -> Result:
        """Answer tasks/list (MCP tasks 2025-11-25)."""
        assert isinstance(request.params, ListParams)
        try:
            page = await self._supervisor.access.list_page(find_owner(request), request.params.cursor)
        except CursorError as error:
            raise ProtocolError(INVALID_PARAMS, str(error)) from None
        return ListTasksResult(
            tasks=[
                legacy_task(record)
                for record in page.records
                if not request.connection.lacks(self._scopes_of(record))
            ],
            next_cursor=page.next_cursor,
        )

    async def cancel(self, request: ServerRequest) -> Result:
        """Answer tasks/cancel."""
        # Shielded, so that the task is cancelled although the client leaves right after asking.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
            record = await self._fetch(request)
            if not request.era.modern and record.is_final:
                raise ProtocolError(INVALID_PARAMS, "the task has already ended")
            record = await self._supervisor.access.cancel(record.id, None)
            return EmptyResult() if request.era.modern else legacy_result(record)
        raise TaskStoreError(f"the task store has not answered for {describe_seconds(STORE_SECONDS)}")

    async def update(self, request: ServerRequest) -> Result:
        """Answer tasks/update, which brings answers to the task's questions."""
        record = await self._fetch(request)
        assert isinstance(request.params, UpdateTaskParams)
        await self._supervisor.access.answer(record, request.params.input_responses)
        return EmptyResult()

    async def find_visible(
        self, request: ServerRequest, task_ids: Sequence[str]
    ) -> list[tuple[TaskRecord, LiveTask | None]]:
        """Those of the tasks that the client may see: their records, and the live tasks that run here.

        Checkpoints if there are any. Raises ProtocolError if the client cannot handle tasks.
        """
        if task_ids and not declares_tasks(request):
            raise missing_extension()
        found = [await self._find(request, task_id) for task_id in dict.fromkeys(task_ids)]
        return [one for one in found if one is not None]

    def grant(self, request: ServerRequest) -> dict[str, Any]:
        """The `_meta` that says which wishes for a task's reports a subscription fulfils."""
        joins = _read_joins(request)
        return {
            **({META_HISTORY: True} if _replays(request) else {}),
            **({META_REPORTS: joins} if joins else {}),
        }

    async def _find(self, request: ServerRequest, task_id: str) -> tuple[TaskRecord, LiveTask | None] | None:
        """The record of a task, and the live task if it runs here; None if the client may not see it."""
        try:
            record = await self._supervisor.access.fetch(task_id, find_owner(request))
        except TaskNotFound:
            return None
        if request.connection.lacks(self._scopes_of(record)):
            return None
        return record, self._supervisor.find(task_id)

    async def follow(self, request: ServerRequest, record: TaskRecord, live: LiveTask | None) -> FollowedTask:
        """Send the history of the task if the client wants it, then its state now, then each change.

        A client that knows the reports up to an offset gets those behind it. Checkpoints then.
        """
        record = record if live is None else live.shown
        offsets = _read_since(request)
        after = 0 if offsets is None else offsets.get(record.id, 0)
        replays = _replays(request)
        if not record.is_final and self._supervisor.find(record.id) is None:
            feed = self._make_feed(request, record, 0, is_numbered=offsets is not None)
            self._follow_elsewhere(request, record, feed, after if after or replays else None)
            return FollowedTask(self._supervisor, feed, record, live, took_history=False)
        if after:
            # Imported here: a server starts without what few of its clients use.
            from trio_mcp.tasks.missed_reports import find_missed

            history, has_taken = await find_missed(self._supervisor, record, live, after)
            record = record if live is None else live.shown
        else:
            kept = self._supervisor.access.take_history(record.id) if replays else None
            history, has_taken = kept or (), kept is not None
        # Without a checkpoint from here on, so that no change is missed.
        min_interval = 0 if live is None else live.min_interval
        feed = self._make_feed(request, record, min_interval, is_numbered=offsets is not None)
        feed.begin(record, history)
        if not record.is_final:
            known = 0 if record.progress is None else record.progress.offset
            self._supervisor.followers.add(record, feed, wants_all=True, after=known)
        return FollowedTask(self._supervisor, feed, record, live, has_taken)

    def _follow_elsewhere(
        self, request: ServerRequest, record: TaskRecord, feed: TaskFeed, after: int | None
    ) -> None:
        """The same for a task that runs in another process: `after` is None if no history is wanted."""
        if after is not None:
            self._supervisor.followers.add(record, feed, wants_all=True, after=after, begin=feed.begin)
        else:
            feed.begin(record, ())
            self._supervisor.followers.add(record, feed, wants_all=_read_joins(request) == "all")

    def _make_feed(
        self, request: ServerRequest, record: TaskRecord, min_interval: float, *, is_numbered: bool
    ) -> TaskFeed:
        subscription = request.id
        clock = self._supervisor.clock

        def render(record: TaskRecord, reports: Sequence[TaskReport]) -> OutFrame:
            task = extension_task(record)
            meta = task.meta = {} if task.meta is None else task.meta
            meta[META_SUBSCRIPTION_ID] = subscription
            if is_numbered and record.progress is not None:
                meta[META_OFFSET] = record.progress.offset
            if reports and is_numbered:
                meta[META_REPORTS] = [
                    (clock.microseconds_at(seconds), current, total, message, offset)
                    for current, total, message, seconds, offset in reports
                ]
            elif reports:
                meta[META_REPORTS] = [
                    (clock.microseconds_at(seconds), current, total, message)
                    for current, total, message, seconds, _ in reports
                ]
            return Notification(CHANGED, encode_value(task))

        limit = self._supervisor.settings.feed_buffer
        joins = _read_joins(request)
        return TaskFeed(request.connection.outbox, limit, clock, record, render, joins, min_interval)


class FollowedTask(Struct, frozen=True, eq=False):
    """One task that a client follows."""

    supervisor: Supervisor
    feed: TaskFeed
    record: TaskRecord
    live: LiveTask | None
    took_history: bool

    def stop(self) -> None:
        """End it; reports that were not sent, and later ones, are kept for the next subscriber."""
        unsent = self.feed.stop()
        self.supervisor.followers.remove(self.record.id, self.feed)
        # What is stored of a task that another process has taken over is kept there.
        if self.took_history and not (self.live is not None and self.live.state is LiveState.LOST):
            self.supervisor.access.give_back_history(self.record, unsent)


def _replays(request: ServerRequest) -> bool:
    return request.meta.values.get(META_HISTORY) is True


def _read_since(request: ServerRequest) -> Mapping[str, int] | None:
    """The offsets that the client knows, by the ids of the tasks; None if it wants no offsets."""
    wish = request.meta.values.get(META_SINCE)
    if not isinstance(wish, Mapping):
        return None
    return {name: offset for name, offset in wish.items() if type(offset) is int and offset > 0}


def _read_joins(request: ServerRequest) -> Joins | None:
    wish = request.meta.values.get(META_REPORTS)
    return wish if wish in ("all", "newest") else None


def _not_found() -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, "no such task")
