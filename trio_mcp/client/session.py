"""A client's side of one connection: it sends requests, and receives answers, progress and notifications.

Owns the reader, the writer's outbox, and the tables of who waits for what. Knows no method but
those that a server may send.
"""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

import msgspec
import trio

from trio_mcp.client.call_pauses import CallPauses
from trio_mcp.client.crowded_calls import CrowdedCalls
from trio_mcp.client.fault_report import ErrorHandler, FaultReport
from trio_mcp.client.log_queue import LogHandler, LogMessage, LogQueue
from trio_mcp.client.notification_routes import NotificationRoutes
from trio_mcp.client.opened_pages import OpenedPages
from trio_mcp.client.outcome import Outcome, read_error
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.server_requests import Answering, ServerRequests
from trio_mcp.client.session_life import SessionLife
from trio_mcp.client.session_statistics import ClientSessionStatistics
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.timeouts import CallTimer
from trio_mcp.errors import ConnectionLost, MCPError, RemoteProtocolError
from trio_mcp.handlers.sink import Handler
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.transport import (
    DirectTransport,
    FrameTransport,
    PausingTransport,
    PeerEndedError,
    SessionTransport,
    StreamingTransport,
)
from trio_mcp.wire.codec import encode_value
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
    as_number,
)
from trio_mcp.wire.messages import (
    META_PROGRESS_TOKEN,
    CancelledParams,
    Params,
)
from trio_mcp.wire.progress_codec import PROGRESS_METHOD

logger = logging.getLogger("trio_mcp.client")

MAX_LATE: Final = 1024
"""How many cancelled requests are remembered, in case their results arrive after all."""


class ClientSession:
    """Runs one connection; its tasks run in the nursery of `open_client`."""

    def __init__(
        self,
        transport: FrameTransport,
        settings: ClientSettings,
        log_handler: LogHandler | None,
        answering: Answering,
        on_error: ErrorHandler | None = None,
    ) -> None:
        self._transport = transport
        self.settings = settings
        self.answering = answering
        self._outbox = Outbox(settings.log_buffer)
        self._logs = None if log_handler is None else LogQueue(log_handler, settings.log_buffer)
        self._faults = FaultReport(on_error)
        self._ids = itertools.count(1)  # an id is also the progress token of its request
        self._last_id = 0
        self._calls: dict[ProgressToken, PendingCall] = {}
        self.pauses = CallPauses(self._calls)
        self.pages = OpenedPages()
        self._requests = ServerRequests(answering, self._outbox.put, self.pauses)
        self.routes = NotificationRoutes(self._requests.cancel)
        # Calls that have become tasks. They are kept alive by the task's handle.
        self._kept: WeakValueDictionary[ProgressToken, PendingCall] = WeakValueDictionary()
        self._late: OrderedDict[RequestId, Callable[[Response], None]] = OrderedDict()
        self._crowded = CrowdedCalls()
        self.note_crowded = self._crowded.note
        self._has_streams = isinstance(transport, StreamingTransport)
        self.life = SessionLife()
        if isinstance(transport, SessionTransport):
            transport.on_renewed, transport.on_unheard = self.life.note_renewed, self.life.note_unheard
            transport.on_silent = self.life.note_silent
        if isinstance(transport, PausingTransport):
            transport.pausing = partial(self.pauses.pausing, None, None)
        self.left_unread = False
        """Whether the server is known to have ended without having read all that was sent."""
        self._writing = trio.CancelScope(shield=True)  # shielded: notifications of cancellation must leave
        # Shielded: the connection lasts until the block of `open_client` has ended, however it ends. Lost
        # earlier, it would reach a caller whose own cancellation is still on its way.
        self._reading = trio.CancelScope(shield=True)

    def __repr__(self) -> str:
        state = "open" if self.life.lost is None else f"lost: {self.life.lost}"
        return f"<ClientSession {state}, {len(self._calls)} calls pending>"

    def statistics(self) -> ClientSessionStatistics:
        """Count what this session holds."""
        return ClientSessionStatistics(
            pending_calls=len(self._calls),
            kept_calls=len(self._kept),
            late_answers=len(self._late),
            server_requests=len(self._requests),
            subscriptions=len(self.routes),
            queued_frames=self._outbox.queued,
            queued_logs=0 if self._logs is None else len(self._logs),
            is_lost=self.is_lost,
        )

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended; then every request fails."""
        return self.life.lost is not None

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
        timer: CallTimer | None = None,
        *,
        wants_progress: bool = False,
        may_become_task: bool = False,
        accepts_late: bool = False,
    ) -> PendingCall:
        """Send a request; `end` must be called for it.

        With `may_become_task`, the newest progress that arrives after the answer is kept; with
        `accepts_late`, it is delivered while `wait` runs.

        If the connection is lost, the call is settled with ConnectionLost at once, which `wait` then
        returns. Raises the encoder's errors for parameters that are not JSON.
        """
        self._last_id = next(self._ids)
        call = PendingCall(
            self._last_id,
            handler,
            self.settings.progress,
            timer,
            self.note_crowded,
            outlives_answer=may_become_task,
            accepts_late=accepts_late,
        )
        if wants_progress:
            meta = {} if isinstance(params.meta, msgspec.UnsetType) else params.meta
            params.meta = {**meta, META_PROGRESS_TOKEN: call.id}
        frame = Request(call.id, method, encode_value(params))
        if self.life.lost is None:
            self._calls[call.id] = call
            self._outbox.put(frame)
        else:
            call.settle(ConnectionLost(str(self.life.lost)))
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
        if call.held is not None:
            call.release()
        answered = isinstance(call.outcome, (Response, ErrorResponse))
        if not answered and cancellable and self.life.lost is None:
            params = CancelledParams(request_id=call.id)
            self.notify("notifications/cancelled", params)
            self._requests.close_for(call.id)
            if on_late is not None:
                self._late[call.id] = on_late
                while len(self._late) > MAX_LATE:
                    self._late.popitem(last=False)

    def send_and_forget(self, method: str, params: Params) -> None:
        """Send a request and ignore its answer."""
        self._last_id = next(self._ids)
        self._outbox.put(Request(self._last_id, method, encode_value(params)))

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

    def notify(self, method: str, params: Params) -> None:
        """Send a notification."""
        self._outbox.put(Notification(method, encode_value(params)))

    async def _write(self) -> None:
        try:
            with self._writing:
                await self._outbox.write(self._transport)
        except PeerEndedError as error:
            self._lose(str(error), left_unread=error.left_unread)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lose("the server closed the connection")

    async def _read(self) -> None:
        try:
            with self._reading:
                if isinstance(self._transport, StreamingTransport):
                    self._transport.wait_taken = self._crowded.wait_taken
                if isinstance(self._transport, DirectTransport):
                    await self._transport.deliver_frames(self._accept_all, self._wait_room)
                while True:  # after `deliver_frames` this raises EndOfChannel
                    if self._accept_all(await self._transport.receive_frames()):
                        await self._wait_room()
        except PeerEndedError as error:
            self._lose(str(error), left_unread=error.left_unread)
        except trio.EndOfChannel:
            self._lose("the server closed the connection")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._lose(f"the connection broke: {error}")
        finally:
            self._lose("the client was closed")

    def _lose(self, reason: str, *, left_unread: bool = False) -> None:
        if self.life.lost is None:
            self.left_unread = left_unread
            self.life.lose(ConnectionLost(reason))
            self.pages.lose(reason)
            for call in self._calls.values():
                call.settle(ConnectionLost(reason, outcome_unknown=True))

    def _accept_all(self, frames: Sequence[InFrame]) -> bool:
        for frame in frames:
            self._accept(frame)
        if not self._has_streams and self._crowded.calls:
            return True
        # Stop reading from a server that sends requests and does not read the answers.
        return self._outbox.is_crowded

    async def _wait_room(self) -> None:
        """Wait until the wire that all calls share may be read on; checkpoints."""
        waiting = None if self._has_streams else self._crowded.wait_taken(is_shared=True)
        if waiting is not None:
            await waiting
        await self._outbox.wait_room()

    def _accept(self, frame: InFrame) -> None:
        if isinstance(frame, ProgressRun):
            token = frame.token if type(frame.token) is int else as_number(frame.token)
            call = self._calls.get(token) or self._kept.get(token)
            if call is None:
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
                    lost = ConnectionLost(frame.reason, outcome_unknown=not frame.unsent)
                    self._calls[ident].settle(frame.failure or lost)
        elif isinstance(frame, Batch):
            for member in frame.frames:
                self._accept(member)

    def _accept_answer(self, frame: Response | ErrorResponse) -> None:
        if frame.id is None or isinstance(frame.id, msgspec.UnsetType):
            # Only an error has no id. The server could not tell which request it was, but we may.
            assert isinstance(frame, ErrorResponse), "a result without an id is malformed"
            if not self._settle_only(frame, read_error(frame.error)) and self._logs is not None:
                self._logs.put(LogMessage("error", frame.error.message))  # these are the server's words
            return
        ident = frame.id if type(frame.id) is int else as_number(frame.id)
        waiting = self._calls.get(ident)
        if waiting is not None:
            waiting.settle(frame)
        elif isinstance(frame, Response) and ident in self._late:
            self._late.pop(ident)(frame)
        elif isinstance(ident, int) and 0 < ident <= self._last_id:
            logger.debug("an answer to request %r, which nobody waits for, was dropped", ident)
        else:
            fault = RemoteProtocolError(f"the server answered with the id {frame.id!r}, which no request has")
            self._settle_only(fault, fault)

    def _settle_only(self, outcome: Outcome, fault: MCPError) -> bool:
        """End the only call in flight, since nothing else can be meant; with none or several, report.

        Return whether a call was ended. Subscriptions, which are always in flight, are not meant.
        """
        waiting = {
            call.id: call
            for call in self._calls.values()
            if call.outcome is None and not self.routes.is_subscription(call.id)
        }
        if len(waiting) == 1:
            (call,) = waiting.values()
            call.settle(outcome)
            return True
        self._faults.tell(fault)
        return False

    def _accept_malformed(self, frame: Malformed) -> None:
        error = RemoteProtocolError(f"the server sent what is no message: {frame.reason}")
        if frame.lost:
            # It may have been the answer to any of the calls, and none may wait forever.
            self._faults.tell(error)
            for waiting in self._calls.values():
                waiting.settle(error)
            return
        call: PendingCall | None = None
        if not isinstance(frame.id, msgspec.UnsetType):
            if frame.kind == "request":  # the id is the server's own, so that it waits for an answer
                self._outbox.put(ErrorResponse(ErrorObject(frame.code, frame.reason), frame.id))
            else:
                call = self._calls.get(as_number(frame.id))
        if call is None:
            self._faults.tell(error)
        else:
            logger.warning("%s", error)
            call.settle(error)

    def _accept_notification(self, frame: Notification) -> None:
        is_log = frame.method == "notifications/message"
        if is_log and self.routes.on_log is not None:
            self.routes.on_log(frame.params)
        elif is_log and self._logs is not None:
            self._logs.put_raw(frame.params)
        elif frame.method == PROGRESS_METHOD:
            # Progress that can be read comes as a ProgressRun.
            self._faults.tell(RemoteProtocolError("the server sent progress that cannot be read"))
        elif frame.method == "notifications/elicitation/complete" and self.pages.note(frame.params):
            if self.routes.on_page is not None:
                self.routes.on_page(frame.params)
        elif is_log or not self.routes.pass_on(frame):
            logger.debug("notification %r was not asked for", frame.method)
