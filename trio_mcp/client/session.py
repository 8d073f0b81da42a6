"""A client's side of one connection: requests out, answers, progress and logs in.

Owns the reader, the table of calls in flight, and the queue of log messages.
Knows no method but those that a server may send.
"""

from __future__ import annotations

import inspect
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import msgspec
import trio

from trio_mcp.client.call import PendingCall, ProgressHandler
from trio_mcp.client.settings import ClientSettings
from trio_mcp.errors import ConnectionLost, RemoteProtocolError
from trio_mcp.runtime.border import contain_failure
from trio_mcp.runtime.outbox import Outbox
from trio_mcp.runtime.transport import FrameTransport
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.errors import METHOD_NOT_FOUND
from trio_mcp.wire.frames import (
    Batch,
    ErrorObject,
    ErrorResponse,
    InFrame,
    Malformed,
    Notification,
    Progress,
    ProgressToken,
    Request,
    Response,
)
from trio_mcp.wire.messages import (
    META_PROGRESS_TOKEN,
    CancelledParams,
    EmptyResult,
    LoggingLevel,
    LogParams,
    Params,
)

logger = logging.getLogger("trio_mcp")


@attrs.frozen
class LogMessage:
    """What a server says has just happened (MCP logging); `data` is text or any JSON value."""

    level: LoggingLevel
    data: Any
    logger: str | None = None


LogHandler: TypeAlias = Callable[[LogMessage], Awaitable[None] | None]
"""Called with each log message, sync or async, one call at a time."""


class ClientSession:
    """Runs one connection; its three tasks live in the nursery of `open_client`."""

    def __init__(
        self, transport: FrameTransport, settings: ClientSettings, log_handler: LogHandler | None
    ) -> None:
        self._transport = transport
        self.settings = settings
        self._log_handler = log_handler
        self._outbox = Outbox(settings.log_buffer)
        self._ids = itertools.count(1)  # also the progress tokens
        self._calls: dict[ProgressToken, PendingCall] = {}
        self._lost: ConnectionLost | None = None
        self._logs: deque[LogMessage] = deque(maxlen=settings.log_buffer)
        self._logs_dropped = 0  # since the log handler last caught up
        self._log_arrival = trio.lowlevel.ParkingLot()
        self._closing = False
        self._writing = trio.CancelScope(shield=True)  # shielded so that cancellations still leave
        self._reading = trio.CancelScope()
        self._logging = trio.CancelScope()

    def start(self, nursery: trio.Nursery) -> None:
        """Start the writer, the reader and the log consumer."""
        nursery.start_soon(self._write)
        nursery.start_soon(self._read)
        nursery.start_soon(self._consume_logs)

    def finish(self, *, abandon_logs: bool) -> None:
        """End the three tasks: what is queued still leaves, for at most `drain_timeout` seconds.

        With `abandon_logs` the log handler gets no more messages.
        """
        self._closing = True
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
        handler: ProgressHandler | None = None,
        *,
        wants_progress: bool = False,
    ) -> PendingCall:
        """Send a request; `end` must be called for it.

        Raises ConnectionLost, and what the encoder raises for parameters that JSON cannot hold.
        """
        if self._lost is not None:
            raise ConnectionLost(str(self._lost))
        call = PendingCall(next(self._ids), handler, self.settings.progress)
        if wants_progress:
            meta = {} if isinstance(params.meta, msgspec.UnsetType) else params.meta
            params.meta = {**meta, META_PROGRESS_TOKEN: call.id}
        frame = Request(call.id, method, encode_value(params))
        self._calls[call.id] = call
        self._outbox.put(frame)
        return call

    def end(self, call: PendingCall, *, cancellable: bool = True) -> None:
        """Forget a request; where its answer has not come, tell the server to stop."""
        self._calls.pop(call.id, None)
        answered = isinstance(call.outcome, (Response, ErrorResponse))
        if not answered and cancellable and self._lost is None:
            params = CancelledParams(request_id=call.id)
            self.notify("notifications/cancelled", params)

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
                while True:
                    for frame in await self._transport.receive_frames():
                        self._accept(frame)
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

    def _accept(self, frame: InFrame) -> None:
        if isinstance(frame, Progress):
            call = self._calls.get(frame.token)
            if call is None or type(frame.token) is not type(call.id):
                logger.debug("progress with the unknown token %r was dropped", frame.token)
            else:
                call.take_updates(frame.updates)
        elif isinstance(frame, (Response, ErrorResponse)):
            self._accept_answer(frame)
        elif isinstance(frame, Notification):
            self._accept_notification(frame)
        elif isinstance(frame, Request):
            self._accept_request(frame)
        elif isinstance(frame, Malformed):
            self._accept_malformed(frame)
        elif isinstance(frame, Batch):
            for member in frame.frames:
                self._accept(member)

    def _accept_answer(self, frame: Response | ErrorResponse) -> None:
        ident = frame.id
        call = None if ident is None or isinstance(ident, msgspec.UnsetType) else self._calls.get(ident)
        if call is not None and type(ident) is type(call.id):
            call.settle(frame)
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
        else:
            error = ErrorObject(METHOD_NOT_FOUND, f"this client does not serve {frame.method!r}")
            self._outbox.put(ErrorResponse(error, frame.id))

    def _accept_notification(self, frame: Notification) -> None:
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
