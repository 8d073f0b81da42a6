"""One accepted connection, spoken by hypercorn and bounded by us.

Owns how hypercorn's protocols are driven, and, with `protocols.py`, all access to hypercorn's
internals (0.18); `tests/transports/hypercorn/test_hypercorn.py` fails if they change. Refuses to
know what an application is told of its request (`exchange.py`), listening, and what is served.

Problems of hypercorn's trio worker that this module solves:

- It shields `send_all`. GuardedStream bounds each piece, and `abort` ends even a
  shielded send, by closing the socket under it.
- It reports a failed send from within the application's `send`, which loses the
  disconnect if that is being cancelled. GuardedStream reports it to the reader.
- An exception in a connection ends the server (a DATA frame for a stream already
  answered suffices). `HypercornConnection.run` contains it.
- It counts a connection whose peer has gone as idle, and one that speaks HTTP/2 by
  prior knowledge as busy before it has asked anything; so the deadlines are ours.
- Events for an application that no longer reads its body fill a queue of ten, and then
  both the reader and the application's last `send` hang. We read and drop them.
- While an HTTP/2 peer's window is shut, it takes whatever the application sends into
  a buffer without bound. `HypercornConnection.let_through` waits until that is empty.
- The `send` that ends a response also closes the connection, and an application may be cancelled
  while it runs: the connection stayed open. Both are shielded, and bounded by GuardedStream.
- It goes on sending pings to a WebSocket peer that has gone, up to `ping_interval`.
- A failed response leaves the stream of an HTTP/2 client open for ever. We reset it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from math import inf
from ssl import SSLContext
from typing import Any

import trio

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.transports.asgi.types import DISCONNECT, ASGIApp, Message, Receive, Scope, Send
from trio_mcp.transports.buffered_bytes import BufferedBytes
from trio_mcp.transports.hypercorn.exchange import HttpExchange, Reset, WebSocketExchange
from trio_mcp.transports.hypercorn.guarded_stream import PIECE, GuardedStream, Limits
from trio_mcp.transports.hypercorn.protocols import CountedBuffer, Http2, Http11, Pause
from trio_mcp.transports.write_now import write_now

try:
    from h2.exceptions import ProtocolError
    from hypercorn.config import Config
    from hypercorn.events import Closed, Event, RawData
    from hypercorn.protocol.h11 import H2ProtocolAssumedError
    from hypercorn.trio.task_group import TaskGroup
    from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import ConnectionState
    from hypercorn.utils import parse_socket_addr
except ImportError as missing:
    raise ImportError("serving over HTTP needs hypercorn: pip install 'trio-mcp[http]'") from missing

logger = logging.getLogger("trio_mcp.transports")


class Worker:
    """The state that all connections of one server share."""

    def __init__(self, app: ASGIApp, limits: Limits, state: dict[str, Any], tls: SSLContext | None) -> None:
        self.app = app
        self.limits = limits
        self.state = state
        self.tls = tls
        self.config = _make_config(limits)
        self.context = WorkerContext(None)

    async def drain(self) -> None:
        """Let connections close from now on when they become idle. Does not wait."""
        await self.context.terminated.set()


class _Config(Config):
    buffered: BufferedBytes  # what all WebSockets share, which hypercorn's protocols hand to each
    uncorking: int = 0  # how many connections of the server have data that waits for a turn to be written


def _make_config(limits: Limits) -> Config:
    """hypercorn's configuration: it logs no access, and leaves the timeouts to us."""
    config = _Config()
    config.buffered = BufferedBytes(limits.max_buffered_bytes, limits.max_buffered_bytes_per_peer)
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # as it is: no handler is added
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.max_head_bytes
    config.h2_max_header_list_size = limits.max_head_bytes
    config.websocket_max_message_size = limits.max_body_bytes
    config.websocket_ping_interval = limits.ping_interval
    config.ssl_handshake_timeout = limits.read_timeout
    # It would cut a listener that has nothing to say.
    config.read_timeout = None
    config.keep_alive_timeout = inf
    # Past this many requests HTTP/2 says goodbye and drops the streams that are still running.
    config.keep_alive_max_requests = sys.maxsize
    return config


class _Idle:
    """Replaces the task that hypercorn starts and cancels around each request.

    GuardedStream keeps the timeout of that task; what remains is that a server that ends
    closes a connection between two requests.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self.is_idle = False

    async def restart(self, task_group: Any, close: Callable[[], Any]) -> None:
        self.is_idle = True
        if self._context.terminated.is_set():
            task_group.spawn(close)

    async def stop(self) -> None:
        self.is_idle = False


class _TCPServer(TCPServer):
    """hypercorn's connection, which ends when its peer has gone and its requests are over.

    The data that is sent between `cork` and `uncork` leaves in one piece: head, body and end.
    """

    config: _Config
    on_peer_gone: Callable[[], None]
    protocol: Any  # Http11 or Http2; hypercorn has a wrapper there
    _peer_gone = False
    _corked: bytearray | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # HTTP/1.1 without TLS, or what is not known to be something else yet.
        self._is_plain = isinstance(self.stream, GuardedStream)
        self._idle = _Idle(self.context)
        self.idle_task = self._idle  # type: ignore[assignment]

    async def run(self) -> None:
        """Speak with the peer until it has gone; checkpoints."""
        alpn, socket = "http/1.1", getattr(self.stream, "socket", None)
        if isinstance(self.stream, trio.SSLStream):
            try:
                with trio.fail_after(self.config.ssl_handshake_timeout):
                    await self.stream.do_handshake()
            except (trio.BrokenResourceError, trio.TooSlowError):
                return
            alpn, socket = self.stream.selected_alpn_protocol() or alpn, self.stream.transport_stream.socket
        try:
            ends = [
                parse_socket_addr(socket.family, name()) for name in (socket.getpeername, socket.getsockname)
            ]
            async with TaskGroup() as self._task_group:
                self._protocol_args = (
                    *(self.app, self.config, self.context, self._task_group, ConnectionState(self.state)),
                    *(isinstance(self.stream, trio.SSLStream), *ends, self.protocol_send),
                )
                self.protocol = (Http2 if alpn == "h2" else Http11)(*self._protocol_args)
                await self.protocol.initiate()
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass  # the peer has gone
        finally:
            await self._close()  # noqa: ASYNC102  # shielded there

    @property
    def peer_gone(self) -> bool:
        """Whether the peer has closed its end."""
        return self._peer_gone

    def cork(self) -> None:
        """Hold back what is sent from now on."""
        if self._corked is None:
            self._corked = bytearray()

    async def uncork(self) -> None:
        """Send what was held back, shielded, within the bounds of GuardedStream; checkpoints if it sends."""
        held, self._corked = self._corked, None
        if held:
            self.config.uncorking += 1
            try:
                with trio.CancelScope(shield=True):
                    # Taking the lock lets others run, among them the reader of another stream: the
                    # progress of a legacy task moves from the stream of its session to that of its result.
                    async with self.send_lock:
                        await self._put(held)
            finally:
                self.config.uncorking -= 1

    async def close_if_idle(self) -> None:
        """Close the connection if it is between two requests; checkpoints then."""
        if self._idle.is_idle:
            await self._initiate_server_close()

    async def _initiate_server_close(self) -> None:
        # A connection is idle as soon as its last response is complete, whose end may be held back still.
        await self.uncork()
        async with self.send_lock:
            pass  # whoever has uncorked it may wait for its turn to send it
        await super()._initiate_server_close()

    async def _send(self, data: bytes | bytearray) -> None:
        # Shielded, because a protocol counts what it hands over as sent, and a half-sent message would
        # end the connection; GuardedStream bounds it. Both ways let others run.
        written = self._write_now(data)
        if written == len(data):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        with trio.CancelScope(shield=True):
            async with self.send_lock:
                await self._put(data[written:])

    def _write_now(self, data: bytes | bytearray) -> int:
        """Write what the kernel takes at once, and return how many bytes those are.

        0 if that would overtake something: what another task writes here, or what another connection
        was given earlier. A task, for example, is told in a response before it asks on another stream.
        """
        if not self._is_plain or self.config.uncorking or self.send_lock.locked():
            return 0
        return write_now(self.stream.socket.fileno(), data)

    async def _put(self, data: bytes | bytearray) -> None:
        if isinstance(self.protocol, Http2):
            self.protocol.note_sent(len(data))
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        await self._read_until_gone()
        self._peer_gone = True
        self.on_peer_gone()
        await self.idle_task.stop()
        if isinstance(self.protocol, Http2):
            # Applications that wait for the peer's flow control.
            for buffer in list(self.protocol.stream_buffers.values()):
                await buffer.close()

    async def _read_until_gone(self) -> None:
        data: bytes | bytearray | None = b"nothing yet"
        while data != b"":
            protocol = self.protocol
            pause = protocol.pause if isinstance(protocol, Http11) and protocol.pause.is_on else None
            try:
                data = await (
                    self.stream.receive_some(MAX_RECV) if pause is None else self._receive_until(pause)
                )
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            try:
                if data is None:
                    await protocol.resume()
                else:
                    await protocol.handle(RawData(bytes(data)))
            except H2ProtocolAssumedError as error:
                self._is_plain = False
                self.protocol = Http2(*self._protocol_args)
                await self.protocol.initiate()
                await self.protocol.handle(RawData(error.data))
        await self.protocol.handle(Closed())

    async def _receive_until(self, pause: Pause) -> bytes | bytearray | None:
        """Receive, or return None at the end of the pause; checkpoints."""
        with trio.CancelScope() as pause.scope:
            return await self.stream.receive_some(MAX_RECV)
        return None

    async def _close(self) -> None:
        # Also if the application that sends the end of its response has been cancelled meanwhile.
        with trio.CancelScope(shield=True):
            await super()._close()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if self._corked is not None:
                self._corked += event.data
            elif event.data:
                await self._send(event.data)
            return
        if isinstance(event, Closed):
            await self.uncork()
        await super().protocol_send(event)


class HypercornConnection:
    """One peer: runs its requests until it goes, or until `end` is called."""

    def __init__(self, worker: Worker, stream: trio.SocketStream) -> None:
        self.limits = worker.limits
        self.scope = trio.CancelScope()
        self._worker = worker
        self._stream = GuardedStream(stream, worker.limits)
        self._requests = 0
        secured: Any = self._stream
        if worker.tls is not None:
            secured = trio.SSLStream(secured, worker.tls, server_side=True, https_compatible=True)
        app: Any = self._call
        self._server = _TCPServer(app, worker.config, worker.context, worker.state, secured)
        self._server.on_peer_gone = self._end_if_over
        self._nursery: trio.Nursery

    def __repr__(self) -> str:
        peer = "gone" if self._server.peer_gone else "there"
        return f"<HypercornConnection peer {peer}, {self._requests} requests>"

    async def run(self) -> None:
        """Speak HTTP or WebSocket with the peer, over TLS if the server has it. Checkpoints."""
        try:
            with self.scope:
                async with trio.open_nursery() as self._nursery:
                    await self._server.run()
                    self._nursery.cancel_scope.cancel()
        except BaseException as error:  # noqa: ASYNC103  # hypercorn's: it ends this connection only
            contain_failure(error, "A connection", logger)
        finally:
            self._stream.socket.close()  # hypercorn leaves it open when it is cancelled

    async def drain(self) -> None:
        """Close the connection if it is between two requests; checkpoints then."""
        try:
            await self._server.close_if_idle()
        except BaseException as error:  # noqa: ASYNC103  # hypercorn's: it ends this connection only
            contain_failure(error, "A connection", logger)

    def end(self) -> None:
        """End the connection and its requests now, also one that waits for the peer."""
        self._stream.abort()
        self.scope.cancel()

    def _end_if_over(self) -> None:
        """End what hypercorn leaves running, such as the pings to a peer that has gone."""
        if self._server.peer_gone and not self._requests:
            self.scope.cancel()

    async def _call(self, scope: Scope, receive: Receive, send: Send, *_: Callable[..., Any]) -> None:
        """Run one request; to hypercorn, this is the application."""
        self._requests += 1
        self._stream.expect_request(inf)
        try:
            exchange = HttpExchange if scope["type"] == "http" else WebSocketExchange
            await exchange(self, scope, receive, send).run(self._worker.app)
        finally:
            if scope["type"] == "websocket":
                buffer = send.__self__.buffer  # type: ignore[attr-defined]  # a method of hypercorn's stream
                if isinstance(buffer, CountedBuffer):
                    buffer.end()
            self._requests -= 1
            if not self._requests:
                self._stream.expect_request(self.limits.keep_alive_timeout)
            self._end_if_over()

    def cork(self) -> None:
        """Hold back what is sent from now on, until `uncork`."""
        self._server.cork()

    async def uncork(self) -> None:
        """Send what was held back, in one piece; checkpoints if there is something."""
        await self._server.uncork()

    @staticmethod
    def receive_nowait(receive: Any) -> Message:
        """The next event of a request; raises trio.WouldBlock if there is none yet."""
        message: Message = receive.__self__.receive_nowait()
        return message

    def discard(self, receive: Receive) -> None:
        """Read and drop the events of a request until its end; does not wait."""
        self._nursery.start_soon(self._discard, receive)

    async def _discard(self, receive: Receive) -> None:
        while (await receive())["type"] not in (DISCONNECT, "websocket.disconnect"):
            pass

    async def let_through(self, send: Send) -> None:
        """Wait until the peer's flow control has let through what was sent to it over HTTP/2."""
        protocol = self._server.protocol
        assert isinstance(protocol, Http2)
        buffer = protocol.stream_buffers.get(_stream_id(send))
        if buffer is not None and len(buffer.buffer) >= PIECE:
            await buffer.drain()

    async def reset(self, send: Send, code: Reset) -> None:
        """End a request without a proper end: RST_STREAM, or the whole HTTP/1.1 connection."""
        protocol = self._server.protocol
        if not isinstance(protocol, Http2):
            self.scope.cancel()
            return
        stream_id = _stream_id(send)
        try:
            protocol.connection.reset_stream(stream_id, code)
        except ProtocolError:
            return  # closed already
        # Before all else: the application, told of its disconnect, may cancel this very send.
        await protocol._flush()
        # As hypercorn does when the peer resets it.
        await protocol._close_stream(stream_id)
        await protocol._window_updated(stream_id)


def _stream_id(send: Any) -> int:
    stream_id: int = send.__self__.stream_id
    return stream_id
