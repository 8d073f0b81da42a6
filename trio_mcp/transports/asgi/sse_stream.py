"""One session of HTTP+SSE (MCP transports 2024-11-05): an event stream, and a POST for each client message.

Owns the mapping of both to one ordered wire, which ends with its stream as a pipe ends. Refuses to know
methods, and which POST belongs to which session.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import trio

from trio_mcp.outgoing.transport import Accept, WaitRoom
from trio_mcp.session.direct_reader import DirectReader
from trio_mcp.session.permit import Permit
from trio_mcp.transports.asgi.modern_response import watch
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.types import Receive
from trio_mcp.wire.frames import InFrame, OutFrame
from trio_mcp.wire.sse import encode_events


class SseStream:
    """Frames by one event stream; `permit` is that of whoever opened it.

    A message that the client has posted is taken after its turn was waited for (`wait_turn`, `take`).
    """

    def __init__(self, receive: Receive, reply: Reply, settings: HttpSettings, permit: Permit | None) -> None:
        self.id = secrets.token_urlsafe(24)
        """The id that the client posts to; whoever knows it may use the session."""
        self.permit = permit
        self._receive = receive
        self._reply = reply
        self._settings = settings
        self._reader: DirectReader | None = None
        self._began = trio.Event()
        self._turn = trio.Lock()  # a fair one, so messages are taken in the order in which they came
        self._is_gone = False

    def __repr__(self) -> str:
        state = "gone" if self._is_gone else "not read yet" if self._reader is None else "open"
        return f"<SseStream {state}, {self._turn.statistics().tasks_waiting} messages wait>"

    @property
    def owner(self) -> str | None:
        """The name of the principal, who alone may use the session; None without one."""
        return None if self.permit is None else self.permit.owner

    # What the server's session does.

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Send an event for each message; checkpoints. Raises `trio.BrokenResourceError` without a client."""
        if self._is_gone or self._reply.has_ended:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the client has closed its event stream")
        await self._reply.send_events(encode_events(frames))

    async def deliver_frames(self, accept: Accept, wait_room: WaitRoom) -> None:
        """Let `accept` take each message in the task that has read it, until the client has gone.

        See `DirectTransport`. Meanwhile a quiet stream is kept alive.
        """
        self._reader = reader = DirectReader(accept, wait_room)
        self._began.set()
        try:
            await reader.run(self._wait_gone)
        finally:
            self._reader = None

    async def _wait_gone(self) -> None:
        await watch(self._receive, self._reply, self._settings)
        self._is_gone = True

    async def receive_frames(self) -> Sequence[InFrame]:
        """Raise what tells that the client has gone; checkpoints. `deliver_frames` gives the messages."""
        await trio.lowlevel.checkpoint()
        raise trio.EndOfChannel

    async def aclose(self) -> None:
        """End the event stream; checkpoints."""
        self.close()
        await self._reply.end()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Let messages wait no longer for the session to begin."""
        self._began.set()

    # What the client's POSTs do.

    async def wait_turn(self) -> bool:
        """Wait until the session takes a message of this task; False if the session has ended. Checkpoints.

        If True, `take` must be called. It waits while the client does not read what it is sent; the caps on
        requests bound how many wait.
        """
        await self._turn.acquire()
        has_room = False
        try:
            await self._began.wait()
            while self._reader is not None and not self._reader.has_room:
                await self._reader.wait_room()
            has_room = self._reader is not None
        finally:
            if not has_room:
                self._turn.release()
        return has_room

    def take(self, frame: InFrame) -> None:
        """Hand a message to the session, unless it has ended meanwhile, and end the turn; does not wait."""
        self._turn.release()
        if self._reader is not None:
            self._reader.take([frame])
