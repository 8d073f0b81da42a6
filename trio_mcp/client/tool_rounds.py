"""One tools/call, in as many requests as it takes until there is an answer, or a task.

Owns the rounds in which a server asks (MCP multi round-trip requests), the change to a
task where a tool runs as one only, and that nothing is left of a call whose caller has left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio
from msgspec import UNSET, UnsetType

from trio_mcp.client.server_requests import Answering
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.client.task_snapshot import MILLISECONDS, Questions, read_created, read_question
from trio_mcp.client.timeouts import CallDeadline
from trio_mcp.errors import CallTimeout, NotSupportedByEra, ProtocolError, RemoteProtocolError
from trio_mcp.handlers.sink import Handler
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.eras import Era
from trio_mcp.wire.errors import METHOD_NOT_FOUND
from trio_mcp.wire.frames import ErrorResponse, Response
from trio_mcp.wire.messages import META_WANTS_TASK, CallToolParams, TaskParams

if TYPE_CHECKING:
    from trio_mcp.client.client import Client

MAX_ROUNDS: Final = 10
"""How often a server may ask for input before it answers one call."""


async def start_call(
    client: Client,
    params: CallToolParams,
    handler: Handler | None,
    idle: float,
    longest: float,
    *,
    as_task: bool,
    ttl: float | None,
    floor: float | None = None,
    rounds: int = MAX_ROUNDS,
) -> TaskHandle:
    """Send tools/call and take what comes first: the answer, or a task. Checkpoints."""
    session, era = client._session, client._agreement.era
    deadline = CallDeadline.find(longest)
    params.meta = deadline.add_to(client._meta) or UNSET
    if as_task:
        _ask_for_task(params, era, ttl)
    wants_progress = handler is not None or idle < math.inf
    call = session.begin(
        "tools/call",
        params,
        handler,
        wants_progress=wants_progress,
        may_become_task=as_task and not era.modern,
    )
    call.floor = floor
    keep = took = has_expired = False
    try:
        raw = await client._wait_answer(call, "tools/call", idle, longest)
        snapshot = read_created(raw)
        question = None if snapshot is not None else read_question(raw)
        took = True
        # The progress of a legacy task comes by the token of the call that made it.
        keep = snapshot is not None and not era.modern
    except ProtocolError as error:
        has_expired = deadline.was_met_by(error)
        runs_as_task_only = error.code == METHOD_NOT_FOUND and era.tasks == "legacy" and not as_task
        if not (has_expired or runs_as_task_only):
            raise
    finally:
        if keep:
            session.keep(call)
        else:
            session.end(call, on_late=lambda answer: _cancel_created(client, answer))
            if not took and isinstance(call.outcome, Response):
                _cancel_created(client, call.outcome)
    if has_expired:
        await deadline.wait()
    if isinstance(call.outcome, ErrorResponse):
        # This tool runs as a task only (MCP tasks 2025-11-25, "Tool-Level Negotiation").
        return await start_call(client, params, handler, idle, longest, as_task=True, ttl=ttl)
    if question is not None:
        # The same call once more, with answers, under a fresh id (MCP multi round-trip requests).
        if rounds == 0:
            raise RemoteProtocolError(f"the server asked more than {MAX_ROUNDS} times for one call")
        await _answer(params, question, session.answering)
        left = longest - (trio.current_time() - deadline.started)
        if left <= 0:
            raise CallTimeout(f"tools/call took longer than {longest:g} seconds")
        seen = floor if call.newest is None else call.newest[0]
        return await start_call(
            client,
            params,
            handler,
            idle,
            left,
            as_task=as_task,
            ttl=ttl,
            floor=seen,
            rounds=rounds - 1,
        )
    if snapshot is None:
        return TaskHandle(client, params.name, None, raw, handler)
    token_call = call if keep else None
    handle = TaskHandle(
        client, params.name, snapshot, None, handler, token_call, has_token=keep and wants_progress
    )
    if call.newest is not None:
        progress, total, message, exact = call.newest
        handle.note_reported(progress if exact is None else exact, total, message, stages=call.stages)
    return handle


def _ask_for_task(params: CallToolParams, era: Era, ttl: float | None) -> None:
    """Ask for a background task the way of the era; raises NotSupportedByEra where it has none."""
    if era.modern:
        meta = {} if isinstance(params.meta, UnsetType) else params.meta
        params.meta = {**meta, META_WANTS_TASK: True}
    elif era.tasks == "none":
        raise NotSupportedByEra(f"protocol {era.version} has no background tasks")
    else:
        params.task = encode_value(TaskParams(None if ttl is None else round(ttl * MILLISECONDS)))


async def _answer(params: CallToolParams, question: Questions, answering: Answering) -> None:
    """Put into `params` what the server has asked for; checkpoints as the handlers that are asked."""
    params.input_responses = {
        key: await answering.answer(asked.method, asked.params)
        for key, asked in (question.input_requests or {}).items()
    }
    params.request_state = UNSET if question.request_state is None else question.request_state


def _cancel_created(client: Client, answer: Response) -> None:
    """Cancel the task that a call has made whose caller has left."""
    try:
        snapshot = read_created(answer.result)
    except RemoteProtocolError:
        return
    if snapshot is not None:
        TaskHandle(client, None, snapshot, None, None).abandon()
