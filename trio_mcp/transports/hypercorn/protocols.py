"""hypercorn's protocols as we run them: HTTP/1.1 that never stops reading, HTTP/2, and WebSocket.

Owns what they read of a peer, and in which portions. Refuses to know sockets and applications.
It reaches into hypercorn's internals (0.18), as `connection.py` does.

Problems of hypercorn's protocols that this module solves:

- While a request is answered, HTTP/1.1 stops reading if anything is unread, or if the client offers
  another protocol. So nobody sees that the client leaves. `Http11` goes on reading, and keeps what
  comes for later, up to a cap.
- A plain HTTP/1.1 request that offers h2c becomes HTTP/2. RFC 9113 has dropped that offer, and
  whoever makes it is content with HTTP/1.1.
- A WebSocket handshake that it refuses leaves the connection open. If bytes came with the handshake,
  also the application runs on, and is not told. `WebSocket` tells it, and closes.
- A WebSocket message beyond the cap is kept on and on. `WebSocket` drops it.
- All frames of one read are processed before any other task has a turn. `WebSocket` and `Http2` take
  a few at a time, and end a peer whose frames are of no use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from trio_mcp.transports.buffered_bytes import BufferClaim, TooMuchBufferedError
from trio_mcp.wire.frame_meter import FrameMeter, Patience, read_http2_header, read_websocket_header

try:
    from h2.errors import ErrorCodes
    from hypercorn.events import Closed, Event, RawData
    from hypercorn.protocol.events import Body, Data, EndBody, StreamClosed
    from hypercorn.protocol.h2 import H2Protocol
    from hypercorn.protocol.h11 import H11Protocol
    from hypercorn.protocol.ws_stream import ASGIWebsocketState, WebsocketBuffer, WSStream
    from wsproto.events import CloseConnection, Message
except ImportError as missing:
    raise ImportError("serving over HTTP needs hypercorn: pip install 'trio-mcp[http]'") from missing

PREFACE_BYTES: Final = 24
"""The length of the preface of an HTTP/2 client (RFC 9113, section 3.4)."""

POLICY_VIOLATION: Final = 1008
"""The close code of a WebSocket whose peer sends nothing of use (RFC 6455, section 7.4.1)."""

TRY_AGAIN_LATER: Final = 1013
"""The close code of a WebSocket that a server has no room for (IANA registry of close codes)."""

NO_PATIENCE: Final = "the peer sends frames that carry nothing"


class _Paused(Exception):  # noqa: N818  # no error: it leads out of hypercorn's parser
    """Raised in hypercorn's parser if it cannot go on before a response is complete."""


class Pause:
    """Stands for the event for which hypercorn's reader would wait while a request is answered."""

    def __init__(self) -> None:
        self.is_on = False
        self.scope = trio.CancelScope()  # of what the reader does meanwhile; cancelled at the end

    async def clear(self) -> None:
        self.is_on = True
        raise _Paused

    async def set(self) -> None:
        if self.is_on:
            self.is_on = False
            self.scope.cancel()


class CountedBuffer(WebsocketBuffer):
    """What hypercorn holds of an unfinished message, within caps that all connections share."""

    def __init__(self, max_length: int, claim: BufferClaim) -> None:
        super().__init__(max_length)
        self._claim = claim
        self._ended = False
        self.refusal: str | None = None

    def extend(self, event: Message[Any]) -> None:
        """Hold what comes; beyond the caps drop it, and say so in `refusal`."""
        if self._ended or self.refusal is not None:
            return
        super().extend(event)
        if event.message_finished:
            return  # it is handed over at once
        try:
            self._claim.hold(self.length)
        except TooMuchBufferedError as error:
            self.refusal = f"overloaded: {error}"
            self.clear()

    def clear(self) -> None:
        """Hold nothing any more."""
        super().clear()
        self._claim.hold(0)

    def end(self) -> None:
        """Hold nothing any more, whatever comes."""
        self._ended = True
        self.clear()


class WebSocket:
    """One WebSocket of hypercorn, which is given a few frames at a time."""

    def __init__(self, stream: WSStream, close: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        # `_make_config` in connection.py gives hypercorn's configuration this attribute.
        claim = stream.config.buffered.claim(str(stream.client[0]) if stream.client else "")  # type: ignore[attr-defined]
        self._buffer = stream.buffer = CountedBuffer(stream.buffer.max_length, claim)
        self._is_refused = False
        self._close = close
        self._meter = FrameMeter(read_websocket_header)
        self._patience = Patience()

    @property
    def idle(self) -> bool:
        return self._stream.idle

    async def handle(self, event: Any) -> None:
        stream = self._stream
        if isinstance(event, (Body, Data)) and stream.handshake.accepted:
            await self._take(event)
        elif isinstance(event, (Body, Data)):
            await self._refuse_early()
        elif isinstance(event, EndBody):
            # Over HTTP/2, the peer has closed its direction without a close frame.
            await stream.send(StreamClosed(stream_id=stream.stream_id))
        else:
            await stream.handle(event)
            if stream.closed and not isinstance(event, StreamClosed):
                await self._end_refused()

    async def _take(self, event: Body | Data) -> None:
        stream = self._stream
        for number, piece in enumerate(self._meter.cut(event.data)):
            if number:
                await trio.lowlevel.checkpoint()
            await stream.handle(Data(stream_id=stream.stream_id, data=piece))
            if stream.buffer.length > stream.buffer.max_length:
                stream.buffer.clear()
            if self._buffer.refusal is not None and not self._is_refused:
                # The peer is to read this, so the connection stays open until the peer closes it.
                self._is_refused = True
                await stream._send_wsproto_event(CloseConnection(TRY_AGAIN_LATER, self._buffer.refusal))
            if self._patience.is_exhausted_by(self._meter.take_counts(), trio.current_time()):
                await stream._send_wsproto_event(CloseConnection(POLICY_VIOLATION, NO_PATIENCE))
                await self._close()
                return

    async def _refuse_early(self) -> None:
        """Refuse a handshake because bytes came with it (RFC 6455, section 4.1, forbids them)."""
        stream = self._stream
        if not stream.closed:
            stream.closed = True  # before anything is awaited: from now on the application cannot accept
            if stream.state is ASGIWebsocketState.HANDSHAKE:
                await stream._send_error_response(400)
            await self._end_refused()

    async def _end_refused(self) -> None:
        """Tell the application, which hypercorn forgets after it has refused a handshake, and close."""
        put = self._stream.app_put
        if put is not None:
            await put({"type": "websocket.disconnect", "code": 1006})
        await self._close()


class Http11(H11Protocol):
    """hypercorn's HTTP/1.1 and WebSocket; goes on reading while it answers a request."""

    def __init__(self, *args: Any) -> None:
        self._stream: Any = None
        super().__init__(*args)
        self.pause = Pause()
        self.can_read = self.pause  # type: ignore[assignment]  # hypercorn uses no more of an event
        self._ahead = 0  # bytes that came during the pause

    @property
    def stream(self) -> Any:
        """The request that is being answered, or None."""
        return self._stream

    @stream.setter
    def stream(self, stream: Any) -> None:
        self._stream = WebSocket(stream, self._end) if isinstance(stream, WSStream) else stream

    async def _end(self) -> None:
        await self.send(Closed())

    async def handle(self, event: Event) -> None:
        if self.pause.is_on and isinstance(event, RawData):
            # Kept for after the response: the end of the peer is behind it.
            self._ahead += len(event.data)
            if self._ahead > self.config.h11_max_incomplete_size:
                await self.send(Closed())
            else:
                self.connection.receive_data(event.data)
            return
        try:
            await super().handle(event)
        except _Paused:
            self._ahead = 0

    async def resume(self) -> None:
        """Process what came during a pause."""
        try:
            await self._handle_events()
        except _Paused:
            self._ahead = 0

    async def _check_protocol(self, event: Any) -> None:
        if event.method == b"PRI":  # HTTP/2 by prior knowledge
            await super()._check_protocol(event)


class _Unread:
    """Drops what the peer still sends on a stream that is answered already."""

    async def handle(self, event: Any) -> None:
        await trio.lowlevel.checkpoint()


class _Streams(dict[int, Any]):
    """The requests of a connection; those that are not there, or not any more, drop what comes for them."""

    def __init__(self, protocol: Http2) -> None:
        super().__init__()
        self._protocol = protocol

    def __setitem__(self, stream_id: int, stream: Any) -> None:
        if isinstance(stream, WSStream):

            async def close() -> None:
                await self._protocol.end_stream(stream_id)

            stream = WebSocket(stream, close)
        super().__setitem__(stream_id, stream)

    def __missing__(self, stream_id: int) -> Any:
        return _Unread()


class Http2(H2Protocol):
    """hypercorn's HTTP/2, which is given a few frames at a time."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.streams = _Streams(self)
        self._meter = FrameMeter(read_http2_header, PREFACE_BYTES)
        self._patience = Patience()

    async def handle(self, event: Event) -> None:
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        for number, piece in enumerate(self._meter.cut(event.data)):
            if number:
                await trio.lowlevel.checkpoint()
            if self.closed:
                return
            await super().handle(RawData(piece))
            if self._patience.is_exhausted_by(self._meter.take_counts(), trio.current_time()):
                self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, NO_PATIENCE.encode())
                await self._flush()
                await self.send(Closed())
                return

    def note_sent(self, length: int) -> None:
        """Note that so many bytes were sent: a peer may acknowledge each piece of them."""
        self._patience.note_sent(length)

    async def end_stream(self, stream_id: int) -> None:
        """End a request as if the peer had reset it."""
        await self._flush()
        await self._close_stream(stream_id)
        await self._window_updated(stream_id)
