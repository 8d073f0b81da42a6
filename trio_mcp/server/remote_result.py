"""The answer to tasks/result for a task that runs in another process (MCP tasks 2025-11-25).

Owns the wait for its end, and that its questions reach the client which waits, and the answers the store.
This module is imported when a client first waits for such a task.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ConnectionLost, ProtocolError, TaskNotFound
from trio_mcp.server.question_route import may_ask
from trio_mcp.server.stored_answers import write_refusal
from trio_mcp.server.task_choice import find_owner
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.record import InputRequest, TaskRecord
from trio_mcp.tasks.rendering import related_meta
from trio_mcp.tasks.supervisor import Supervisor


async def wait_elsewhere(supervisor: Supervisor, request: ServerRequest, task_id: str) -> TaskRecord:
    """Wait until a task has ended in another process, and ask the client what it asks; checkpoints.

    Raises TaskNotFound, also if the task is forgotten first, and TaskStoreError.
    """
    asking: dict[str, trio.CancelScope] = {}

    async def ask(record: TaskRecord, key: str, question: InputRequest, scope: trio.CancelScope) -> None:
        params = {**question.params, "_meta": related_meta(record.id)}
        with scope, suppress(ConnectionLost):
            try:
                answer = await request.connection.ask(question.method, params)
            except ProtocolError as error:
                answer = write_refusal(error)
            await supervisor.access.answer(record, {key: answer})

    async with (
        supervisor.followers.open_watch(task_id, find_owner(request)) as records,
        open_unwrapping_nursery() as nursery,
    ):
        async for record in records:
            if record.is_final:
                nursery.cancel_scope.cancel()
                return record
            for key in asking.keys() - record.inputs.keys():  # they are over, whoever has answered
                asking.pop(key).cancel()
            for key, question in record.inputs.items():
                if key not in asking and may_ask(request, question.method):
                    asking[key] = trio.CancelScope()
                    nursery.start_soon(ask, record, key, question, asking[key])
        nursery.cancel_scope.cancel()
    raise TaskNotFound("no such task")
