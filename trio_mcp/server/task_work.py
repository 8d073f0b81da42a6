"""The call of a task, as another process needs it to run the task, and the request that it becomes there.

Owns what of a call is stored, and a request without a connection. Its messages go nowhere: who follows the
task, and who answers its questions, finds it by the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import UNSET, Raw

from trio_mcp.errors import ReturnError
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.policy import reports_policy
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.schema.flaws import encode_json
from trio_mcp.schema.returns import find_return_type
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.permit import Permit
from trio_mcp.session.principal import Principal
from trio_mcp.session.request import ServerRequest, SessionData
from trio_mcp.session.settings import ServerSettings
from trio_mcp.tasks.record import Owner
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.tasks.stored_task import StoredTask, TaskWork
from trio_mcp.wire.eras import Era
from trio_mcp.wire.handshake import RequestMeta
from trio_mcp.wire.messages import META_TRACE, CallToolParams

MAX_TRACE_CHARACTERS: Final = 8192
"""The cap of each part of the trace of a call that is stored: that of W3C for baggage, the longest."""


def describe_work(
    request: ServerRequest,
    config: TaskConfig,
    payer: Owner,
    arguments: Raw | None,
    gathered: Any,
    *,
    is_listed: bool = True,
) -> TaskWork:
    """What is stored of a call; raises ReturnError if what its `gather` has returned is not JSON."""
    try:
        raw = None if gathered is None else encode_json(gathered)
    except ValueError as error:
        raise ReturnError(f"what gather returned cannot be stored as JSON: {error}") from None
    permit = request.connection.permit
    return TaskWork(
        # A slice of the frame would keep all of that.
        arguments=None if arguments is None else Raw(bytes(arguments)),
        era=request.era.version,
        client_capabilities=request.meta.client_capabilities,
        payer=payer,
        recover=config.recover,
        attempts=config.attempts,
        gathered=raw,
        is_listed=is_listed,
        scopes=None if permit is None else permit.scopes,
        trace=_read_trace(request.meta.values if request.meta.trace is None else request.meta.trace),
    )


def _read_trace(meta: Mapping[str, Any]) -> dict[str, str]:
    """The trace of a call, as far as it is one that may be kept."""
    found = {key: meta[key] for key in META_TRACE if key in meta}
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, str) and len(value) <= MAX_TRACE_CHARACTERS
    }


def read_gathered(work: TaskWork, gather: Callable[..., Any] | None) -> Any:
    """What the tool's `gather` has returned, as the type of its annotation if it has one.

    Raises ReturnError if what is stored is not of that type: the tool may have changed since.
    """
    if work.gathered is None:
        return None
    return_type = Any if gather is None else find_return_type(gather)
    from trio_mcp.schema.result_types import decode_result  # hardly any server needs it

    try:
        return decode_result(work.gathered, return_type)
    except (ValueError, TypeError) as error:
        raise ReturnError(f"what gather has returned is no {return_type!r}: {error}") from None


def make_detached(task: StoredTask, work: TaskWork, era: Era, settings: ServerSettings) -> ServerRequest:
    """The request of a task that is run without the connection that has brought its call."""
    owner = task.record.owner
    principal = None
    if owner.kind == "principal":
        principal = Principal(owner.name, scopes=work.scopes)
    permit = None if principal is None and work.scopes is None else Permit(principal, work.scopes)
    connection = ServerConnection(Outbox(1), permit)
    connection.lose()
    call_queue = CallQueue(connection.outbox, UNSET, reports_policy(settings.progress), _nothing)
    call_queue.withdraw()
    return ServerRequest(
        task.record.id,
        "tools/call",
        era,
        CallToolParams(name=task.record.tool, arguments=UNSET if work.arguments is None else work.arguments),
        RequestMeta(client_capabilities=work.client_capabilities),
        call_queue,
        ProgressReporter(None, strict_yield=settings.strict_yield, clock=settings.turn_clock),
        connection,
        None if era.modern else SessionData(),
        pauses=settings.pause_while_asking,
    )


def _nothing() -> None:
    """Called when the request is answered, which it never is."""
