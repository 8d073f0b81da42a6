"""A client's side of one connection: requests out, answers, progress and logs in.

Owns the reader, the table of calls in flight, and the queue of log messages.
Knows no method but those that a server may send.
"""

from __future__ import annotations

import inspect
import itertools
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias
from weakref import WeakValueDictionary

import attrs
import msgspec
import trio

from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.server_requests import Answering
from trio_mcp.client.settings import ClientSettings
from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.errors import ConnectionLost, ProtocolError, RemoteProtocolError
from trio_mcp.handlers.sink import Handler
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.transport import DirectTransport, FrameTransport
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.codec import META_RELATED_TASK, encode_value, make_error
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST
from trio_mcp.wire.frames import (
    Batch,
    ErrorObject,
    ErrorResponse,
    InFrame,
    Lost,
    Malformed,
    Notification,
    ProgressRun,
    ProgressToken,
    Request,
    RequestId,
    Response,
)
from trio_mcp.wire.messages import (
    META_PROGRESS_TOKEN,
    META_SUBSCRIPTION_ID,
    CancelledParams,
    EmptyResult,
    LoggingLevel,
    LogParams,
    Params,
)

logger = logging.getLogger("trio_mcp")

MAX_QUESTIONS: Final = 64
"""How many requests of a server may be worked on at once: each may be in front of a person."""


MAX_LATE: Final = 1024
"""How many cancelled requests are remembered, in case their results are on the way."""


@attrs.frozen
class LogMessage:
    """What a server says has just happened (MCP logging); `data` is text or any JSON value."""

    level: LoggingLevel
    data: Any
    logger: str | None = None


LogHandler: TypeAlias = Callable[[LogMessage], Awaitable[None] | None]
"""Called with each log message, sync or async, one call at a time."""


class _AddressedMeta(msgspec.Struct):
    subscription_id: int | str | None = msgspec.field(name=META_SUBSCRIPTION_ID, default=None)


class _Addressed(msgspec.Struct, rename="camel"):
    """The members of a notification that say whom it is for."""

    request_id: int | str | None = None
    task_id: str | None = None
    meta: _AddressedMeta | None = msgspec.field(name="_meta", default=None)


class ClientSession:
    """Runs one connection; its three tasks live in the nursery of `open_client`."""

    def __init__(
        self,
        transport: FrameTransport,
        settings: ClientSettings,
        log_handler: LogHandler | None,
        answering: Answering,
    ) -> None:
        self._transport = transport
        self.settings = settings
        self._log_handler = log_handler
        self.answering = answering
        self._nursery: trio.Nursery | None = None
        self._questions: dict[RequestId, trio.CancelScope] = {}
        self._subscriptions: dict[RequestId, Callable[[Notification], None]] = {}
        self._task_listeners: dict[str, list[Callable[[msgspec.Raw], None]]] = {}
        self._outbox = Outbox(settings.log_buffer)
        self._ids = itertools.count(1)  # also the progress tokens
        self._calls: dict[ProgressToken, PendingCall] = {}
        # Calls that have become tasks: whoever holds the task's handle keeps them.
        self._kept: WeakValueDictionary[ProgressToken, PendingCall] = WeakValueDictionary()
        self._late: OrderedDict[RequestId, Callable[[Response], None]] = OrderedDict()
        self._lost: ConnectionLost | None = None
        self._logs: deque[LogMessage] = deque(maxlen=settings.log_buffer)
        self._logs_dropped = 0  # since the log handler last caught up
        self._log_arrival = trio.lowlevel.ParkingLot()
        self._closing = False
        self._writing = trio.CancelScope(shield=True)  # shielded so that cancellations still leave
        self._reading = trio.CancelScope()
        self._logging = trio.CancelScope()

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended, so that every request fails."""
        return self._lost is not None

    def start(self, nursery: trio.Nursery) -> None:
        """Start the writer, the reader and the log consumer."""
        self._nursery = nursery
        nursery.start_soon(self._write)
        nursery.start_soon(self._read)
        nursery.start_soon(self._consume_logs)

    def finish(self, *, abandon_logs: bool) -> None:
        """End the three tasks: what is queued still leaves, for at most `drain_timeout` seconds.

        With `abandon_logs` the log handler gets no more messages.
        """
        self._closing = True
        for scope in self._questions.values():
            scope.cancel()
        self._outbox.close()
        deadline = trio.current_time() + self.settings.drain_timeout
        self._writing.deadline = deadline
        self._reading.cancel()
        self._log_arrival.unpark_all()
        if abandon_logs:
            self._logging.cancel()
        else:
            self._logging.deadline = deadline

    def begin(
        self,
        method: str,
        params: Params,
        handler: Handler | None = None,
        *,
        wants_progress: bool = False,
        may_become_task: bool = False,
        takes_late: bool = False,
    ) -> PendingCall:
        """Send a request; `end` must be called for it.

        With `may_become_task`, progress that comes after the answer is kept as well, also
        while nobody waits; with `takes_late`, while somebody does.

        Raises ConnectionLost, and what the encoder raises for parameters that JSON cannot hold.
        """
        if self._lost is not None:
            raise ConnectionLost(str(self._lost))
        call = PendingCall(
            next(self._ids),
            handler,
            self.settings.progress,
            outlives_answer=may_become_task,
            takes_late=takes_late,
        )
        if wants_progress:
            meta = {} if isinstance(params.meta, msgspec.UnsetType) else params.meta
            params.meta = {**meta, META_PROGRESS_TOKEN: call.id}
        frame = Request(call.id, method, encode_value(params))
        self._calls[call.id] = call
        self._outbox.put(frame)
        return call

    def end(
        self,
        call: PendingCall,
        *,
        cancellable: bool = True,
        on_late: Callable[[Response], None] | None = None,
    ) -> None:
        """Forget a request; where its answer has not come, tell the server to stop.

        `on_late` gets a result that crosses the cancellation.
        """
        self._calls.pop(call.id, None)
        self._kept.pop(call.id, None)
        answered = isinstance(call.outcome, (Response, ErrorResponse))
        if not answered and cancellable and self._lost is None:
            params = CancelledParams(request_id=call.id)
            self.notify("notifications/cancelled", params)
            if on_late is not None:
                self._late[call.id] = on_late
                while len(self._late) > MAX_LATE:
                    self._late.popitem(last=False)

    def send_and_forget(self, method: str, params: Params) -> None:
        """Send a request whose answer is of no interest."""
        self._outbox.put(Request(next(self._ids), method, encode_value(params)))

    def redirect(self, token_call: PendingCall, call: PendingCall) -> None:
        """Deliver the progress of `token_call` through `call` from now on."""
        call.take_over(token_call)
        self._calls[token_call.id] = call

    def restore(self, token_call: PendingCall, call: PendingCall) -> None:
        """Undo `redirect`."""
        if self._calls.get(token_call.id) is call:
            token_call.take_over(call)
            self.keep(token_call)

    def keep(self, call: PendingCall) -> None:
        """Take progress for an answered call as long as somebody holds `call`."""
        self._calls.pop(call.id, None)
        self._kept[call.id] = call

    @contextmanager
    def subscribed(self, ident: RequestId, receive: Callable[[Notification], None]) -> Iterator[None]:
        """While the block lasts, `receive` gets what comes for a subscription (MCP subscriptions)."""
        self._subscriptions[ident] = receive
        try:
            yield
        finally:
            del self._subscriptions[ident]

    @contextmanager
    def listening_for_task(self, task_id: str, receive: Callable[[msgspec.Raw], None]) -> Iterator[None]:
        """While the block lasts, `receive` gets the status notifications of a task (2025-11-25)."""
        listeners = self._task_listeners.setdefault(task_id, [])
        listeners.append(receive)
        try:
            yield
        finally:
            listeners.remove(receive)
            if not listeners:
                self._task_listeners.pop(task_id, None)

    def notify(self, method: str, params: Params) -> None:
        """Send a notification."""
        self._outbox.put(Notification(method, encode_value(params)))

    async def _write(self) -> None:
        try:
            with self._writing:
                await self._outbox.write(self._transport)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lose("the server closed the connection")

    async def _read(self) -> None:
        try:
            with self._reading:
                if isinstance(self._transport, DirectTransport):
                    await self._transport.deliver_frames(self._accept_all, self._outbox.wait_room)
                while True:
                    if self._accept_all(await self._transport.receive_frames()):
                        await self._outbox.wait_room()
        except trio.EndOfChannel:
            self._lose("the server closed the connection")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._lose(f"the connection broke: {error}")
        finally:
            self._lose("the client was closed")

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = ConnectionLost(reason)
            for call in self._calls.values():
                call.settle(ConnectionLost(reason))

    def _accept_all(self, frames: Sequence[InFrame]) -> bool:
        for frame in frames:
            self._accept(frame)
        # A server that asks and never reads is not read from.
        return self._outbox.is_crowded

    def _accept(self, frame: InFrame) -> None:
        if isinstance(frame, ProgressRun):
            call = self._calls.get(frame.token) or self._kept.get(frame.token)
            if call is None or type(frame.token) is not int:
                logger.debug("progress with the unknown token %r was dropped", frame.token)
            else:
                call.take_updates(frame.updates, frame.stages)
        elif isinstance(frame, (Response, ErrorResponse)):
            self._accept_answer(frame)
        elif isinstance(frame, Notification):
            self._accept_notification(frame)
        elif isinstance(frame, Request):
            self._accept_request(frame)
        elif isinstance(frame, Malformed):
            self._accept_malformed(frame)
        elif isinstance(frame, Lost):
            for ident in frame.ids:
                if ident in self._calls:
                    self._calls[ident].settle(ConnectionLost(frame.reason))
        elif isinstance(frame, Batch):
            for member in frame.frames:
                self._accept(member)

    def _accept_answer(self, frame: Response | ErrorResponse) -> None:
        ident = frame.id
        call = None if ident is None or isinstance(ident, msgspec.UnsetType) else self._calls.get(ident)
        if call is not None and type(ident) is type(call.id):
            call.settle(frame)
        elif isinstance(frame, Response) and frame.id in self._late:
            self._late.pop(frame.id)(frame)
        elif isinstance(frame, ErrorResponse) and (ident is None or ident is msgspec.UNSET):
            logger.warning("the server could not read a message: %s", frame.error.message)
        else:
            logger.debug("an answer to the unknown request %r was dropped", ident)

    def _accept_malformed(self, frame: Malformed) -> None:
        error = RemoteProtocolError(f"the server sent what is no message: {frame.reason}")
        logger.warning("%s", error)
        if frame.lost:
            # It may have been the answer to any of them, and none may wait forever.
            for call in self._calls.values():
                call.settle(error)
        elif not isinstance(frame.id, msgspec.UnsetType) and frame.id in self._calls:
            self._calls[frame.id].settle(error)

    def _accept_request(self, frame: Request) -> None:
        if frame.method == "ping":
            self._outbox.put(Response(frame.id, encode_value(EmptyResult())))
        elif frame.id in self._questions:
            error = ErrorObject(INVALID_REQUEST, f"request id {frame.id!r} is already in use")
            self._outbox.put(ErrorResponse(error, frame.id))
        elif self._nursery is not None and not self._closing and len(self._questions) < MAX_QUESTIONS:
            # Here, not in the task, so that a cancellation that follows at once finds it.
            scope = self._questions[frame.id] = trio.CancelScope()
            self._nursery.start_soon(self._answer, frame, scope)
        else:
            error = ErrorObject(INTERNAL_ERROR, f"{len(self._questions)} questions are open already")
            self._outbox.put(ErrorResponse(error, frame.id))

    async def _answer(self, frame: Request, scope: trio.CancelScope) -> None:
        """Answer a server's request; the border at which a handler's failure becomes an error."""
        answer: Response | ErrorResponse | None = None
        try:
            with scope:
                params = {} if isinstance(frame.params, msgspec.UnsetType) else _decode(frame.params)
                result = await self.answering.answer(frame.method, params)
                answer = Response(frame.id, encode_json(_related(params, result)))
        except ProtocolError as error:
            answer = ErrorResponse(make_error(error), frame.id)
        except BaseException as error:  # noqa: ASYNC103  # contain_failure raises it
            answer = ErrorResponse(ErrorObject(INTERNAL_ERROR, f"{frame.method} failed"), frame.id)
            contain_failure(error, f"the handler of {frame.method} failed")
        finally:
            self._questions.pop(frame.id, None)
        if answer is not None:
            self._outbox.put(answer)

    def _accept_notification(self, frame: Notification) -> None:
        if isinstance(frame.params, msgspec.Raw) and self._dispatch(frame, frame.params):
            return
        if frame.method != "notifications/message" or self._log_handler is None:
            logger.debug("notification %r was not asked for", frame.method)
            return
        try:
            raw = b"" if isinstance(frame.params, msgspec.UnsetType) else frame.params
            params = msgspec.json.decode(raw, type=LogParams)
            message = LogMessage(params.level, msgspec.json.decode(params.data), params.logger)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.debug("a malformed log message was dropped: %s", error)
            return
        if len(self._logs) == self._logs.maxlen:
            if self._logs_dropped == 0:
                logger.warning("the log handler is slow: the oldest messages are dropped")
            self._logs_dropped += 1
        self._logs.append(message)
        self._log_arrival.unpark_all()

    def _dispatch(self, frame: Notification, raw: msgspec.Raw) -> bool:
        """Hand a notification to whoever waits for it; False where nobody does."""
        if frame.method == "notifications/message":
            return False
        try:
            params = msgspec.json.decode(raw, type=_Addressed)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        if frame.method == "notifications/cancelled" and params.request_id in self._questions:
            self._questions[params.request_id].cancel()
            return True
        if frame.method == "notifications/tasks/status" and params.task_id is not None:
            for listener in list(self._task_listeners.get(params.task_id, ())):
                listener(raw)
            return True
        ident = None if params.meta is None else params.meta.subscription_id
        receive = None if ident is None else self._subscriptions.get(ident)
        if receive is None:
            return False
        receive(frame)
        return True

    async def _consume_logs(self) -> None:
        with self._logging:
            while self._logs or not self._closing:
                if self._logs:
                    await self._handle_log(self._logs.popleft())
                else:
                    if self._logs_dropped:
                        logger.warning("%d log messages were dropped", self._logs_dropped)
                        self._logs_dropped = 0
                    await self._log_arrival.park()

    async def _handle_log(self, message: LogMessage) -> None:
        assert self._log_handler is not None, "messages are only queued for a handler"
        try:
            pending = self._log_handler(message)
            if pending is not None and inspect.isawaitable(pending):
                await pending
        except BaseException as error:  # noqa: ASYNC103  # contain_failure raises it
            contain_failure(error, "a log handler failed")
        await trio.lowlevel.checkpoint()


def _decode(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(INVALID_PARAMS, str(error)) from None


def _related(params: Any, result: dict[str, Any]) -> dict[str, Any]:
    """The result, marked as belonging to the task that the question belongs to (2025-11-25)."""
    meta = params.get("_meta") if isinstance(params, Mapping) else None
    related = meta.get(META_RELATED_TASK) if isinstance(meta, Mapping) else None
    return result if related is None else {**result, "_meta": {META_RELATED_TASK: related}}
