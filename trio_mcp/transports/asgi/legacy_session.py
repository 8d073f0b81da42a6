"""Sessions of legacy clients over HTTP (MCP transports 2025-11-25, "Session Management").

Owns the table of sessions, their nurseries, their ends, and which stream carries
what. Knows no method but that a session begins with `initialize`.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict

import trio

from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.server_session import Application, ServerSession
from trio_mcp.transports.asgi.event_stream import EventStream
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.types import Receive
from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.http import SESSION_HEADER
from trio_mcp.wire.incoming_request import IncomingRequest

logger = logging.getLogger("trio_mcp")

MAIN = "main"
"""The name of the stream for what belongs to no request."""


class LegacySession:
    """One client's session: its calls go on whether or not a response carries them."""

    def __init__(
        self, application: Application, settings: HttpSettings, principal: str | None, peer: str
    ) -> None:
        self.settings = settings
        self.principal = principal
        self.peer = peer
        self._application = application
        self._scope = trio.CancelScope()
        self._home = ServerConnection(Outbox(application.settings.log_buffer), principal)
        self._home.is_heard = False
        self._main = EventStream(MAIN, settings, self._home, is_main=True, primes=True)
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

    @property
    def has_begun(self) -> bool:
        """Whether the handshake was accepted."""
        return self._session.era is not None

    @property
    def is_ending(self) -> bool:
        """Whether the session takes nothing more, although its handlers may still clean up."""
        return self._scope.cancel_called

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the session until it is ended or its client is silent for too long; checkpoints."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self._session = ServerSession(self._application, self._home, self._nursery)
                    self._nursery.start_soon(self._home.outbox.write, self._main)
                    task_status.started()
                    await self._wait_silence()
                    self.end()
        finally:
            self._home.lose()
            for stream in self._streams.values():
                stream.end()

    def end(self) -> None:
        """End the session, its calls and its streams."""
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
        """Note that the client is there."""
        self._heard_at = trio.current_time()

    @property
    def takes_batches(self) -> bool:
        """Whether the session's revision has batches; where not, one is answered with its refusal."""
        era = self._session.era
        return era is not None and era.batches

    def accept(self, frame: InFrame) -> None:
        """Take a message that wants no answer."""
        self._session.accept(frame, self._home)

    async def begin(self, request: IncomingRequest, receive: Receive, reply: Reply) -> None:
        """Take `initialize`, and end the session if it is refused; checkpoints."""
        stream = self._take(request)
        if self.has_begun:
            reply.headers[SESSION_HEADER] = self.id
        try:
            await self._carry_answer(stream, receive, reply)
        finally:
            if not self.has_begun:
                self.end()

    async def answer(self, message: InFrame | IncomingRequest, receive: Receive, reply: Reply) -> None:
        """Take a message and let the response carry what comes of it; checkpoints."""
        await self._carry_answer(self._take(message), receive, reply)

    async def _carry_answer(self, stream: EventStream, receive: Receive, reply: Reply) -> None:
        await self.carry(stream, receive, reply, None)
        if not stream.can_resume:
            self._streams.pop(stream.name, None)

    def _take(self, message: InFrame | IncomingRequest) -> EventStream:
        self._count += 1
        outbox = Outbox(self._home.outbox.frame_limit)
        branch = self._home.branch(outbox)
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
        """Keep few of the streams that have ended: a client that lost the end of one comes back soon."""
        ended = [name for name, stream in self._streams.items() if stream.has_ended and not stream.is_carried]
        for name in ended[: -self.settings.kept_streams]:
            del self._streams[name]

    async def listen(self, receive: Receive, reply: Reply) -> None:
        """Let the response carry what belongs to no request; checkpoints."""
        await self.carry(self._main, receive, reply, None)

    def find(self, event_id: str) -> tuple[EventStream, int] | None:
        """The stream that an event belongs to, and the event's number; None where nothing is to come."""
        name, _, number = event_id.rpartition("-")
        stream = self._streams.get(name)
        if stream is None or not stream.can_resume:
            return None
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        return stream, int(number)

    async def carry(
        self, stream: EventStream, receive: Receive, reply: Reply, resume_after: int | None
    ) -> None:
        """Let the response carry `stream`; checkpoints."""
        self._carriers += 1
        try:
            await stream.carry(receive, reply, resume_after)
        finally:
            self._carriers -= 1
            self.note_heard()


class LegacySessions:
    """All legacy sessions of one endpoint."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._sessions: dict[str, LegacySession] = {}
        self._peers: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sessions)

    def refusal(self, peer: str) -> str | None:
        """Why `peer` may not open another session, or None where it may."""
        if len(self._sessions) >= self._settings.max_sessions:
            return f"max_sessions is {self._settings.max_sessions}, and so many are open"
        if self._peers[peer] >= self._settings.max_sessions_per_peer:
            return f"max_sessions_per_peer is {self._settings.max_sessions_per_peer}, and so many are open"
        return None

    async def open(
        self, application: Application, nursery: trio.Nursery, principal: str | None, peer: str
    ) -> LegacySession:
        """Start a session in `nursery`; checkpoints."""
        session = LegacySession(application, self._settings, principal, peer)
        self._sessions[session.id] = session
        self._peers[peer] += 1
        await nursery.start(self._run, session)
        return session

    def end_all(self) -> None:
        """End every session."""
        for session in self._sessions.values():
            session.end()

    def find(self, ident: str, principal: str | None) -> LegacySession | None:
        """The session of that id, if it belongs to `principal`."""
        session = self._sessions.get(ident)
        if session is None or session.is_ending or session.principal != principal:
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
            self._peers[session.peer] -= 1
            if not self._peers[session.peer]:
                del self._peers[session.peer]
