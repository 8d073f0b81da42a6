"""The server's side of one client: dispatch, handlers, answers.

Owns the requests in flight, and the failure boundary at which a handler's exception becomes an
answer. Refuses to know methods, except the handshake and cancellation: the application has the
others. Refuses to know where messages come from: the caller hands them in.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import trio

from trio_mcp.concurrency.failures import leaves, log_failure, split_failure
from trio_mcp.errors import ReturnError
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.policy import reports_policy
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.request import ServerRequest, SessionData
from trio_mcp.session.settings import ServerSettings
from trio_mcp.wire.codec import UNENCODABLE, encode_value, make_error
from trio_mcp.wire.eras import Era
from trio_mcp.wire.errors import DEADLINE_PASSED, INTERNAL_ERROR, INVALID_REQUEST, ProtocolError
from trio_mcp.wire.frames import (
    Batch,
    ErrorObject,
    ErrorResponse,
    InFrame,
    Malformed,
    Notification,
    OutFrame,
    ProgressRun,
    Refusal,
    Request,
    RequestId,
    Response,
    as_other_type,
)
from trio_mcp.wire.handshake import Handshake, ServerHandshake
from trio_mcp.wire.incoming_request import IncomingRequest, read_request
from trio_mcp.wire.messages import META_DEADLINE, CancelledParams, Implementation, InitializeParams, Result

if TYPE_CHECKING:
    from trio_mcp.session.batch_reply import BatchReply

logger = logging.getLogger("trio_mcp.session")

UNAUTHORIZED: Final = 401
"""The status in the error for a request under an expired permit, as over HTTP."""


class NeedsTask(Exception):  # noqa: N818  # no error
    """Raised in the place of a method that never waits: something around it may, so it runs as a handler."""


class Application(Protocol):
    """What a session serves: the methods, and the results of failures."""

    settings: ServerSettings
    info: Implementation

    @property
    def make_session(self) -> Callable[[ServerConnection, trio.Nursery], ServerSession]:
        """Makes the session of a client, which serves this application."""

    @property
    def immediate(self) -> Mapping[str, Callable[[ServerRequest], Result]]:
        """Methods that never wait; the task that reads answers them itself, in order.

        One that raises NeedsTask is a handler of that name.
        """

    @property
    def handlers(self) -> Mapping[str, Callable[[ServerRequest], Awaitable[Result]]]:
        """Methods that run in a task and a cancel scope of their own."""

    def begin_session(self, connection: ServerConnection) -> None:
        """Note that the legacy client at `connection` has ended its handshake, and may be told of changes."""

    def check_headers(self, headers: Mapping[str, str], request: IncomingRequest) -> None:
        """Raise ProtocolError if headers that repeat the arguments of a call differ from them."""

    def describe_failure(self, request: ServerRequest, failure: BaseException) -> Result:
        """The error result for `failure`; raises ProtocolError to answer with a JSON-RPC error."""


class SessionStatistics(msgspec.Struct, frozen=True):
    """A session at one moment.

    `era` is the revision that `initialize` settled, or None. `running` is the number of requests whose
    handler runs, `unwritten` the number of those whose answer has not left yet, the running included.
    """

    era: str | None
    handshake: Handshake
    running: int
    unwritten: int


class ServerSession:
    """Everything between a server and one client, over one wire or several.

    `connection` is the client's wire; if it has several, the one for messages that belong to no
    request. Handlers run in `nursery`, which ends with the session.
    """

    __slots__ = (
        "_app",
        "_data",
        "_handlers",
        "_handshake",
        "_idle",
        "_policy",
        "_request_limit",
        "_requests",
        "_settings",
        "_unwritten",
        "connection",
    )

    def __init__(self, application: Application, connection: ServerConnection, nursery: trio.Nursery) -> None:
        self._app = application
        self._settings = application.settings
        self._policy = reports_policy(application.settings.progress)
        self._handlers = nursery
        self._handshake = ServerHandshake()
        self._data: SessionData | None = None
        self.connection = connection
        self._requests: dict[RequestId, ServerRequest] = {}
        self._unwritten = 0  # requests whose answer has not left yet; `max_requests` is their cap
        self._request_limit = application.settings.max_requests
        self._idle: trio.Event | None = None  # once no further request is taken

    def __repr__(self) -> str:
        now = self.statistics()
        era = now.era or "no era"
        return (
            f"<ServerSession {era}, {now.handshake.value}, {now.running} running, {now.unwritten} unwritten>"
        )

    def statistics(self) -> SessionStatistics:
        """How much the session has to do now."""
        era = self._handshake.era
        return SessionStatistics(
            era=None if era is None else era.version,
            handshake=self._handshake.state,
            running=len(self._requests),
            unwritten=self._unwritten,
        )

    @property
    def era(self) -> Era | None:
        """The era that `initialize` settled, or None before it."""
        return self._handshake.era

    async def run_out(self) -> None:
        """Take no further requests, because the client's permit has ended, and wait for those that run.

        Answers to questions, and cancellations, are read on. Checkpoints.
        """
        self._idle = trio.Event()
        self._request_limit = 0
        if not self._requests:
            self._idle.set()
        await self._idle.wait()

    def withdraw(self) -> None:
        """Stop working on all requests: their client wants no answers any more."""
        for request in self._requests.values():
            request.withdraw()

    def accept(self, frame: InFrame, connection: ServerConnection) -> None:
        """Process a message that the client sent over `connection`; never waits."""
        if isinstance(frame, Request):
            self.accept_request(read_request(frame), connection)
        elif isinstance(frame, Notification):
            self._accept_notification(frame)
        elif isinstance(frame, Malformed):
            _answer(connection, None, self._refuse(frame, connection))
        elif isinstance(frame, Batch):
            self._accept_batch(frame, connection)
        elif isinstance(frame, (Response, ErrorResponse)) and connection.accept_answer(frame):
            pass
        elif isinstance(frame, (Response, ErrorResponse, ProgressRun)):
            logger.debug("a message that answers nothing was dropped: %r", frame)

    def _refuse(self, frame: Malformed, connection: ServerConnection) -> Refusal:
        if frame.kind == "answer":
            # Its id is one of ours, and the question has no better answer.
            if not isinstance(frame.id, msgspec.UnsetType):
                reason = f"the client's answer cannot be read: {frame.reason}"
                connection.accept_answer(ErrorResponse(ErrorObject(frame.code, reason), frame.id))
            frame = Malformed(frame.code, frame.reason)
        return self._refusal(frame)

    def _refusal(self, frame: Malformed) -> Refusal:
        ident: RequestId | msgspec.UnsetType | None = frame.id
        era = self._handshake.era
        if ident is msgspec.UNSET and era is not None and era.unreadable_id == "null":
            ident = None
        return Refusal(ErrorObject(frame.code, frame.reason), ident)

    def _accept_batch(self, frame: Batch, connection: ServerConnection) -> None:
        era = self._handshake.era
        if era is None or not era.batches:
            refusal = Malformed(INVALID_REQUEST, "batches are not part of this protocol")
            _answer(connection, None, self._refusal(refusal))
            return
        # Imported here: only one revision has batches, and few of its clients send them.
        from trio_mcp.session.batch_reply import BatchReply

        answers = sum(isinstance(member, (Request, Malformed)) for member in frame.frames)
        reply = BatchReply(answers, connection, self._note_batch_answered)
        for member in frame.frames:
            if isinstance(member, Request):
                self.accept_request(read_request(member), connection, reply)
            elif isinstance(member, Malformed):
                reply.add(self._refuse(member, connection))
            else:
                self.accept(member, connection)

    def _accept_notification(self, frame: Notification) -> None:
        if frame.method != "notifications/cancelled":
            if self._handshake.notified(frame.method) and self._handshake.state is Handshake.READY:
                self._app.begin_session(self.connection)
            return
        try:
            params = msgspec.json.decode(_payload(frame.params), type=CancelledParams)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.debug("a malformed cancellation was ignored: %s", error)
            return
        ident = params.request_id
        request = self._requests.get(ident) or self._requests.get(as_other_type(ident))
        if request is not None:
            logger.debug("request %r cancelled by the client: %s", request.id, params.reason)
            request.was_cancelled = True
            request.withdraw()

    def accept_request(
        self, incoming: IncomingRequest, connection: ServerConnection, batch: BatchReply | None = None
    ) -> None:
        """Start to work on a request that came over `connection`, with a `batch` or alone; never waits."""
        frame = incoming.frame
        try:
            request = self._admit(incoming, connection, self._answered if batch is None else _nothing)
            immediate = self._app.immediate.get(frame.method)
            if frame.method == "initialize":
                self._initialize(request, batch)
        except ProtocolError as error:
            _answer(connection, batch, Refusal(make_error(error), frame.id))
            return
        self._unwritten += 1
        if batch is not None:
            batch.admitted += 1
        if immediate is not None:
            try:
                answer: OutFrame | None = self._result_frame(request, immediate(request))
            except (ProtocolError, ReturnError) as error:
                answer = self._failure_frame(request, error)
            except NeedsTask:
                self._requests[request.id] = request
                self._handlers.start_soon(self._handle, request, batch, name=request.task_name)
                return
            _finish(request, request.call_queue, answer, batch)
            return
        self._requests[request.id] = request
        self._handlers.start_soon(self._handle, request, batch, name=request.task_name)

    def _initialize(self, request: ServerRequest, batch: BatchReply | None) -> None:
        """Begin a session; one that the client had on this wire ends. Its background tasks stay.

        Raises ProtocolError within a batch, and in a session over HTTP, where a session begins with a
        request that names none (MCP transports 2025-11-25, "Session Management").
        """
        assert isinstance(request.params, InitializeParams)
        if self._handshake.state is not Handshake.AWAITED:
            if batch is not None or request.connection.home is not request.connection:
                raise ProtocolError(
                    INVALID_REQUEST, f"initialize is not legal here: {self._handshake.state.value}"
                )
            for old in [old for old in self._requests.values() if not old.era.modern]:
                old.withdraw()
                del self._requests[old.id]  # the new session may use the id
            self._data = None
        request.era = self._handshake.initialize(request.params)

    def _admit(
        self, incoming: IncomingRequest, connection: ServerConnection, on_answered: Callable[[], None]
    ) -> ServerRequest:
        frame = incoming.frame
        same = self._requests.get(frame.id)
        # A client that begins a new session counts its requests anew.
        if same is not None and (same.era.modern or frame.method != "initialize"):
            raise ProtocolError(INVALID_REQUEST, f"request id {frame.id!r} is already in use")
        if self._unwritten >= self._request_limit:
            if self._idle is not None:
                raise permit_ended()
            raise ProtocolError(INTERNAL_ERROR, f"overloaded: {self._unwritten} requests are in flight")
        era, meta = self._handshake.classify(incoming)
        call_queue = CallQueue(connection.outbox, meta.progress_token, self._policy, on_answered)
        progress = ProgressReporter(
            call_queue if call_queue.has_token else None,
            strict_yield=self._settings.strict_yield,
            clock=self._settings.turn_clock,
        )
        request = ServerRequest(
            frame.id,
            frame.method,
            era,
            incoming.params,
            meta,
            call_queue,
            progress,
            connection,
            None if era.modern else self._session_data,
            pauses=self._settings.pause_while_asking,
        )
        if meta.seconds_left is not None:
            request.expire_after(meta.seconds_left, self._settings.deadline_margin)
        return request

    @property
    def _session_data(self) -> SessionData:
        if self._data is None:
            self._data = SessionData()
        return self._data

    def _answered(self) -> None:
        self._unwritten -= 1

    def _note_batch_answered(self, requests: int) -> None:
        self._unwritten -= requests  # until then the answers of all were kept

    async def _handle(self, request: ServerRequest, batch: BatchReply | None) -> None:
        """Run one handler. The failure boundary outside its scope makes every exception the answer, but
        Cancelled and KeyboardInterrupt, which are raised again after it."""
        passing: BaseException | None = None
        answer: OutFrame | None = None
        call_queue = request.call_queue  # the answer leaves by this one, also if a task has another by then
        try:
            with request.scope:
                # `classify` has refused every method that the era does not have.
                result = await self._app.handlers[request.method](request)
                answer = self._result_frame(request, result)
            if request.scope.cancelled_caught and not request.withdrawn:
                answer = self._early_answer(request)
        except BaseException as error:  # noqa: ASYNC103  # the boundary; Cancelled is raised again below
            passing, failure = split_failure(error)
            if failure is not None:
                answer = self._failure_frame(request, failure)
        if self._requests.get(request.id) is request:
            del self._requests[request.id]
            if self._idle is not None and not self._requests:
                self._idle.set()
        _finish(request, call_queue, answer, batch)
        if passing is not None:
            raise passing

    def _result_frame(self, request: ServerRequest, result: Result) -> OutFrame:
        request.era.stamp(result, self._app.info)
        try:
            return Response(request.id, encode_value(result))
        except UNENCODABLE as error:
            raise ReturnError(f"the result cannot be sent as JSON: {error}") from None

    def _early_answer(self, request: ServerRequest) -> OutFrame:
        """Answer for a handler that was cancelled: by its questions to the client, or by the deadline."""
        questions = None if request.round is None else request.round.conclude()
        if questions is not None:
            return self._result_frame(request, questions)
        return ErrorResponse(make_error(deadline_passed()), request.id)

    def _failure_frame(self, request: ServerRequest, failure: BaseException) -> OutFrame | None:
        if request.withdrawn:
            for leaf in leaves(failure):
                log_failure(leaf, request.method, logger, "failed while being cancelled")
            return None
        try:
            return self._result_frame(request, self._app.describe_failure(request, failure))
        except ProtocolError as error:
            return ErrorResponse(make_error(error), request.id)
        except Exception as error:  # a foreign exception may fail to be described: the session goes on
            log_failure(error, f"the description of a failure of {request.method}", logger)
            failed = ProtocolError(INTERNAL_ERROR, f"{request.method!r} failed")
            return ErrorResponse(make_error(failed), request.id)


def deadline_passed() -> ProtocolError:
    """The error answer for a request whose client set a deadline that has passed."""
    return ProtocolError(DEADLINE_PASSED, "the deadline of the request has passed", {META_DEADLINE: True})


def permit_ended() -> ProtocolError:
    """The error answer for a request that comes when the access token of its connection has expired."""
    reason = "the access token of this connection has expired: connect again with another"
    return ProtocolError(INVALID_REQUEST, reason, {"status": UNAUTHORIZED})


def _nothing() -> None:
    """A request of a batch has been answered with the batch."""


def _payload(params: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw | bytes:
    return b"{}" if isinstance(params, msgspec.UnsetType) else params


def _finish(
    request: ServerRequest, call_queue: CallQueue, answer: OutFrame | None, batch: BatchReply | None
) -> None:
    """Send the answer behind the pending messages of `call_queue`, or together with its batch."""
    call_queue.finish(answer if batch is None else None)
    if batch is None:
        request.connection.note_answered()
    else:
        batch.add(answer)


def _answer(connection: ServerConnection, batch: BatchReply | None, answer: OutFrame) -> None:
    if batch is None:
        connection.outbox.put(answer)
        connection.note_answered()
    else:
        batch.add(answer)
