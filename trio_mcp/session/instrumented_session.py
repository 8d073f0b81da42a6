"""A session of a server that has instruments: what happens in it is told to them.

Owns which moments of a session and of its requests are told. A server without instruments has a
`ServerSession` in its place, and does not import this module.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from trio_mcp.errors import ProtocolError
from trio_mcp.instruments import (
    Instruments,
    ObservedCall,
    ObservedRefusal,
    ObservedSession,
    Transport,
    current_call,
)
from trio_mcp.outgoing.observed_queue import ObservedQueue
from trio_mcp.progress.observed_reporter import ObservedReporter
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.server_session import Application, ServerSession
from trio_mcp.wire.frames import ErrorObject, ErrorResponse, OutFrame
from trio_mcp.wire.incoming_request import IncomingRequest
from trio_mcp.wire.messages import CallToolResult, Result

if TYPE_CHECKING:
    from trio_mcp.session.batch_reply import BatchReply

served_transport: Final[ContextVar[Transport | None]] = ContextVar("trio_mcp_served_transport", default=None)
"""What `RunningServer.serve` serves; None for what HTTP serves by itself."""


class InstrumentedSession(ServerSession):
    """A `ServerSession` that tells `instruments` of its requests, and of itself from the first on."""

    __slots__ = ("_calls", "_immediate", "_instruments", "_is_over", "_observed", "_transport")

    def __init__(
        self,
        application: Application,
        instruments: Instruments,
        connection: ServerConnection,
        nursery: trio.Nursery,
    ) -> None:
        super().__init__(application, connection, nursery)
        self._instruments = instruments
        self._transport = _find_transport(connection)
        self._observed: ObservedSession | None = None
        self._calls: dict[ServerRequest, ObservedCall] = {}
        self._immediate: ServerRequest | None = None  # that which the reader is answering itself
        self._is_over = False
        if not connection.ends_with_answer:
            nursery.start_soon(self._wait_end)

    # The session.

    async def _wait_end(self) -> None:
        """Note the end of the session, which cancels this task."""
        try:
            await trio.sleep_forever()
        finally:
            self._is_over = True
            self._end_session()

    def _begin_session(self, request: ServerRequest) -> None:
        connection = request.connection
        is_named = self._transport == "http" and not request.era.modern
        self._observed = ObservedSession(
            side="server",
            transport=self._transport,
            peer=connection.peer,
            protocol_version=request.era.version,
            principal=connection.owner,
            id=connection.session_id if is_named else None,
            peer_info=request.meta.client_info,
        )
        self._instruments.open_session(self._observed)

    def _end_session(self) -> None:
        """Tell of the end of the session behind that of its last call."""
        if self._observed is not None and not self._calls:
            self._instruments.end_session(self._observed)
            self._observed = None

    def _initialize(self, request: ServerRequest, batch: BatchReply | None) -> None:
        before, self._observed = self._observed, None
        try:
            super()._initialize(request, batch)
        except ProtocolError as error:
            self._observed = before
            self._note(request, ErrorResponse(ErrorObject(error.code, error.message), request.id))
            raise
        if before is not None:  # the client has started anew on the same wire
            self._instruments.end_session(before)
        self._begin_session(request)
        assert self._observed is not None, "it has just begun"
        self._observed.peer_info = getattr(request.params, "client_info", None)
        if request in self._calls:
            self._calls[request].session = self._observed
            self._calls[request].protocol_version = request.era.version

    # Its requests.

    def _admit(
        self, incoming: IncomingRequest, connection: ServerConnection, on_answered: Callable[[], None]
    ) -> ServerRequest:
        try:
            request = super()._admit(incoming, connection, on_answered)
        except ProtocolError as error:
            self._instruments.refuse(
                ObservedRefusal(
                    kind="request", method=incoming.frame.method, code=error.code, reason=error.message
                )
            )
            raise
        if self._observed is None and request.era.modern and not self.connection.ends_with_answer:
            self._begin_session(request)
        if self._instruments.observes_progress:
            self._observe_progress(request, on_answered)
        if request.method in self._app.immediate:
            self._immediate = request
            self._start(request)
        return request

    def _observe_progress(self, request: ServerRequest, on_answered: Callable[[], None]) -> None:
        def observe(current: float | None, total: float | None, message: str | None) -> None:
            call = self._calls.get(request)
            if call is not None and call.task_id is None:  # what a task reports is told by its follower
                self._instruments.report(call, current, total, message)

        queue = request.call_queue
        if queue.has_token:
            token, outbox = request.meta.progress_token, request.connection.outbox
            request.call_queue = queue = ObservedQueue(outbox, token, self._policy, on_answered)
        request.progress = ObservedReporter(
            queue if queue.has_token else None,
            observe,
            strict_yield=self._settings.strict_yield,
            clock=self._settings.turn_clock,
        )

    def accept_request(
        self, incoming: IncomingRequest, connection: ServerConnection, batch: BatchReply | None = None
    ) -> None:
        """As that of the base class."""
        super().accept_request(incoming, connection, batch)
        request, self._immediate = self._immediate, None
        if request is not None:
            self._end(request)

    async def _handle(self, request: ServerRequest, batch: BatchReply | None) -> None:
        current_call.set(self._start(request))
        try:
            await super()._handle(request, batch)
        finally:
            self._end(request)

    def _start(self, request: ServerRequest) -> ObservedCall:
        connection, params = request.connection, request.params
        target = getattr(params, "name", None) or getattr(params, "uri", None)
        call = self._calls[request] = ObservedCall(
            side="server",
            method=request.method,
            target=target if isinstance(target, str) else None,
            id=request.id,
            protocol_version=request.era.version,
            transport=self._transport,
            session=self._observed,
            meta=request.meta.values,
            peer=connection.peer,
            principal=connection.owner,
        )
        self._instruments.start_call(call)
        if call.trace:
            request.meta = msgspec.structs.replace(request.meta, trace=call.trace)
        return call

    def _end(self, request: ServerRequest) -> None:
        call = self._calls.pop(request)
        if request.withdrawn or call.outcome is None:
            call.outcome = "cancelled"
        if isinstance(request.call_queue, ObservedQueue):
            call.dropped = request.call_queue.dropped
        self._instruments.end_call(call)
        if self._is_over:
            self._end_session()

    # How they end.

    def _result_frame(self, request: ServerRequest, result: Result) -> OutFrame:
        frame = super()._result_frame(request, result)
        call = self._calls.get(request)
        if call is not None:
            has_failed = isinstance(result, CallToolResult) and bool(result.is_error)
            call.outcome = "tool_error" if has_failed else "result"
        return frame

    def _early_answer(self, request: ServerRequest) -> OutFrame:
        return self._note(request, super()._early_answer(request))

    def _failure_frame(self, request: ServerRequest, failure: BaseException) -> OutFrame | None:
        if request in self._calls:
            self._calls[request].error = failure
        frame = super()._failure_frame(request, failure)
        return None if frame is None else self._note(request, frame)

    def _note(self, request: ServerRequest, frame: OutFrame) -> OutFrame:
        call = self._calls.get(request)
        if call is not None and isinstance(frame, ErrorResponse):
            call.outcome = "error"
            call.error_code, call.error_message = frame.error.code, frame.error.message
        return frame


def _find_transport(connection: ServerConnection) -> Transport:
    """How the messages of a session travel."""
    served = served_transport.get()
    if served is not None:
        return served
    if connection.peer is None:
        return "other"
    if connection.ends_with_answer or not connection.headers:  # a legacy session has none of its own
        return "http"
    return "websocket" if "sec-websocket-version" in connection.headers else "sse"
