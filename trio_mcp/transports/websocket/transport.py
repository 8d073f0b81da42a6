"""MCP over WebSocket, a custom transport: one JSON-RPC message in each text message.

Owns the mapping of frames to messages, the client's way in, and the keep-alive of
both sides. Knows no method, no session and no era; the handshake, the control
frames and the masking are trio-websocket's. A server's messages, which are not masked,
go past it: one at a time through it cost ten times as much.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

import trio

from trio_mcp.concurrency.exclusive import Exclusive
from trio_mcp.concurrency.failures import leaves, split_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ConnectionLost
from trio_mcp.transports.websocket.corking_stream import CorkingStream
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.frames import InFrame, OutFrame
from trio_mcp.wire.websocket import (
    MESSAGE_TOO_BIG,
    NORMAL_CLOSURE,
    NORMAL_ENDS,
    SUBPROTOCOL,
    decode_texts,
    encode_texts,
)

try:
    # Named twice to be taken from here, so that only this module has to say what is missing.
    import trio_websocket as trio_websocket
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "WebSocket needs trio-websocket: pip install 'trio-mcp[websocket]'", name=error.name
    ) from error

T = TypeVar("T")

CLOSE_SECONDS: Final = 1.0
"""What a peer gets to answer our close frame: a round trip over a slow line, not more."""

CONNECT_SECONDS: Final = 30.0
"""What a server gets to take a connection, through TLS and the handshake."""

PING_SECONDS: Final = 20.0
"""A quiet connection is pinged so often: proxies cut those that are quiet for a minute or half of it."""

READ_BYTES: Final = 65_536
"""A burst of hundreds of messages in one read."""

QUEUE_MESSAGES: Final = 256
"""How many messages may wait undecoded: those of one read; `CorkingStream` caps their bytes."""

TAKE_MESSAGES: Final = 1024
"""The most messages decoded in one pass, so that a peer that never pauses cannot put it off."""

QUIET_ROUNDS: Final = 2
"""Decode after so many scheduling rounds that brought no message: the order within a round is random."""


class WebSocketTransport:
    """Frames over an open WebSocket connection that was made on `stream`.

    `close_code` is what the peer is told when we close.
    """

    def __init__(
        self,
        connection: trio_websocket.WebSocketConnection,
        stream: CorkingStream,
        *,
        max_frame_bytes: int,
        close_code: int = NORMAL_CLOSURE,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._limit = max_frame_bytes
        self._close_code = close_code
        # get_message alone would take one message in each scheduling round, however many are there.
        self._queue = connection._recv_channel
        self._closed = False
        self._sending, self._receiving = Exclusive("sending on"), Exclusive("receiving from")

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Send a text message for each JSON-RPC message, all in one write; checkpoints where it has to wait.

        Control frames that trio-websocket sends meanwhile take their place between them.
        """
        self._require_open()
        with self._sending:
            messages = encode_messages(frames)
            if self._connection.is_server:
                await self._send_unmasked(messages)
            else:
                await self._send_masked(messages)

    async def _send_unmasked(self, messages: list[bytes]) -> None:
        reason = self._connection.closed
        if reason is not None:  # nothing may follow a close frame, ours or the peer's
            raise self._broken(trio_websocket.ConnectionClosed(reason))
        try:
            await self._stream.send_all(encode_texts(messages))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._require_open()
            raise trio.BrokenResourceError("the peer is gone") from None

    async def _send_masked(self, messages: list[bytes]) -> None:
        self._stream.cork()
        try:
            for message in messages:
                await self._connection.send_message(message.decode())
        except trio_websocket.ConnectionClosed as closed:
            raise self._broken(closed) from None
        finally:
            self._stream.uncork()
        await self._stream.flush()

    async def receive_frames(self) -> Sequence[InFrame]:
        """Wait for a message and take all that have come with it; checkpoints."""
        self._require_open()
        with self._receiving:
            try:
                with self._stream.wanting():
                    return decode_texts(await self._take())
            except trio_websocket.ConnectionClosed as closed:
                if self._closed:
                    raise trio.ClosedResourceError("this transport was closed") from None
                if closed.reason is not None and closed.reason.code in NORMAL_ENDS:
                    raise trio.EndOfChannel from None
                raise self._broken(closed) from None

    async def aclose(self) -> None:
        """Say goodbye, wait a second at most for the peer's, and close; checkpoints."""
        self._closed = True
        self._stream.discard()
        try:
            with trio.move_on_after(CLOSE_SECONDS) as scope, self._stream.unless_ended(scope):
                await self._connection.aclose(self._close_code)
                closed = self._connection.closed
                if closed is not None and closed.code == MESSAGE_TOO_BIG and not self._stream.is_reading:
                    await self._stream.linger()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _take(self) -> list[str | bytes]:
        messages = [await self._connection.get_message()]
        self._claim(messages)
        quiet = 0
        # While trio-websocket reads, what was read is all here; until then it hands over one message
        # in each scheduling round.
        while quiet < QUIET_ROUNDS and not self._stream.is_reading and len(messages) < TAKE_MESSAGES:
            before = len(messages)
            await trio.lowlevel.cancel_shielded_checkpoint()  # cancelled, it would lose what it has taken
            self._claim(messages)
            quiet = quiet + 1 if len(messages) == before else 0
        return messages

    def _claim(self, messages: list[str | bytes]) -> None:
        try:
            while len(messages) < TAKE_MESSAGES:
                messages.append(self._queue.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            pass

    def _require_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this transport was closed")

    def _broken(self, closed: trio_websocket.ConnectionClosed) -> Exception:
        if self._closed:
            return trio.ClosedResourceError("this transport was closed")
        if closed.reason is None:
            return trio.BrokenResourceError("the connection ended without a closing handshake")
        code, reason = closed.reason.code, closed.reason.reason or closed.reason.name
        return trio.BrokenResourceError(f"the connection was closed with code {code}: {reason}")


async def keep_connection(
    connect: Callable[[trio.Nursery], Awaitable[T]],
    stream: CorkingStream,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[T] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run trio-websocket's reader for one connection until it ends or `scope` is cancelled.

    What `connect` returns is given to `task_status`; what fails until then is raised as
    a `trio_websocket.HandshakeError`, what fails later is the end of the connection and
    nothing else. From then on `scope` is shielded, for the closing handshake needs the
    reader although its user is being cancelled; the user must cancel it when the
    transport has closed, which is bounded.
    """
    connected = False
    try:
        with scope:
            async with trio.open_nursery() as nursery:
                opened = await connect(nursery)
                connected = scope.shield = True
                task_status.started(opened)
    except BaseException as error:  # noqa: ASYNC103  # what passes on is raised again
        passing, failure = split_failure(error)
        if passing is not None:
            raise passing from None  # noqa: ASYNC104  # that is what of it must not stay here
        if failure is not None and not connected:
            raise _handshake_error(next(leaves(failure))) from failure  # noqa: ASYNC104  # no Cancelled was in it
    finally:
        stream.end()


def _handshake_error(failure: BaseException) -> trio_websocket.HandshakeError:
    if isinstance(failure, trio_websocket.HandshakeError):
        return failure
    # Of some peers trio-websocket does not know what to think.
    return trio_websocket.HandshakeError(f"this is no WebSocket handshake: {failure}")


async def keep_alive(
    connection: trio_websocket.WebSocketConnection, stream: CorkingStream, interval: float
) -> None:
    """Ping when the peer was quiet for `interval` seconds; close the stream after twice as long."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ping, connection, stream, interval)
        # No event but a time: each sign of life only moves the deadline.
        while (deadline := stream.last_heard + 2 * interval) > trio.current_time():  # noqa: ASYNC110
            await trio.sleep_until(deadline)
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


async def _ping(
    connection: trio_websocket.WebSocketConnection, stream: CorkingStream, interval: float
) -> None:
    try:
        while True:
            due = stream.last_heard + interval
            await trio.sleep_until(due)
            if stream.last_heard + interval <= trio.current_time():
                await connection.ping()
    except trio_websocket.ConnectionClosed:
        pass  # whoever sends or receives sees it, too


@asynccontextmanager
async def open_websocket_transport(
    url: str,
    *,
    max_frame_bytes: int,
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    ping_interval: float = PING_SECONDS,
) -> AsyncIterator[WebSocketTransport]:
    """Connect to a server at `url` ("ws://..." or "wss://...") for as long as the block lasts.

    `headers` go with the handshake, `ssl_context` is for wss only (the system's
    authorities by default). After `ping_interval` seconds of silence the server is
    pinged, after twice as many without an answer the connection counts as broken. A
    message longer than `max_frame_bytes` closes it with code 1009. Checkpoints.
    Raises ConnectionLost, naming the URL, where the server cannot be reached or
    refuses, and ValueError for what is no such URL or header.
    """
    parts = _read_url(url, ssl_context)
    extra = [_read_header(name, value) for name, value in (headers or {}).items()]
    async with open_unwrapping_nursery() as nursery:
        reading = trio.CancelScope()
        try:
            with trio.move_on_after(CONNECT_SECONDS) as connecting:
                stream = await _connect(url, parts, ssl_context)
                connection = await _shake_hands(url, parts, stream, extra, max_frame_bytes, nursery, reading)
            if connecting.cancelled_caught:
                raise ConnectionLost(f"{url} did not answer within {CONNECT_SECONDS:g} seconds")
            transport = WebSocketTransport(connection, stream, max_frame_bytes=max_frame_bytes)
            nursery.start_soon(keep_alive, connection, stream, ping_interval)
            try:
                yield transport
            finally:
                # Shielded so that the server hears a goodbye also from a cancelled client; the
                # transport bounds it, and the deadline is for what it cannot foresee.
                with trio.move_on_after(2 * CLOSE_SECONDS, shield=True):
                    await transport.aclose()
        finally:
            reading.cancel()
            nursery.cancel_scope.cancel()


def _read_url(url: str, ssl_context: ssl.SSLContext | None) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{url!r} is no ws:// or wss:// URL")
    if parts.username is not None:
        raise ValueError(f"the URL of {parts.hostname!r} holds credentials; they belong in headers")
    if ssl_context is not None and parts.scheme == "ws":
        raise ValueError(f"an ssl_context is for wss:// URLs, not {url!r}")
    return parts


def _read_header(name: str, value: str) -> tuple[bytes, bytes]:
    # The value may be a secret, so the message does not repeat it.
    if not name.isascii() or not name.isprintable() or not name or set(name) & set(" :"):
        raise ValueError(f"{name!r} is no name of an HTTP header")
    if name.lower() == "host":
        raise ValueError("the header 'Host' is that of the URL")
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"the header {name!r} must be printable ASCII")
    return name.encode(), value.strip().encode()


async def _connect(url: str, parts: SplitResult, ssl_context: ssl.SSLContext | None) -> CorkingStream:
    host = parts.hostname or ""
    secure = parts.scheme == "wss"
    try:
        tcp = await trio.open_tcp_stream(host, parts.port or (443 if secure else 80))
    except (OSError, UnicodeError) as error:  # the latter of a host that no name server could know
        raise ConnectionLost(f"cannot connect to {url}: {error}") from error
    if not secure:
        return CorkingStream(tcp)
    context = ssl_context or ssl.create_default_context()
    # https_compatible: closing does not wait for TLS's own goodbye, which WebSocket's makes needless.
    stream = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise ConnectionLost(f"cannot secure the connection to {url}: {error.__cause__}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return CorkingStream(stream)


async def _shake_hands(
    url: str,
    parts: SplitResult,
    stream: CorkingStream,
    headers: list[tuple[bytes, bytes]],
    max_frame_bytes: int,
    nursery: trio.Nursery,
    reading: trio.CancelScope,
) -> trio_websocket.WebSocketConnection:
    async def connect(inner: trio.Nursery) -> trio_websocket.WebSocketConnection:
        return await trio_websocket.wrap_client_stream(
            inner,
            stream,  # type: ignore[arg-type]  # any stream will do, its documentation says
            parts.netloc,
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            subprotocols=[SUBPROTOCOL],
            extra_headers=headers,
            message_queue_size=QUEUE_MESSAGES,
            max_message_size=max_frame_bytes,
            receive_buffer_size=READ_BYTES,
        )

    try:
        # A server that hangs up in the middle of it would otherwise leave trio-websocket waiting.
        with trio.CancelScope() as scope, stream.unless_ended(scope):
            opened: trio_websocket.WebSocketConnection = await nursery.start(
                keep_connection, connect, stream, reading
            )
            return opened
        raise ConnectionLost(f"{url} hung up during the WebSocket handshake")
    except trio_websocket.ConnectionRejected as refused:
        await trio.aclose_forcefully(stream)
        said = (refused.body or b"").decode(errors="replace").strip()[:200]
        status = f"HTTP {refused.status_code}" + (f": {said}" if said else "")
        raise ConnectionLost(f"{url} refused the WebSocket handshake with {status}") from None
    except trio_websocket.HandshakeError as failed:
        await trio.aclose_forcefully(stream)
        raise ConnectionLost(f"{url} did not speak WebSocket: {failed}") from failed
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
