"""Connecting to a server over WebSocket: the URL, TCP, TLS and the handshake, then the transport.

Owns what each of these steps raises, and what is closed if it fails. Refuses to know frames.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ConnectionLost
from trio_mcp.transports.websocket.corking_stream import CorkingStream
from trio_mcp.transports.websocket.keeping import (
    PING_SECONDS,
    QUEUE_MESSAGES,
    READ_BYTES,
    keep_alive,
    keep_connection,
)
from trio_mcp.transports.websocket.library import trio_websocket
from trio_mcp.transports.websocket.transport import CLOSE_SECONDS, WebSocketTransport
from trio_mcp.wire.value_count import MAX_ANSWER_VALUES
from trio_mcp.wire.websocket import SUBPROTOCOL

if TYPE_CHECKING:
    from trio_mcp.transports.http.authorizer import Authorizer

CONNECT_SECONDS: Final = 30.0
"""What a server gets to take a connection, through TLS and the handshake."""


class _RefusedError(ConnectionLost):
    """The server has refused the handshake; `headers` have lower-case names."""

    def __init__(self, message: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@asynccontextmanager
async def open_websocket_transport(
    url: str,
    *,
    max_frame_bytes: int,
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    ping_interval: float = PING_SECONDS,
    authorizer: Authorizer | None = None,
) -> AsyncIterator[WebSocketTransport]:
    """Connect to a server at `url` ("ws://..." or "wss://...") for as long as the block lasts.

    `headers` go with the handshake, `ssl_context` is for wss only (the system's
    authorities by default). After `ping_interval` seconds of silence the server is
    pinged, after twice as many without an answer the connection counts as broken. A
    message longer than `max_frame_bytes` closes it with code 1009. `authorizer` gives the handshake its
    token; one that is refused with 401 or 403 is tried again with another token if there is one. Checkpoints.
    Raises ConnectionLost, naming the URL, if the server cannot be reached or
    refuses, AuthorizationError if it wants a token and none is got, and ValueError if the URL or a header
    is not legal.
    """
    parts = _read_url(url, ssl_context)
    extra = [_read_header(name, value) for name, value in (headers or {}).items()]
    async with open_unwrapping_nursery() as nursery:
        reading: trio.CancelScope | None = None
        try:
            stream, connection, reading = await _open_with_token(
                authorizer, url, parts, ssl_context, extra, max_frame_bytes, nursery
            )
            transport = WebSocketTransport(
                connection, stream, max_frame_bytes=max_frame_bytes, max_values=MAX_ANSWER_VALUES
            )
            nursery.start_soon(keep_alive, connection, stream, ping_interval)
            try:
                yield transport
            finally:
                # Shielded so that the server hears a goodbye also from a cancelled client; the
                # transport bounds it, and the deadline is for what it cannot foresee.
                with trio.move_on_after(2 * CLOSE_SECONDS, shield=True):
                    await transport.aclose()
        finally:
            if reading is not None:
                reading.cancel()
            nursery.cancel_scope.cancel()


_Opened: TypeAlias = tuple[CorkingStream, trio_websocket.WebSocketConnection, trio.CancelScope]


async def _open_with_token(
    authorizer: Authorizer | None,
    url: str,
    parts: SplitResult,
    ssl_context: ssl.SSLContext | None,
    headers: list[tuple[bytes, bytes]],
    max_frame_bytes: int,
    nursery: trio.Nursery,
) -> _Opened:
    """Connect, with other tokens as long as the authorizer has some; checkpoints."""
    if authorizer is None:
        return await _open(url, parts, ssl_context, headers, max_frame_bytes, nursery)
    # Imported here: few servers want a token.
    from trio_mcp.transports.http.authorizer import MOST_REFUSALS, REFUSALS, Refusal

    refused: _RefusedError
    for attempt in range(MOST_REFUSALS):
        presented = await authorizer.headers("GET", url)
        extra = [_read_header(name, value) for name, value in presented.items()]
        extra += [(name, value) for name, value in headers if name.decode().lower() not in presented]
        try:
            return await _open(url, parts, ssl_context, extra, max_frame_bytes, nursery)
        except _RefusedError as error:
            refused = error
        if refused.status not in REFUSALS:
            break
        refusal = Refusal(refused.status, refused.headers, presented, "GET", url, attempt)
        if not await authorizer.answer(refusal):
            break
    raise refused


async def _open(
    url: str,
    parts: SplitResult,
    ssl_context: ssl.SSLContext | None,
    headers: list[tuple[bytes, bytes]],
    max_frame_bytes: int,
    nursery: trio.Nursery,
) -> _Opened:
    """Connect once; the scope that is returned is that of the reader, and must be cancelled."""
    reading = trio.CancelScope()
    try:
        with trio.move_on_after(CONNECT_SECONDS):
            stream = await _connect(url, parts, ssl_context)
            connection = await _shake_hands(url, parts, stream, headers, max_frame_bytes, nursery, reading)
            return stream, connection, reading
    except BaseException:
        reading.cancel()
        raise
    reading.cancel()
    raise ConnectionLost(f"{url} did not answer within {CONNECT_SECONDS:g} seconds")


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
        found = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in refused.headers or ()
        ]
        names = dict.fromkeys(name for name, _ in found)
        answered = {name: ", ".join(value for other, value in found if other == name) for name in names}
        raise _RefusedError(
            f"{url} refused the WebSocket handshake with {status}", refused.status_code, answered
        ) from None
    except trio_websocket.HandshakeError as failed:
        await trio.aclose_forcefully(stream)
        raise ConnectionLost(f"{url} did not speak WebSocket: {failed}") from failed
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
