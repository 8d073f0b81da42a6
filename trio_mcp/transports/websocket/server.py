"""Listening for WebSocket connections, and admitting or refusing each.

Owns the listening sockets, the handshake's refusals, the cap on connections, and that a crash of one
connection does not end the others. Refuses to know what is served: its caller gets a transport for each
connection.
"""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs
import trio

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.transports.asgi.access_log import WEBSOCKET, is_logged, log_line
from trio_mcp.transports.buffered_bytes import BufferedBytes, TooMuchBufferedError
from trio_mcp.transports.websocket.corking_stream import CorkingStream
from trio_mcp.transports.websocket.keeping import (
    PING_SECONDS,
    QUEUE_MESSAGES,
    READ_BYTES,
    keep_alive,
    keep_connection,
)
from trio_mcp.transports.websocket.library import find_host, read_headers, trio_websocket
from trio_mcp.transports.websocket.transport import CLOSE_SECONDS, WebSocketTransport
from trio_mcp.wire.origin import Doorkeeper
from trio_mcp.wire.value_count import MAX_VALUES
from trio_mcp.wire.websocket import GOING_AWAY, SUBPROTOCOL, TRY_AGAIN_LATER

logger = logging.getLogger("trio_mcp.transports")

MAX_CONNECTIONS: Final = 1000
"""About what a process may have open with the usual limit of 1,024 file descriptors."""

MAX_REFUSALS: Final = 64
"""How many connections beyond the cap get an answer that says so; any more are closed at once."""

HANDSHAKE_SECONDS: Final = 10.0
"""What a client gets for TLS and the handshake: connections that say nothing must not pile up."""


@attrs.define(eq=False)
class WebSocketService:
    """Serves what connects, each connection in a task of its own.

    `serve` is called with the transport of each connection that may enter, the headers of its
    handshake, by lower-case names, and the address of its peer, which may be empty. It closes the
    transport. If `path` is None, every path is served. Sizes in
    bytes, times in seconds.
    """

    serve: Callable[[WebSocketTransport, Mapping[str, str], str], Awaitable[None]]
    max_frame_bytes: int
    doorkeeper: Doorkeeper
    path: str | None = None
    ping_interval: float = PING_SECONDS
    max_connections: int = MAX_CONNECTIONS
    max_connections_per_peer: int = MAX_CONNECTIONS
    max_values: int = MAX_VALUES
    refusals: Counter[str] = attrs.field(factory=Counter)
    access_log: bool = False
    buffered: BufferedBytes = attrs.Factory(
        lambda self: BufferedBytes(4 * self.max_frame_bytes, 2 * self.max_frame_bytes), takes_self=True
    )
    _sockets: int = attrs.field(default=0, init=False)
    _admitted: dict[CorkingStream, str] = attrs.field(factory=dict, init=False)  # and from which address

    async def listen(
        self,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None = None,
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; `task_status` gets the addresses, as URLs. Raises OSError."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        scheme = "ws" if ssl_context is None else "wss"
        addresses = [f"{scheme}://{_authority(listener)}{self.path or ''}" for listener in listeners]
        secured: list[Any] = list(listeners)
        if ssl_context is not None:
            secured = [trio.SSLListener(one, ssl_context, https_compatible=True) for one in listeners]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._handle, secured)
            task_status.started(addresses)

    async def _handle(self, raw: trio.abc.Stream) -> None:
        if self._sockets >= self.max_connections + MAX_REFUSALS:
            await trio.aclose_forcefully(raw)
            return
        self._sockets += 1
        try:
            await self._converse(CorkingStream(raw), _peer(raw))
        # Everything: a crash of one connection must not end the others.
        except BaseException as error:  # noqa: ASYNC103  # contain_failure raises what must pass on
            contain_failure(error, "a WebSocket connection", logger, "crashed; the others go on")
        finally:
            self._sockets -= 1
            await trio.aclose_forcefully(raw)

    async def _converse(self, stream: CorkingStream, peer: str) -> None:
        async with trio.open_nursery() as nursery:
            reading = trio.CancelScope()
            request: trio_websocket.WebSocketRequest | None = None
            connection = None
            begun, status = trio.current_time(), "-"
            try:
                with trio.move_on_after(HANDSHAKE_SECONDS) as scope, stream.unless_ended(scope):
                    request = await nursery.start(keep_connection, self._wrap(stream), stream, reading)
                    status, connection = await self._admit(request, stream, peer)
                if request is not None and connection is not None:
                    self._count_held(connection, stream, peer, nursery)
                    nursery.start_soon(keep_alive, connection, stream, self.ping_interval)
                    transport = WebSocketTransport(
                        connection,
                        stream,
                        max_frame_bytes=self.max_frame_bytes,
                        max_values=self.max_values,
                        close_code=GOING_AWAY,
                    )
                    await self.serve(transport, read_headers(request), peer)
            except trio_websocket.HandshakeError as failed:
                logger.debug("a peer was not let in: %s", failed)
            finally:
                self._admitted.pop(stream, None)
                if stream.note_held is not None:
                    stream.note_held(0)
                    stream.note_held = None
                reading.cancel()
                nursery.cancel_scope.cancel()
                if request is not None and self.access_log and is_logged():
                    log_line(WEBSOCKET, request.path.partition("?")[0], status, begun, peer)

    def _count_held(
        self,
        connection: trio_websocket.WebSocketConnection,
        stream: CorkingStream,
        peer: str,
        nursery: trio.Nursery,
    ) -> None:
        """Count what the connection holds of unfinished messages, and close it beyond the common caps."""
        claim = self.buffered.claim(peer)

        def note_held(length: int) -> None:
            try:
                claim.hold(length)
            except TooMuchBufferedError as error:
                self.refusals["buffered"] += 1
                stream.note_held = None
                claim.hold(0)  # what still comes until it is closed is thrown away
                nursery.start_soon(close, f"overloaded: {error}")

        async def close(reason: str) -> None:
            stream.discard()
            with trio.move_on_after(CLOSE_SECONDS):
                await connection.aclose(TRY_AGAIN_LATER, reason)
            await trio.aclose_forcefully(stream)

        stream.note_held = note_held

    def _wrap(
        self, stream: CorkingStream
    ) -> Callable[[trio.Nursery], Awaitable[trio_websocket.WebSocketRequest]]:
        async def wrap(nursery: trio.Nursery) -> trio_websocket.WebSocketRequest:
            return await trio_websocket.wrap_server_stream(
                nursery,
                stream,
                message_queue_size=QUEUE_MESSAGES,
                max_message_size=self.max_frame_bytes,
                receive_buffer_size=READ_BYTES,
            )

        return wrap

    async def _admit(
        self, request: trio_websocket.WebSocketRequest, stream: CorkingStream, peer: str
    ) -> tuple[str, trio_websocket.WebSocketConnection | None]:
        """Finish the handshake, or refuse it in words; return its status, and the connection or None."""
        stream.cork()  # so that a refusal leaves in one write
        refusal = self._refusal(request, peer)
        if refusal is None:
            status = 101
            self._admitted[stream] = peer  # before anything waits, or more than the cap could get here
            offered = request.proposed_subprotocols
            connection = await request.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        else:
            status, reason = refusal
            self.refusals[f"websocket {status}"] += 1
            connection = None
            await request.reject(
                status,
                extra_headers=[(b"content-type", b"text/plain; charset=utf-8")],
                body=f"{reason}\n".encode(errors="backslashreplace"),
            )
        stream.uncork()
        await stream.flush()
        return str(status), connection

    def _refusal(self, request: trio_websocket.WebSocketRequest, peer: str) -> tuple[int, str] | None:
        origins = [value.decode("latin-1") for name, value in request.headers if name == b"origin"]
        reason = self.doorkeeper.refusal(find_host(request), ", ".join(origins) if origins else None)
        if reason is not None:
            return 403, reason
        if self.path is not None and request.path.partition("?")[0] != self.path:
            return 404, f"nothing is served at {request.path!r}"
        if len(self._admitted) >= self.max_connections:
            return 503, f"all {self.max_connections} connections are taken"
        if list(self._admitted.values()).count(peer) >= self.max_connections_per_peer:
            return 503, f"all {self.max_connections_per_peer} connections of one address are taken"
        return None


def _peer(raw: Any) -> str:
    """The address of a peer; empty if it has none or has gone already."""
    stream = raw.transport_stream if isinstance(raw, trio.SSLStream) else raw
    try:
        return str(stream.socket.getpeername()[0])
    except (AttributeError, OSError, IndexError):
        return ""


def _authority(listener: trio.SocketListener) -> str:
    host, port, *_ = listener.socket.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
