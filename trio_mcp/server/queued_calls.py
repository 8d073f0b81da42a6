"""Calls of a server that runs no tasks itself: they are put into the queue of the store, for workers.

Owns the answer to such a call: its result if a worker is done in time, otherwise the task. Knows no handler.
"""

from __future__ import annotations

import trio

from trio_mcp.errors import ProtocolError, TaskOverload, TaskStoreError
from trio_mcp.outgoing.report import Report
from trio_mcp.server.task_choice import Choice
from trio_mcp.server.task_run import RunState, TaskRun, moved
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.rendering import extension_created, legacy_task, outcome_result
from trio_mcp.tasks.store import STORE_SECONDS
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.messages import Result
from trio_mcp.wire.tasks import LegacyCreateTaskResult


async def queue_call(run: TaskRun, choice: Choice) -> Result:
    """Put a call into the queue and answer it, directly if it may be and is done in time. Checkpoints.

    If the client cancels a call that may be answered directly, the task is cancelled.
    """
    try:
        if run.gatherer is not None:
            run.gathered = await run.gatherer(run)
        record = await _enqueue(run)
    finally:
        run.supervisor.release(run.live)
    if choice is Choice.PROMOTE:
        run.state = moved(run.state, RunState.PROMOTABLE)
        record = await _wait_done(run, record)
        if record.outcome is not None:
            run.state = moved(run.state, RunState.DIRECT)
            await run.supervisor.forget(record.id)
            if record.outcome.kind == "cancelled":
                raise ProtocolError(INTERNAL_ERROR, "the task of the call was cancelled")
            return outcome_result(record.outcome)
    run.state = moved(run.state, RunState.TASK)
    run.request.progress.stop_sending()
    if run.request.era.modern:
        return extension_created(record)
    return LegacyCreateTaskResult(task=legacy_task(record))


async def _enqueue(run: TaskRun) -> TaskRecord:
    try:
        # Shielded, so that the task is known that was stored.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
            return await run.supervisor.enqueue(run.live, run.describe_work())
    except (TaskOverload, TaskStoreError) as error:
        raise ProtocolError(INTERNAL_ERROR, str(error)) from None
    raise ProtocolError(INTERNAL_ERROR, "the task store did not answer in time")


async def _wait_done(run: TaskRun, record: TaskRecord) -> TaskRecord:
    """Wait until the task has ended or asks its client, for as long as it may be answered directly."""
    supervisor = run.supervisor
    try:
        with trio.move_on_after(run.config.promote_after):
            async with supervisor.subscribe(record.id) as changes:
                record = await supervisor.fetch(record.id, None)  # it may have ended already
                while not (record.is_final or record.inputs):
                    _tell_progress(run, record)
                    record = await changes.receive()
    except trio.EndOfChannel:
        raise ProtocolError(INTERNAL_ERROR, "the task of the call has expired") from None
    except trio.Cancelled:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
            await supervisor.cancel(record.id, None)
        raise
    if record.is_final:
        _tell_progress(run, record)
    return record


def _tell_progress(run: TaskRun, record: TaskRecord) -> None:
    """Send the progress of the record by the token of the call; does not wait."""
    progress, call_queue = record.progress, run.request.call_queue
    if progress is not None and call_queue.has_token:
        current = 0 if progress.current is None else progress.current
        call_queue.push(Report(current, progress.total, progress.message))
