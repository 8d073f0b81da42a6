"""A server's side of one connection: read, dispatch, answer, shut down.

Owns the session's nursery, the requests in flight and the border at which a
handler's failure becomes an answer. Knows no method but the handshake's and
cancellation; what the others do is the application's business.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import trio

from trio_mcp.errors import ReturnError
from trio_mcp.runtime.border import leaves, split_failure
from trio_mcp.runtime.connection import Connection
from trio_mcp.runtime.outbox import Outbox
from trio_mcp.runtime.outlet import Outlet
from trio_mcp.runtime.progress import RequestProgress
from trio_mcp.runtime.request import ServerRequest, SessionData
from trio_mcp.runtime.settings import ServerSettings
from trio_mcp.runtime.transport import FrameTransport
from trio_mcp.wire.codec import UNENCODABLE, encode_value, make_error
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_REQUEST, ProtocolError
from trio_mcp.wire.frames import (
    Batch,
    ErrorObject,
    ErrorResponse,
    InFrame,
    Malformed,
    Notification,
    OutFrame,
    Progress,
    Request,
    RequestId,
    Response,
)
from trio_mcp.wire.handshake import ServerHandshake
from trio_mcp.wire.messages import CancelledParams, Implementation, InitializeParams, Result

logger = logging.getLogger("trio_mcp")


class Application(Protocol):
    """What a session serves: the methods, and what a handler's failure looks like."""

    settings: ServerSettings
    info: Implementation

    @property
    def immediate(self) -> Mapping[str, Callable[[ServerRequest], Result]]:
        """Methods that never wait; they are answered by the reader itself, in order."""

    @property
    def handlers(self) -> Mapping[str, Callable[[ServerRequest], Awaitable[Result]]]:
        """Methods that run in a task and a cancel scope of their own."""

    def describe_failure(self, request: ServerRequest, failure: BaseException) -> Result:
        """The result that tells a client of `failure`; raises ProtocolError for a JSON-RPC error."""


class ServerSession:
    """Serves one connection until the peer closes it; `run` may be called once."""

    def __init__(
        self, application: Application, transport: FrameTransport, principal: str | None = None
    ) -> None:
        self._app = application
        self._settings = application.settings
        self._transport = transport
        self._handshake = ServerHandshake()
        self._data = SessionData()
        self._outbox = Outbox(self._settings.log_buffer)
        self._connection = Connection(self._outbox, principal)
        self._requests: dict[RequestId, ServerRequest] = {}
        self._unwritten = 0  # calls whose answer has not left yet: what `max_requests` caps
        self._reading = trio.CancelScope()

    async def run(self) -> None:
        """Serve until the peer closes its end or the connection breaks; then close. Checkpoints.

        Shutdown: stop reading, cancel the handlers, write what is queued for at most
        `drain_timeout` seconds, close. So it is when the caller cancels, too.
        """
        async with trio.open_nursery() as nursery:
            # Shielded so that answers leave although the session is being cancelled; the
            # deadline is set as soon as the handlers are done.
            writing = trio.CancelScope(shield=True)
            nursery.start_soon(self._write, writing)
            try:
                async with trio.open_nursery() as handlers:
                    with self._reading:
                        await self._read(handlers)
                    handlers.cancel_scope.cancel()
            finally:
                self._connection.lose()
                self._outbox.close()
                writing.deadline = trio.current_time() + self._settings.drain_timeout

    async def _write(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._outbox.write(self._transport)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("the peer is gone")
        finally:
            self._reading.cancel()
            # Shielded so that the transport closes although the session is being cancelled.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._settings.drain_timeout):
                await self._transport.aclose()

    async def _read(self, handlers: trio.Nursery) -> None:
        while True:
            try:
                frames = await self._transport.receive_frames()
            except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
                return
            for frame in frames:
                self._accept(frame, handlers)
            await self._outbox.wait_room()

    def _accept(self, frame: InFrame, handlers: trio.Nursery) -> None:
        if isinstance(frame, Request):
            self._accept_request(frame, handlers, None)
        elif isinstance(frame, Notification):
            self._accept_notification(frame)
        elif isinstance(frame, Malformed):
            self._outbox.put(self._refusal(frame))
        elif isinstance(frame, Batch):
            self._accept_batch(frame, handlers)
        elif isinstance(frame, (Response, ErrorResponse)) and self._connection.accept_answer(frame):
            pass
        elif isinstance(frame, (Response, ErrorResponse, Progress)):
            logger.debug("a message that answers nothing was dropped: %r", frame)

    def _refusal(self, frame: Malformed) -> ErrorResponse:
        ident: RequestId | msgspec.UnsetType | None = frame.id
        era = self._handshake.era
        if ident is msgspec.UNSET and era is not None and era.unreadable_id == "null":
            ident = None
        return ErrorResponse(ErrorObject(frame.code, frame.reason), ident)

    def _accept_batch(self, frame: Batch, handlers: trio.Nursery) -> None:
        era = self._handshake.era
        if era is None or not era.batches:
            self._outbox.put(
                self._refusal(Malformed(INVALID_REQUEST, "batches are not part of this protocol"))
            )
            return
        answers = sum(isinstance(member, (Request, Malformed)) for member in frame.frames)
        reply = _BatchReply(answers, self._outbox)
        for member in frame.frames:
            if isinstance(member, Request):
                self._accept_request(member, handlers, reply)
            elif isinstance(member, Malformed):
                reply.add(self._refusal(member))
            else:
                self._accept(member, handlers)

    def _accept_notification(self, frame: Notification) -> None:
        if frame.method != "notifications/cancelled":
            self._handshake.notified(frame.method)
            return
        try:
            params = msgspec.json.decode(_payload(frame.params), type=CancelledParams)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.debug("a malformed cancellation was ignored: %s", error)
            return
        request = self._requests.get(params.request_id)
        if request is not None:
            logger.debug("request %r cancelled by the client: %s", request.id, params.reason)
            request.withdraw()

    def _accept_request(self, frame: Request, handlers: trio.Nursery, batch: _BatchReply | None) -> None:
        try:
            request = self._admit(frame)
            immediate = self._app.immediate.get(frame.method)
            if frame.method == "initialize":
                assert isinstance(request.params, InitializeParams)
                request.era = self._handshake.initialize(request.params)
        except ProtocolError as error:
            _answer(self._outbox, batch, _error_frame(frame.id, error))
            return
        self._unwritten += 1
        if immediate is not None:
            try:
                answer: OutFrame | None = self._result_frame(request, immediate(request))
            except (ProtocolError, ReturnError) as error:
                answer = self._failure_frame(request, error)
            self._finish(request, answer, batch)
            return
        self._requests[request.id] = request
        handlers.start_soon(self._handle, request, batch, name=f"{request.method} {request.id!r}")

    def _admit(self, frame: Request) -> ServerRequest:
        if frame.id in self._requests:
            raise ProtocolError(INVALID_REQUEST, f"request id {frame.id!r} is already in use")
        if self._unwritten >= self._settings.max_requests:
            raise ProtocolError(INTERNAL_ERROR, f"overloaded: {self._unwritten} requests are in flight")
        classified = self._handshake.classify(frame)
        outlet = Outlet(self._outbox, classified.meta.progress_token, self._settings.progress, self._answered)
        progress = RequestProgress(
            outlet if outlet.has_token else None, strict_yield=self._settings.strict_yield
        )
        return ServerRequest(
            frame.id,
            frame.method,
            classified.era,
            classified.params,
            classified.meta,
            outlet,
            progress,
            self._connection,
            None if classified.era.modern else self._data,
        )

    def _answered(self) -> None:
        self._unwritten -= 1

    async def _handle(self, request: ServerRequest, batch: _BatchReply | None) -> None:
        """Run one handler; the border outside its scope turns every failure into its answer."""
        passing: BaseException | None = None
        answer: OutFrame | None = None
        try:
            with request.scope:
                result = await self._app.handlers[request.method](request)
                answer = self._result_frame(request, result)
        except BaseException as error:  # noqa: ASYNC103  # raised again below
            passing, failure = split_failure(error)
            if failure is not None:
                answer = self._failure_frame(request, failure)
        if self._requests.get(request.id) is request:
            del self._requests[request.id]
        self._finish(request, answer, batch)
        if passing is not None:
            raise passing

    def _finish(self, request: ServerRequest, answer: OutFrame | None, batch: _BatchReply | None) -> None:
        if request.goes_on and answer is not None:
            # The token and its outlet live until the task ends; this is not the last that leaves.
            request.outlet.put(answer)
        elif batch is None or answer is None:
            request.outlet.finish(answer)
            if batch is not None:
                batch.add(None)
        else:
            request.outlet.finish(None)
            batch.add(answer)

    def _result_frame(self, request: ServerRequest, result: Result) -> OutFrame:
        request.era.stamp(result, self._app.info)
        try:
            return Response(request.id, encode_value(result))
        except UNENCODABLE as error:
            raise ReturnError(f"the result cannot be sent as JSON: {error}") from None

    def _failure_frame(self, request: ServerRequest, failure: BaseException) -> OutFrame | None:
        if request.withdrawn:
            for leaf in leaves(failure):
                logger.error("request %r failed while being cancelled", request.id, exc_info=leaf)
            return None
        try:
            return self._result_frame(request, self._app.describe_failure(request, failure))
        except ProtocolError as error:
            return _error_frame(request.id, error)
        except Exception:  # an exception that cannot even be described ends no session
            logger.exception("the failure of request %r cannot be described", request.id)
            failed = ProtocolError(INTERNAL_ERROR, f"{request.method!r} failed")
            return _error_frame(request.id, failed)


class _BatchReply:
    """Collects the answers to one batch and sends them as one (2025-03-26)."""

    def __init__(self, expected: int, outbox: Outbox) -> None:
        self._expected = expected
        self._answers: list[Any] = []
        self._outbox = outbox

    def add(self, answer: OutFrame | None) -> None:
        self._expected -= 1
        if answer is not None:
            self._answers.append(answer)
        if self._expected == 0 and self._answers:
            self._outbox.put(Batch(self._answers))


def _payload(params: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw | bytes:
    return b"{}" if isinstance(params, msgspec.UnsetType) else params


def _answer(outbox: Outbox, batch: _BatchReply | None, answer: OutFrame) -> None:
    if batch is None:
        outbox.put(answer)
    else:
        batch.add(answer)


def _error_frame(ident: RequestId, error: ProtocolError) -> ErrorResponse:
    return ErrorResponse(make_error(error), ident)
