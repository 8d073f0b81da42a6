"""Asking the client: the way of a question, in every era.

Owns the choice between a request to the client (legacy), a question on the task's record, and a
round of gathering (`input_rounds.py`), and that no deadline of the call comes nearer while a question is
open. Of several answers to one question, the first counts. What can be asked is in `elicitation.py`,
`sampling.py` and `roots.py`. Which connections a request goes to is decided in `legacy_task_wires.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import msgspec
import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.concurrency.stopped_scopes import StoppedScopes
from trio_mcp.errors import ConnectionLost, NotSupportedByEra, ProtocolError, RemoteProtocolError
from trio_mcp.server.legacy_task_wires import LegacyTaskWires
from trio_mcp.server.task_run import RunState, TaskRun
from trio_mcp.session.connection import ServerConnection, read_answer
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import InputRequest
from trio_mcp.tasks.rendering import related_meta
from trio_mcp.wire.errors import MISSING_CLIENT_CAPABILITY
from trio_mcp.wire.messages import META_ASKING


def has_capability(request: ServerRequest, name: str, part: str | None = None) -> bool:
    """Whether the client declared the capability `name`, or that `part` of it."""
    declared = request.meta.client_capabilities.get(name)
    return isinstance(declared, Mapping) and (part is None or part in declared)


def missing_capability(name: str, part: str | None = None) -> ProtocolError:
    """The error for a question that the client has not declared that it can answer."""
    required: dict[str, Any] = {name: {} if part is None else {part: {}}}
    words = name if part is None else f"{name} with {part}"
    return ProtocolError(
        MISSING_CLIENT_CAPABILITY, f"the client has no {words}", {"requiredCapabilities": required}
    )


def convert_answer(answer: Any, answer_type: type[Any]) -> Any:
    """The client's answer as a value of `answer_type`.

    Raises ProtocolError if it is an error, and RemoteProtocolError if it is malformed.
    """
    if isinstance(answer, ProtocolError):
        raise answer
    try:
        return msgspec.convert(answer, answer_type)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"the client gave a malformed answer: {error}") from None


async def ask(
    request: ServerRequest, run: TaskRun | None, method: str, params: dict[str, Any], key: str | None
) -> Any:
    """Ask the client, which has declared that it can be asked, and return its answer; checkpoints.

    `key` is the name of the question. Raises what `Context.elicit` raises.
    """
    if run is not None and run.round is not None:
        await trio.lowlevel.checkpoint()
        return run.round.answer(key, method, params)
    if run is not None and run.state is not RunState.GATHERING and await _is_task(request, run):
        with _stopped(request, run):
            return await _ask_in_task(run, method, params, key)
    if request.era.modern:
        raise NotSupportedByEra(
            f"in protocol {request.era.version} a tool cannot ask its client within a direct call: make it a "
            "background task (task=True, for clients with the tasks extension), or ask before the task "
            "begins (TaskConfig(gather=...))"
        )
    with _stopped(request, run):
        return await request.connection.ask(method, {**params, "_meta": {META_ASKING: request.id}})


@contextmanager
def _stopped(request: ServerRequest, run: TaskRun | None) -> Iterator[None]:
    """While the block lasts, the deadlines of the call do not come nearer, if the server wants that."""
    if not request.pauses:
        yield
        return
    if request.stopped is None:
        request.stopped = StoppedScopes()
    scopes = [request.scope] if run is None else [request.scope, run.limit]
    with request.stopped.stopping(scopes):
        yield


async def _is_task(request: ServerRequest, run: TaskRun) -> bool:
    """Whether the call is a task, or has become one just now because it needs to ask."""
    return request.task is not None or await run.promote()


async def _ask_in_task(run: TaskRun, method: str, params: dict[str, Any], name: str | None) -> Any:
    """Put a question on the task's record and wait for the first answer, whoever gives it."""
    live = run.live
    key = live.put_question(InputRequest(method, params), name)
    try:
        await run.supervisor.update(live)
        if run.wires is None:
            return await live.wait_answer(key)
        return await _relay(live, run.wires, key, method, {**params, "_meta": related_meta(live.id)})
    finally:
        live.drop_question(key)
        # Shielded for one put, so that no client that polls now sees a question that is over.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await run.supervisor.update(live)


async def _relay(
    live: LiveTask, wires: LegacyTaskWires, key: str, method: str, params: dict[str, Any]
) -> Any:
    """Send the question to every connection that may answer, also to those that come later."""
    async with open_unwrapping_nursery() as nursery:

        async def relay(connection: ServerConnection) -> None:
            # The answer is noted when it is read, because Trio wakes tasks in any order. If it is an
            # error, the task that asked raises it.
            with suppress(ConnectionLost, ProtocolError):
                await connection.ask(method, params, partial(live.answer, key))

        def send(connection: ServerConnection) -> None:
            nursery.start_soon(relay, connection)

        with wires.relaying(send):
            answer = await live.wait_answer(key)
            nursery.cancel_scope.cancel()
    return read_answer(answer)
