"""The attempts of a handler that fails and is begun again, in the same process.

Owns which failures are followed by another attempt, how long that waits, and what an attempt starts
with. The record says which attempt it is. Knows no tool.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Raw

from trio_mcp.concurrency.failures import find_run_log, leaves
from trio_mcp.errors import ArgumentError, ProtocolError, ReturnError
from trio_mcp.progress.raised_progress import RaisedProgress
from trio_mcp.schema.flaws import encode_json
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import Outcome
from trio_mcp.tasks.settings import Retry
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.validators import describe_seconds

logger = logging.getLogger("trio_mcp.server")

MAX_CHECKPOINT_BYTES: Final = 1024 * 1024
"""A checkpoint says where to go on; it is stored again and again, so results belong elsewhere."""

_LASTING: Final = (ProtocolError, ArgumentError, ReturnError)
"""What another attempt would raise as well."""


async def run_attempts(
    request: ServerRequest,
    live: LiveTask,
    supervisor: Supervisor,
    retry: Retry,
    attempt: Callable[[], Awaitable[Outcome]],
) -> Outcome:
    """Call `attempt()` until it does not fail, or `retry` allows no more; returns its outcome. Checkpoints.

    Raises what the last attempt raises.
    """
    while True:  # noqa: ASYNC913  # each turn calls `attempt`, which checkpoints
        try:
            return await attempt()
        except Exception as error:
            number = live.record.attempt
            if number >= retry.attempts or not _is_tried_again(error, retry):
                raise
            tool = live.record.tool
            # One line for each attempt, but the same traceback once.
            traceback = (
                error if find_run_log().is_new(logger, f"an attempt of tool {tool!r}", error) else None
            )
            words = (tool, live.id, number, retry.attempts)
            logger.warning("tool %r failed in task %s, attempt %d of %d", *words, exc_info=traceback)
        seconds = retry.find_backoff(number) * random.uniform(0.5, 1)
        await _wait_next(live, supervisor, retry, seconds)
        begin_attempt(request, live)


def _is_tried_again(error: Exception, retry: Retry) -> bool:
    found = list(leaves(error))
    return all(isinstance(leaf, retry.on) and not isinstance(leaf, _LASTING) for leaf in found)


async def _wait_next(live: LiveTask, supervisor: Supervisor, retry: Retry, seconds: float) -> None:
    """Say that the task waits, wait, and count the next attempt; others run meanwhile."""
    number = live.record.attempt
    text = (
        f"Attempt {number} of {retry.attempts} failed; the next begins in "
        f"{describe_seconds(round(seconds, 1))}"
    )
    live.move(live.record.status, status_message=text)
    await supervisor.update(live)
    await supervisor.rest(live, seconds)
    live.move(live.record.status, status_message=None, attempt=number + 1)
    await supervisor.update(live)


def begin_attempt(request: ServerRequest, live: LiveTask) -> None:
    """Let the handler report from the beginning, while those who watch see nothing go back."""
    progress = live.record.progress
    floor = None if progress is None else progress.current
    request.progress = reporter = request.progress.succeed()
    live.stages = None
    if live.replay is not None:
        live.replay.begin_attempt()
    # The token of a call that became a task of the extension has ended.
    call_queue = request.call_queue if request.call_queue.has_token else None
    shown: Any = reporter
    if floor is not None:
        shown = RaisedProgress(reporter, live, call_queue, floor)
    else:
        reporter.record_in(live)
        if call_queue is not None and not call_queue.closed:
            reporter.send_by(call_queue)
    if request.call_queue.heart is not None:
        request.call_queue.heart.show(shown)


def encode_checkpoint(value: Any) -> Raw:
    """The JSON of a checkpoint; raises ValueError if it is none or too large."""
    raw = encode_json(value)
    size = len(bytes(raw))
    if size > MAX_CHECKPOINT_BYTES:
        raise ValueError(
            f"a checkpoint may take {MAX_CHECKPOINT_BYTES} bytes as JSON, and this one takes {size}"
        )
    return raw
