"""One event stream of a legacy session, which may outlive the responses that carry it.

Owns the numbers of its events, the events that are kept for a client that resumes (MCP
transports 2025-11-25, "Resumability and Redelivery"), and the caps. Refuses to know methods.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import trio

from trio_mcp.session.connection import ServerConnection
from trio_mcp.transports.asgi.modern_response import watch
from trio_mcp.transports.asgi.reply import Reply, legacy_status
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.types import Receive
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.frames import Batch, ErrorResponse, OutFrame, Response
from trio_mcp.wire.sse import encode_event

CHUNK_BYTES = 65_536
"""About how much one write to a client carries, so that a resumed stream is sent in pieces."""


class EventStream:
    """Takes frames from one writer and hands them to one response at a time.

    The writer waits while more than `stream_buffer` bytes are unsent. The main stream (`is_main`)
    is for messages that belong to no request, and may never be asked for: its writer waits only
    while a response carries it, and without one the oldest messages are dropped for new ones.
    `primes` says that the client understands an event without data (2025-11-25); the main stream
    is told once the revision is agreed on. `connection` is
    told whether a response carries the stream.
    """

    def __init__(
        self, name: str, settings: HttpSettings, connection: ServerConnection, *, is_main: bool, primes: bool
    ) -> None:
        self.name = name
        self._connection = connection
        self._settings = settings
        self._is_main = is_main
        self.primes = primes
        self._messages: deque[tuple[int, bytes]] = deque()  # kept: at most twice `stream_buffer`, see `_trim`
        self._kept = self._unsent = 0  # bytes
        self._newest = self._sent = 0  # numbers of messages; 0 is the event that primes
        self._answer: OutFrame | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._carrier: object | None = None
        self._expired: object | None = None
        self._pause: float | None = None
        self._was_json = self._is_answered = False
        self.has_ended = False

    @property
    def is_carried(self) -> bool:
        """Whether a response carries the stream now."""
        return self._carrier is not None

    @property
    def can_resume(self) -> bool:
        """Whether a client may resume the stream.

        It may not if the whole stream was an answer that was sent as JSON, or if it ended without an
        answer, because its request was cancelled: such a client would come back to it for ever.
        """
        return not self._was_json and (self._is_answered or not self.has_ended)

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Keep `frames` for the client, and wait while it is too far behind; checkpoints."""
        if any(isinstance(frame, (Response, ErrorResponse, Batch)) for frame in frames):
            self._is_answered = True
            if self._newest == 0 and len(frames) == 1:
                self._answer = frames[0]
        for data in encode_messages(frames):
            self._newest += 1
            self._messages.append((self._newest, data))
            self._kept += len(data)
            self._unsent += len(data)
        self._trim()
        self._changed.unpark_all()
        await trio.lowlevel.checkpoint()
        while self._unsent > self._settings.stream_buffer and not (self.has_ended or self._gives_way):
            await self._room.park()

    @property
    def _gives_way(self) -> bool:
        return self._is_main and self._carrier is None

    def end(self) -> None:
        """Note that no more frames come; does not wait."""
        self.has_ended = True
        self._changed.unpark_all()
        self._room.unpark_all()

    def pause(self, seconds: float) -> None:
        """Close the response that carries the stream, and ask the client to come back after `seconds`.

        Nothing happens if the client could not resume.
        """
        if self.primes and self.is_carried:
            self._pause = seconds
            self._changed.unpark_all()

    async def carry(
        self, receive: Receive, reply: Reply, resume_after: int | None, ends_at: float = math.inf
    ) -> None:
        """Send messages until the stream ends, the client leaves, or another response carries the stream.

        At `ends_at`, on Trio's clock, the response ends as well; another may carry the stream on. It begins
        behind the last message that was sent, or behind the event `resume_after`. Checkpoints.
        """
        self._carrier = carrier = object()
        self._connection.note_heard(True)
        self._pause = None  # it was meant for the response before
        self._changed.unpark_all()
        if resume_after is not None:
            self._rewind(resume_after)
        opening = self._opening() if resume_after is None else b""
        try:
            async with trio.open_nursery() as nursery:

                async def leave() -> None:
                    await watch(receive, reply, self._settings, opening)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(leave)
                if ends_at != math.inf:
                    nursery.start_soon(self._expire, carrier, ends_at)
                if self._is_main or resume_after is not None:
                    await reply.keep_alive(opening)  # the client is told at once that the stream is there
                await self._send_to(carrier, reply, opening)
                nursery.cancel_scope.cancel()
        finally:  # the host may cancel the response, too
            if self._carrier is carrier:
                self._carrier = None
                self._connection.note_heard(False)
                self._room.unpark_all()
                self._trim()
        await reply.end()

    async def _expire(self, carrier: object, ends_at: float) -> None:
        await trio.sleep_until(ends_at)
        self._expired = carrier
        self._changed.unpark_all()

    async def _send_to(self, carrier: object, reply: Reply, opening: bytes) -> None:
        while self._carrier is carrier and self._expired is not carrier:  # noqa: ASYNC913  # each turn waits
            if self._answer is not None and self._newest == 1 and not reply.has_begun:
                (_, body), *_ = self._messages
                self._note_sent(1)
                self._was_json = True
                await reply.answer_call(legacy_status(self._answer), self._answer, body)
                return
            if self._newest > self._sent:
                chunk = self._take_chunk()
                await reply.send_events(chunk if reply.has_begun else opening + chunk)
            elif self.has_ended:
                return
            elif self._pause is not None:
                seconds, self._pause = self._pause, None
                event = encode_event(b"", event_id=self._event_id(self._sent), retry=round(seconds * 1000))
                await reply.send_events(event if reply.has_begun else opening + event)
                return
            else:
                await self._changed.park()

    def _opening(self) -> bytes:
        return encode_event(b"", event_id=self._event_id(0)) if self.primes else b""

    def _event_id(self, number: int) -> str:
        return f"{self.name}-{number}"

    def _take_chunk(self) -> bytes:
        events: list[bytes] = []
        length = number = 0
        for number, data in self._messages:
            if number <= self._sent:
                continue
            events.append(encode_event(data, event_id=self._event_id(number)))
            length += len(data)
            if length >= CHUNK_BYTES:
                break
        self._note_sent(number)
        return b"".join(events)

    def _note_sent(self, number: int) -> None:
        self._unsent -= sum(len(data) for n, data in self._messages if self._sent < n <= number)
        self._sent = number
        self._trim()
        self._room.unpark_all()

    def _rewind(self, number: int) -> None:
        """Count the kept events behind `number` as unsent."""
        self._sent = min(number, self._newest)
        self._unsent = sum(len(data) for n, data in self._messages if n > self._sent)
        self._room.unpark_all()

    def _trim(self) -> None:
        """Drop the oldest messages over the cap: sent ones, and unsent ones of a main stream that waits."""
        limit = self._settings.stream_buffer
        while self._messages:
            number, data = self._messages[0]
            was_sent = number <= self._sent
            if (
                self._kept - self._unsent <= limit
                if was_sent
                else not self._gives_way or self._unsent <= limit
            ):
                return
            self._messages.popleft()
            self._kept -= len(data)
            if not was_sent:
                self._unsent -= len(data)
                self._sent = number
