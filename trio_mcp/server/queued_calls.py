"""Calls of a server that runs no tasks itself: they are put into the queue of the store, for workers.

Owns the answer to such a call: its result if a worker is done in time, otherwise the task. Knows no handler.
Calls with an idempotency key are in `call_keys.py`. This module is imported at the first such call.
"""

from __future__ import annotations

import trio

from trio_mcp.errors import ProtocolError, TaskOverload, TaskStoreError
from trio_mcp.server.call_followers import CallFollower, name_task, wait_settled
from trio_mcp.server.task_choice import Choice
from trio_mcp.server.task_run import RunState, TaskRun, moved
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.rendering import outcome_result
from trio_mcp.tasks.store import STORE_SECONDS
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.messages import Result


async def queue_call(run: TaskRun, choice: Choice) -> Result:
    """Put a call into the queue and answer it, directly if it may be and is done in time. Checkpoints.

    If the client cancels a call that may be answered directly, the task is cancelled. Raises ProtocolError if
    the task cannot be stored, is cancelled or expires.
    """
    supervisor, request = run.supervisor, run.request
    try:
        if run.gatherer is not None:
            run.gathered = await run.gatherer(run)
        record = await _enqueue(run)
    finally:
        supervisor.release(run.live)
    if choice is Choice.PROMOTE:
        run.state = moved(run.state, RunState.PROMOTABLE)
        record = await _wait_done(run, record)
        if record.outcome is not None:
            run.state = moved(run.state, RunState.DIRECT)
            await supervisor.access.forget(record.id)
            if record.outcome.kind == "cancelled":
                raise ProtocolError(INTERNAL_ERROR, "the task of the call was cancelled")
            return outcome_result(record.outcome)
    run.state = moved(run.state, RunState.TASK)
    return name_task(supervisor, request, record)


async def _enqueue(run: TaskRun) -> TaskRecord:
    try:
        # Shielded, so that the task is known that was stored.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
            return await run.supervisor.handover.enqueue(run.live, run.describe_work())
    except (TaskOverload, TaskStoreError) as error:
        raise ProtocolError(INTERNAL_ERROR, str(error)) from None
    raise ProtocolError(INTERNAL_ERROR, "the task store did not answer in time")


async def _wait_done(run: TaskRun, record: TaskRecord) -> TaskRecord:
    """Wait until the task has ended or asks its client, for as long as it may be answered directly.

    If the store fails meanwhile, the call is answered with the task, for which the client can ask later.
    """
    follower = CallFollower(Choice.PROMOTE, run.request.call_queue)
    try:
        return await wait_settled(run.supervisor, record, follower, run.config.promote_after, after=0)
    except TaskStoreError:  # which was logged
        return record
    except trio.Cancelled:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
            await run.supervisor.access.cancel(record.id, None)
        raise
