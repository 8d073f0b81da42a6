"""What a server does if a background task stops reporting.

Owns the warning, the error, and the rule that a task which waits for its client has not stalled.
Knows neither tools nor the wire.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

import trio

from trio_mcp.concurrency.silence import watch_silence
from trio_mcp.errors import ToolError
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.settings import StallAction
from trio_mcp.validators import describe_seconds

logger = logging.getLogger("trio_mcp.tasks")


async def watch_task(live: LiveTask, after: float, on_stall: StallAction) -> None:
    """Do what `on_stall` says whenever a task has not reported for `after` seconds, counted from now.

    Runs until it is cancelled. Raises ToolError if `on_stall` is "cancel", and what `on_stall` raises if
    it is a function: either ends the task.
    """

    def find_last() -> float:
        return trio.current_time() if live.inputs else live.active_at

    def act() -> Awaitable[None] | None:
        if callable(on_stall):
            return on_stall(live.record, after)
        if on_stall == "cancel":
            raise ToolError(f"the task made no progress for {describe_seconds(after)}")
        tool = live.record.tool
        time = describe_seconds(after)
        logger.warning("task %s of tool %r has made no progress for %s", live.id, tool, time)
        return None

    live.note_activity()
    await watch_silence(find_last, after, act)
