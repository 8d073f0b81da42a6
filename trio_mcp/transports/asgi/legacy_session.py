"""Sessions of legacy clients over HTTP (MCP transports 2025-11-25, "Session Management").

Owns the table of sessions, the state of each, its nursery and its end, and which stream carries
which messages. Refuses to know methods, except that a session begins with `initialize`.
"""

from __future__ import annotations

import enum
import logging
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import trio

from trio_mcp.errors import LocalProtocolError
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.permit import Permit
from trio_mcp.session.server_session import Application, ServerSession
from trio_mcp.transports.asgi.admission import Places
from trio_mcp.transports.asgi.call import HttpCall
from trio_mcp.transports.asgi.event_stream import EventStream
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.types import Receive
from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.http import SESSION_HEADER
from trio_mcp.wire.incoming_request import IncomingRequest

logger = logging.getLogger("trio_mcp.transports")

MAIN = "main"
"""The name of the stream for messages that belong to no request."""


class SessionState(enum.Enum):
    """The state of a session over HTTP."""

    INITIALIZING = "initializing"  # no `initialize` was accepted yet
    OPEN = "open"
    ENDING = "ending"  # takes nothing more; its handlers clean up
    ENDED = "ended"


SessionEvent: TypeAlias = Literal["accepted", "end", "finished"]
"""`initialize` was accepted; the session is told to end; its nursery has closed."""

MOVES: Final[Mapping[tuple[SessionState, SessionEvent], SessionState]] = {
    (SessionState.INITIALIZING, "accepted"): SessionState.OPEN,
    (SessionState.INITIALIZING, "end"): SessionState.ENDING,  # refused, or the server shuts down
    (SessionState.INITIALIZING, "finished"): SessionState.ENDED,  # cancelled with its server
    (SessionState.OPEN, "end"): SessionState.ENDING,  # DELETE, silence, or the server shuts down
    (SessionState.OPEN, "finished"): SessionState.ENDED,  # cancelled with its server
    (SessionState.ENDING, "accepted"): SessionState.ENDING,  # too late
    (SessionState.ENDING, "end"): SessionState.ENDING,
    (SessionState.ENDING, "finished"): SessionState.ENDED,
    (SessionState.ENDED, "end"): SessionState.ENDED,
}


class LegacySession:
    """One client's session; its calls go on whether or not a response carries them."""

    def __init__(
        self, application: Application, settings: HttpSettings, permit: Permit | None, peer: str
    ) -> None:
        self.settings = settings
        self.owner = None if permit is None else permit.owner
        self.peer = peer
        self.state = SessionState.INITIALIZING
        self._application = application
        self._scope = trio.CancelScope()
        self._home = ServerConnection(
            Outbox(application.settings.log_buffer, application.settings.turn_clock), permit, peer=peer
        )
        self._home.is_heard = False
        self._main = EventStream(MAIN, settings, self._home, is_main=True, primes=False)
        self._streams: OrderedDict[str, EventStream] = OrderedDict({MAIN: self._main})
        self._nursery: trio.Nursery
        self._session: ServerSession
        self._count = 0
        self._carriers = 0
        self._heard_at = trio.current_time()

    @property
    def id(self) -> str:
        """The session's id: unguessable, visible ASCII."""
        return self._home.session_id

    def __repr__(self) -> str:
        # Without the id: whoever knows it may use the session.
        streams = len(self._streams) - 1
        return f"<LegacySession {self.state.value}, {streams} streams, {self._carriers} responses>"

    def _move(self, event: SessionEvent) -> None:
        """Change the state by `event`. Raises LocalProtocolError if the event is not legal in this state."""
        moved = MOVES.get((self.state, event))
        if moved is None:
            raise LocalProtocolError(f"a session that is {self.state.value} cannot be told {event!r}")
        self.state = moved

    @property
    def takes_messages(self) -> bool:
        """Whether the session takes messages; not once it is ending, even while its handlers clean up."""
        return self.state in (SessionState.INITIALIZING, SessionState.OPEN)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the session until it is ended, or its client is silent for `session_timeout`; checkpoints."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self._session = self._application.make_session(self._home, self._nursery)
                    self._nursery.start_soon(self._home.outbox.write, self._main)
                    task_status.started()
                    await self._wait_silence()
                    self.end()
        finally:
            self._move("finished")
            self._home.lose()
            for stream in self._streams.values():
                stream.end()

    def end(self) -> None:
        """End the session, its calls and its streams; does not wait."""
        self._move("end")
        self._scope.cancel()

    async def _wait_silence(self) -> None:
        while True:
            left = self._heard_at + self.settings.session_timeout - trio.current_time()
            if self._carriers:
                left = self.settings.session_timeout
            elif left <= 0:
                logger.debug("a session whose client is silent was ended")
                return
            await trio.sleep(left)

    def note_heard(self) -> None:
        """Note that the client has just been heard of."""
        self._heard_at = trio.current_time()

    @property
    def takes_batches(self) -> bool:
        """Whether the session's revision has batches; a session without them refuses one."""
        era = self._session.era
        return era is not None and era.batches

    def accept(self, frame: InFrame) -> None:
        """Process a message that wants no answer; does not wait."""
        self._session.accept(frame, self._home)

    async def begin(self, request: IncomingRequest, call: HttpCall) -> None:
        """Process `initialize` and send its answer; end the session if it was refused. Checkpoints."""
        stream = self._take(request, call)
        if self._session.era is not None:
            self._move("accepted")
            self._main.primes = self._session.era.primes
            call.reply.headers[SESSION_HEADER] = self.id
        try:
            await self._carry_answer(stream, call.receive, call.reply)
        finally:
            if self.state is SessionState.INITIALIZING:
                self.end()

    async def answer(self, message: InFrame | IncomingRequest, call: HttpCall) -> None:
        """Process a message, and send what answers it by the response; checkpoints."""
        await self._carry_answer(self._take(message, call), call.receive, call.reply)

    async def _carry_answer(self, stream: EventStream, receive: Receive, reply: Reply) -> None:
        await self.carry(stream, receive, reply, None)
        if not stream.can_resume:
            self._streams.pop(stream.name, None)

    def _take(self, message: InFrame | IncomingRequest, call: HttpCall) -> EventStream:
        self._count += 1
        outbox = Outbox(self._home.outbox.frame_limit, self._home.outbox.clock)
        branch = self._home.branch(outbox, call.headers, call.permit)
        if isinstance(message, IncomingRequest):
            self._session.accept_request(message, branch)
        else:
            self._session.accept(message, branch)
        primes = self._session.era is not None and self._session.era.primes
        stream = EventStream(f"s{self._count}", self.settings, branch, is_main=False, primes=primes)
        branch.pause = stream.pause
        self._streams[stream.name] = stream
        self._nursery.start_soon(self._write, outbox, stream)
        return stream

    async def _write(self, outbox: Outbox, stream: EventStream) -> None:
        try:
            await outbox.write(stream)
        finally:
            stream.end()
            self._forget_ended()

    def _forget_ended(self) -> None:
        """Drop all but a few streams that have ended: a client that lost the end of one returns soon."""
        ended = [name for name, stream in self._streams.items() if stream.has_ended and not stream.is_carried]
        for name in ended[: -self.settings.kept_streams]:
            del self._streams[name]

    async def listen(self, receive: Receive, reply: Reply, ends_at: float) -> None:
        """Send messages that belong to no request by the response until `ends_at`; checkpoints."""
        await self.carry(self._main, receive, reply, None, ends_at)

    def find(self, event_id: str) -> tuple[EventStream, int] | None:
        """The stream of an event and the event's number; None if it cannot be resumed."""
        name, _, number = event_id.rpartition("-")
        stream = self._streams.get(name)
        if stream is None or not stream.can_resume:
            return None
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        return stream, int(number)

    async def carry(
        self,
        stream: EventStream,
        receive: Receive,
        reply: Reply,
        resume_after: int | None,
        ends_at: float = math.inf,
    ) -> None:
        """Send the messages of `stream` by the response, until `ends_at` on Trio's clock; checkpoints."""
        self._carriers += 1
        try:
            await stream.carry(receive, reply, resume_after, ends_at)
        finally:
            self._carriers -= 1
            self.note_heard()


class LegacySessions:
    """All legacy sessions of one endpoint over Streamable HTTP; each takes one of the `places`."""

    def __init__(self, settings: HttpSettings, places: Places) -> None:
        self._settings = settings
        self._places = places
        self._sessions: dict[str, LegacySession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def refusal(self, peer: str) -> str | None:
        """Why `peer` may not open another session, or None if it may."""
        return self._places.refusal(peer)

    async def open(
        self, application: Application, nursery: trio.Nursery, permit: Permit | None, peer: str
    ) -> LegacySession:
        """Start a session in `nursery`; checkpoints."""
        session = LegacySession(application, self._settings, permit, peer)
        self._sessions[session.id] = session
        self._places.enter(peer)
        await nursery.start(self._run, session)
        return session

    def end_all(self) -> None:
        """End every session; does not wait."""
        for session in self._sessions.values():
            session.end()

    def find(self, ident: str, owner: str | None) -> LegacySession | None:
        """The session of that id, if it takes messages and belongs to `owner`; else None."""
        session = self._sessions.get(ident)
        if session is None or not session.takes_messages or session.owner != owner:
            return None
        session.note_heard()
        return session

    async def _run(  # noqa: ASYNC128  # the session calls it
        self, session: LegacySession, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await session.run(task_status)
        finally:
            del self._sessions[session.id]
            self._places.leave(session.peer)
