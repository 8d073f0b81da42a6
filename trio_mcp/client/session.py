"""A client's side of one connection: it sends requests, and receives answers, progress and notifications.

Owns the reader, the writer's outbox, and the tables of who waits for what. Knows no method but
those that a server may send.
"""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from weakref import WeakValueDictionary

import attrs
import msgspec
import trio

from trio_mcp.client.log_queue import LogHandler, LogQueue
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.server_requests import Answering, ServerRequests
from trio_mcp.client.settings import ClientSettings
from trio_mcp.errors import ConnectionLost, RemoteProtocolError
from trio_mcp.handlers.sink import Handler
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.transport import DirectTransport, FrameTransport, PeerEndedError
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.frames import (
    Batch,
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
    Params,
)

logger = logging.getLogger("trio_mcp")

MAX_LATE: Final = 1024
"""How many cancelled requests are remembered, in case their results arrive after all."""


class _AddressedMeta(msgspec.Struct):
    subscription_id: int | str | None = msgspec.field(name=META_SUBSCRIPTION_ID, default=None)


class _Addressed(msgspec.Struct, rename="camel"):
    """The members of a notification that say for which request, task or subscription it is."""

    request_id: int | str | None = None
    task_id: str | None = None
    meta: _AddressedMeta | None = msgspec.field(name="_meta", default=None)


@attrs.frozen
class ClientSessionStatistics:
    """The number of objects that a session holds at one moment.

    `pending_calls` wait for an answer. `kept_calls` have become tasks whose progress is still received.
    `late_answers` are cancelled calls whose result may still arrive. `server_requests` are being answered.
    `subscriptions` include the tasks of 2025-11-25 whose notifications are received. `queued_frames` wait
    for the wire, `queued_logs` for the log handler.
    """

    pending_calls: int
    kept_calls: int
    late_answers: int
    server_requests: int
    subscriptions: int
    queued_frames: int
    queued_logs: int
    is_lost: bool


class ClientSession:
    """Runs one connection; its tasks run in the nursery of `open_client`."""

    def __init__(
        self,
        transport: FrameTransport,
        settings: ClientSettings,
        log_handler: LogHandler | None,
        answering: Answering,
    ) -> None:
        self._transport = transport
        self.settings = settings
        self.answering = answering
        self._outbox = Outbox(settings.log_buffer)
        self._requests = ServerRequests(answering, self._outbox.put)
        self._logs = None if log_handler is None else LogQueue(log_handler, settings.log_buffer)
        self._subscriptions: dict[RequestId, Callable[[Notification], None]] = {}
        self._task_listeners: dict[str, list[Callable[[msgspec.Raw], None]]] = {}
        self._ids = itertools.count(1)  # an id is also the progress token of its request
        self._calls: dict[ProgressToken, PendingCall] = {}
        # Calls that have become tasks. They are kept alive by the task's handle.
        self._kept: WeakValueDictionary[ProgressToken, PendingCall] = WeakValueDictionary()
        self._late: OrderedDict[RequestId, Callable[[Response], None]] = OrderedDict()
        self._lost: ConnectionLost | None = None
        self._writing = trio.CancelScope(shield=True)  # shielded: notifications of cancellation must leave
        self._reading = trio.CancelScope()

    def __repr__(self) -> str:
        state = "open" if self._lost is None else f"lost: {self._lost}"
        return f"<ClientSession {state}, {len(self._calls)} calls pending>"

    def statistics(self) -> ClientSessionStatistics:
        """Count what this session holds."""
        return ClientSessionStatistics(
            pending_calls=len(self._calls),
            kept_calls=len(self._kept),
            late_answers=len(self._late),
            server_requests=len(self._requests),
            subscriptions=len(self._subscriptions) + len(self._task_listeners),
            queued_frames=self._outbox.queued,
            queued_logs=0 if self._logs is None else len(self._logs),
            is_lost=self.is_lost,
        )

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended; then every request fails."""
        return self._lost is not None

    def start(self, nursery: trio.Nursery) -> None:
        """Start the writer, the reader and the consumer of log messages."""
        self._requests.open(nursery)
        nursery.start_soon(self._write)
        nursery.start_soon(self._read)
        if self._logs is not None:
            nursery.start_soon(self._logs.run)

    def finish(self, *, abandon_logs: bool) -> None:
        """End the tasks of the session; queued frames are still written, within `drain_timeout` seconds.

        With `abandon_logs` the log handler gets no more messages.
        """
        deadline = trio.current_time() + self.settings.drain_timeout
        self._requests.close()
        self._outbox.close()
        self._writing.deadline = deadline
        self._reading.cancel()
        if self._logs is not None:
            if abandon_logs:
                self._logs.abandon()
            else:
                self._logs.close(deadline)

    def begin(
        self,
        method: str,
        params: Params,
        handler: Handler | None = None,
        *,
        wants_progress: bool = False,
        may_become_task: bool = False,
        accepts_late: bool = False,
    ) -> PendingCall:
        """Send a request; `end` must be called for it.

        With `may_become_task`, the newest progress that arrives after the answer is kept; with
        `accepts_late`, it is delivered while `wait` runs.

        Raises ConnectionLost, and the encoder's errors for parameters that are not JSON.
        """
        if self._lost is not None:
            raise ConnectionLost(str(self._lost))
        call = PendingCall(
            next(self._ids),
            handler,
            self.settings.progress,
            outlives_answer=may_become_task,
            accepts_late=accepts_late,
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
        """Forget a request; if it was not answered, notify the server that it is cancelled.

        `on_late` gets a result that the server sent before it received the cancellation.
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
        """Send a request and ignore its answer."""
        self._outbox.put(Request(next(self._ids), method, encode_value(params)))

    def redirect(self, token_call: PendingCall, call: PendingCall) -> None:
        """Deliver the progress of `token_call` through `call` from now on."""
        token_call.hand_over(call)
        self._calls[token_call.id] = call

    def restore(self, token_call: PendingCall, call: PendingCall) -> None:
        """Undo `redirect`."""
        if self._calls.get(token_call.id) is call:
            call.hand_over(token_call)
            self.keep(token_call)

    def keep(self, call: PendingCall) -> None:
        """Accept progress for an answered call, for as long as somebody holds a reference to `call`."""
        self._calls.pop(call.id, None)
        self._kept[call.id] = call

    @contextmanager
    def subscribed(self, ident: RequestId, receive: Callable[[Notification], None]) -> Iterator[None]:
        """While the block lasts, `receive` gets the notifications of a subscription (MCP subscriptions)."""
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
        except PeerEndedError as error:
            self._lose(str(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lose("the server closed the connection")

    async def _read(self) -> None:
        try:
            with self._reading:
                if isinstance(self._transport, DirectTransport):
                    await self._transport.deliver_frames(self._accept_all, self._outbox.wait_room)
                while True:  # after `deliver_frames` this raises EndOfChannel
                    if self._accept_all(await self._transport.receive_frames()):
                        await self._outbox.wait_room()
        except trio.EndOfChannel:
            self._lose("the server closed the connection")
        except PeerEndedError as error:
            self._lose(str(error))
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
        # Stop reading from a server that sends requests and does not read the answers.
        return self._outbox.is_crowded

    def _accept(self, frame: InFrame) -> None:
        if isinstance(frame, ProgressRun):
            call = self._calls.get(frame.token) or self._kept.get(frame.token)
            if call is None or type(frame.token) is not int:
                logger.debug("progress with the unknown token %r was dropped", frame.token)
            else:
                call.queue_updates(frame.updates, frame.stages)
        elif isinstance(frame, (Response, ErrorResponse)):
            self._accept_answer(frame)
        elif isinstance(frame, Notification):
            self._accept_notification(frame)
        elif isinstance(frame, Request):
            self._requests.accept(frame)
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
            # It may have been the answer to any of the calls, and none may wait forever.
            for call in self._calls.values():
                call.settle(error)
        elif not isinstance(frame.id, msgspec.UnsetType) and frame.id in self._calls:
            self._calls[frame.id].settle(error)

    def _accept_notification(self, frame: Notification) -> None:
        is_log = frame.method == "notifications/message"
        if is_log and self._logs is not None:
            self._logs.put_raw(frame.params)
        elif is_log or not self._dispatch(frame):
            logger.debug("notification %r was not asked for", frame.method)

    def _dispatch(self, frame: Notification) -> bool:
        """Pass a notification to those who wait for it; return False if nobody does."""
        if isinstance(frame.params, msgspec.UnsetType):
            return False
        try:
            params = msgspec.json.decode(frame.params, type=_Addressed)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        if frame.method == "notifications/cancelled" and self._requests.cancel(params.request_id):
            return True
        if frame.method == "notifications/tasks/status" and params.task_id is not None:
            for listener in list(self._task_listeners.get(params.task_id, ())):
                listener(frame.params)
            return True
        ident = None if params.meta is None else params.meta.subscription_id
        receive = None if ident is None else self._subscriptions.get(ident)
        if receive is None:
            return False
        receive(frame)
        return True
