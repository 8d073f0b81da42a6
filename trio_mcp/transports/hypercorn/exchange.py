"""One request between hypercorn and the application: the events of both, and the end of the response.

Owns the deadlines and bounds of a request's body, and which parts of a response leave
together. Refuses to know hypercorn: an `ExchangeConnection` stands between.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Final, Protocol

import attrs
import trio

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.transports.asgi.types import DISCONNECT, ASGIApp, Message, Receive, Scope, Send
from trio_mcp.transports.asgi.websocket import MORE
from trio_mcp.transports.hypercorn.guarded_stream import PIECE, Limits

logger = logging.getLogger("trio_mcp.transports")

# A peer that is still sending a body that nobody wants sees the answer only if the connection
# stays open until it has sent the body; for so many seconds we go on reading it.
LINGER: Final = 2.0


class Reset(IntEnum):
    """Why a stream of HTTP/2 ends before its time (RFC 9113, section 7)."""

    NO_ERROR = 0
    INTERNAL_ERROR = 2
    CANCEL = 8


class ExchangeConnection(Protocol):
    """What an exchange needs of the connection that it is on.

    `receive` and `send` are what hypercorn handed out for the request; they tell which one is meant.
    """

    @property
    def limits(self) -> Limits:
        """The bounds of the connection."""

    def cork(self) -> None:
        """Hold back what is sent from now on, until `uncork`."""

    async def uncork(self) -> None:
        """Send what was held back, in one piece; checkpoints if there is something."""

    def receive_nowait(self, receive: Receive) -> Message:
        """The next event of a request; raises trio.WouldBlock if there is none yet."""

    def discard(self, receive: Receive) -> None:
        """Read and drop the events of a request until its end; does not wait."""

    async def let_through(self, send: Send) -> None:
        """Wait until the flow control of HTTP/2 has let through what was sent for a request; checkpoints."""

    async def reset(self, send: Send, code: Reset) -> None:
        """End a request without a proper end; checkpoints."""


@attrs.define(eq=False)
class HypercornExchange(ABC):
    """One request, between hypercorn and the application."""

    connection: ExchangeConnection
    scope: Scope = attrs.field(repr=False)  # which holds tokens
    _receive: Receive
    _send: Send
    # The peer has gone or the request was ended: nothing more is sent.
    gone: bool = False
    _pushing: trio.Lock | None = None
    _discarding: bool = False
    _received_all: bool = False

    @abstractmethod
    async def receive(self) -> Message:
        """The application's `receive`."""

    @abstractmethod
    async def send(self, message: Message) -> None:
        """The application's `send`."""

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as error:  # noqa: ASYNC103  # foreign applications fail as they like
            contain_failure(error, "The application", logger, f"failed: {self.scope['path']}")
        await self.complete()

    async def complete(self) -> None:
        """Clean up after the application has returned."""
        self.discard()

    def discard(self) -> None:
        """Have the remaining events of the request read and dropped."""
        if not (self.gone or self._received_all or self._discarding):
            self._discarding = True
            self.connection.discard(self._receive)

    async def push(self, message: Message, content: bytes | str) -> None:
        """Hand one message to hypercorn, within a bound for the flow control of HTTP/2; checkpoints."""
        if self.scope["http_version"] != "2":
            # Once it is handed over, it is sent: here an application that sends without end is cancelled.
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._send(message)
            return
        with trio.move_on_after(self.connection.limits.stall_timeout * (1 + len(content) // PIECE)):
            # One at a time: hypercorn forgets who waits for its buffer when more is put into it.
            if self._pushing is None:
                self._pushing = trio.Lock()
            async with self._pushing:
                await self._send(message)
                await self.connection.let_through(self._send)
            return
        self.discard()
        self.gone = True
        await self.connection.reset(self._send, Reset.CANCEL)


@attrs.define(eq=False)
class WebSocketExchange(HypercornExchange):
    """One WebSocket; alone on its connection, it joins messages that follow each other at once."""

    _held: int = 0

    async def run(self, app: ASGIApp) -> None:
        if self.scope["http_version"] != "2":
            self.scope["extensions"][MORE] = {}
        await super().run(app)

    async def complete(self) -> None:
        """Clean up; hypercorn itself sends the close frame, or 500 before the handshake."""
        await super().complete()
        await self.connection.uncork()

    async def receive(self) -> Message:
        message: Message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.gone = True
        return message

    async def send(self, message: Message) -> None:
        content = message.get("bytes") or message.get("text") or b""
        if MORE not in self.scope["extensions"]:
            await self.push(message, content)
            return
        has_more = message.get(MORE, False)
        if has_more:
            self.connection.cork()
        await self.push(message, content)
        self._held += len(content)
        if not has_more or self._held >= PIECE:
            self._held = 0
            await self.connection.uncork()
            await trio.lowlevel.checkpoint()  # a write in place does not checkpoint


@attrs.define(eq=False)
class HttpExchange(HypercornExchange):
    """One HTTP request and its response."""

    _received: int = 0
    _trailers: bool = False
    _started: bool = False
    _ended: bool = False

    async def receive(self) -> Message:
        if not (self.gone or self._ended):
            if self._received_all:  # the peer owes us nothing more
                return self._note(await self._receive())
            message = await self._take_in_time()
            if message is None:
                await self._refuse(408)
            elif self._received <= self.connection.limits.max_body_bytes:
                return message
            else:
                await self._refuse(413)
        await trio.lowlevel.checkpoint()
        return {"type": DISCONNECT}

    async def _take_in_time(self) -> Message | None:
        """The next event of the request; None if the peer does not send it in time."""
        try:
            # An event that is there already needs no deadline, and most bodies are.
            return self._note(self.connection.receive_nowait(self._receive))
        except trio.WouldBlock:
            pass
        with trio.move_on_after(self.connection.limits.read_timeout):
            return await self._take()
        return None

    async def _take(self) -> Message:
        return self._note(await self._receive())

    def _note(self, message: Message) -> Message:
        if message["type"] == DISCONNECT:
            self.gone = True
        else:
            self._received += len(message["body"])
            self._received_all = not message["more_body"]
        return message

    async def send(self, message: Message) -> None:
        if self.gone or self._ended:
            await trio.lowlevel.checkpoint()
            return
        body = message.get("body", b"")
        is_head = message["type"] == "http.response.start"
        if is_head:
            self._started = True
            self._trailers = message.get("trailers", False)
        last = message["type"] == "http.response.body" and not message.get("more_body") and not self._trailers
        if (is_head or last) and self.scope["http_version"] != "2":
            # The head waits for the first part of the body, as ASGI specifies, and the last part
            # for the end of the body.
            self.connection.cork()
        lingers = last and not self._received_all
        self._ended = last and not lingers
        try:
            await self.push({**message, "more_body": True} if lingers else message, body)
        finally:
            # The application may be cancelled as soon as hypercorn has told it that the response is complete.
            if not is_head:
                await self.connection.uncork()  # noqa: ASYNC102  # shielded there
        if lingers:
            await self._linger()
            await self._end()

    async def _linger(self) -> None:
        with trio.move_on_after(LINGER):  # noqa: ASYNC912  # at its first turn neither is so
            while not (self._received_all or self.gone):
                await self._take()

    async def _end(self) -> None:
        self._ended = True
        self.discard()
        await self.push({"type": "http.response.body", "body": b"", "more_body": False}, b"")
        if not self._received_all and self.scope["http_version"] == "2":
            await self.connection.reset(self._send, Reset.NO_ERROR)  # RFC 9113, section 8.1

    async def _refuse(self, status: int) -> None:
        if self._started:
            await self._break_off()
            return
        self._started = True
        headers = [(b"content-length", b"0")]
        if self.scope["http_version"] != "2":
            headers.append((b"connection", b"close"))
        await self.push({"type": "http.response.start", "status": status, "headers": headers}, b"")
        if status != 408:
            await self._linger()
        await self._end()

    async def _break_off(self) -> None:
        # With a proper end, half an answer would look complete.
        self.discard()
        self.gone = True
        await self.connection.reset(self._send, Reset.INTERNAL_ERROR)

    async def complete(self) -> None:
        """End the response if the application did not."""
        if not (self.gone or self._ended):
            await self._refuse(500)
        self.discard()
