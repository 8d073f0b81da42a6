"""How a question to the client travels, in every era; `ask_client` is the one way.

Owns the choice between a request to the client (legacy), a question on the task's record, and a round
of the call (`input_rounds.py`), and that no deadline of the call comes nearer while a question is open. Knows
nothing of what is asked. Of several answers to one question, the
first counts. Which connections a request goes to is decided in `legacy_task_wires.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, Protocol

import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.concurrency.stopped_scopes import StoppedScopes
from trio_mcp.errors import ConnectionLost, NotSupportedByEra, ProtocolError
from trio_mcp.server.input_rounds import InputRounds
from trio_mcp.server.legacy_task_wires import LegacyTaskWires
from trio_mcp.server.question_place import Place
from trio_mcp.server.stored_answers import read_stored_answer, write_answer
from trio_mcp.server.task_run import RunState, TaskRun
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import InputRequest
from trio_mcp.tasks.rendering import related_meta
from trio_mcp.wire.errors import MISSING_CLIENT_CAPABILITY
from trio_mcp.wire.messages import META_ASKING

_NEEDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "elicitation/create": {"elicitation": {}},
    "sampling/createMessage": {"sampling": {}},
    "roots/list": {"roots": {}},
}
"""The capabilities that a question needs, by its method."""


class QuestionPlace(Place, Protocol):
    """Where a handler stands that asks, with the rounds of its server."""

    rounds: InputRounds


async def ask_client(
    request: ServerRequest,
    run: TaskRun | None,
    place: QuestionPlace,
    method: str,
    params: Mapping[str, Any],
    key: str | None,
    needs: Mapping[str, Any] | None = None,
) -> Any:
    """Ask the client a question, and return its answer: the result of `method`, as JSON. Checkpoints.

    `place` is where the handler stands that asks, and `key` names the question there. `needs` are the
    capabilities that the client must have declared, in the form of `requiredCapabilities`, if they are
    more than `method` itself needs. Raises ProtocolError if it has not, and with the error that it
    answers; ConnectionLost; ValueError for parameters that are not JSON; LocalProtocolError within a
    function of `Context.once`.
    """
    if method not in request.era.questions:
        raise NotSupportedByEra(f"protocol {request.era.version} has no {method}")
    _require(request, _NEEDS[method] if needs is None else needs)
    params = dict(params)
    if request.round is not None:
        place.rounds.find(request).refuse_within_once()
    if run is not None and run.state is not RunState.GATHERING and await _is_task(request, run):
        with _stopped(request, run):
            return await _ask_in_task(run, method, params, key)
    if request.era.modern:
        # The handler runs in the supervisor's nursery if it could have become a task.
        worker = run.live if run is not None and run.has_begun else request
        return await place.rounds.find(request).ask(place, method, params, key, worker)
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
    scopes = [request.scope]
    if run is not None and run.limit is not None:
        scopes.append(run.limit)
    with request.stopped.stopping(scopes):
        yield


def _require(request: ServerRequest, needs: Mapping[str, Any]) -> None:
    """Raise ProtocolError if the client has not declared what a question needs (MCP capabilities)."""
    if not _declares(request.meta.client_capabilities, needs):
        names = ", ".join(_name_all(needs))
        required = {"requiredCapabilities": needs}
        raise ProtocolError(MISSING_CLIENT_CAPABILITY, f"the client has no {names}", required)


def may_ask(request: ServerRequest, method: str) -> bool:
    """Whether the client has declared what a question needs."""
    return method in request.era.questions and _declares(request.meta.client_capabilities, _NEEDS[method])


def _declares(declared: Any, needs: Mapping[str, Any]) -> bool:
    return isinstance(declared, Mapping) and all(
        name in declared and (not inner or _declares(declared[name], inner)) for name, inner in needs.items()
    )


def _name_all(needs: Mapping[str, Any]) -> Iterator[str]:
    for name, inner in needs.items():
        yield from (f"{name}.{below}" for below in _name_all(inner)) if inner else (name,)


async def _is_task(request: ServerRequest, run: TaskRun) -> bool:
    """Whether the call is a task, or has become one just now because it needs to ask."""
    return request.task is not None or await run.promote()


async def _ask_in_task(run: TaskRun, method: str, params: dict[str, Any], name: str | None) -> Any:
    """Put a question on the task's record and wait for the first answer, whoever gives it."""
    supervisor, live = run.supervisor, run.live
    key = live.put_question(InputRequest(method, params), name)
    try:
        if live.has_answer(key):  # of an earlier attempt
            await trio.lowlevel.checkpoint()
            return read_stored_answer(await live.wait_answer(key))
        await supervisor.update(live)
        if run.wires is None:
            answer = write_answer(await live.wait_answer(key))
        else:
            asked = {**params, "_meta": related_meta(live.id)}
            answer = write_answer(await _relay(live, run.wires, key, method, asked))
        if live.replay is not None:
            await supervisor.handover.keep_answer(live, live.replay, key, answer)
        return read_stored_answer(answer)
    finally:
        if not live.has_answer(key) and supervisor.may_give_back(live):
            supervisor.handover.drop_question(live, key)
        else:
            live.drop_question(key)
            # Shielded for one put, so that no client that polls now sees a question that is over.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await supervisor.update(live)


async def _relay(
    live: LiveTask, wires: LegacyTaskWires, key: str, method: str, params: dict[str, Any]
) -> Any:
    """Send the question to every connection that may answer, also to those that come later.

    Returns the first answer, as it came.
    """
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
    return answer
