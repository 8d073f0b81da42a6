"""One HTTP/1.1 connection: a request out, its answer in, one after the other (RFC 9112, on h11).

Owns the socket and the state of the protocol. Refuses to know what the messages mean, and when a
connection is used again.
"""

from __future__ import annotations

import os
import ssl
import sys
from typing import Final

import trio

from trio_mcp.transports.http.address import Address
from trio_mcp.transports.write_now import write_now
from trio_mcp.wire.frame_meter import Patience

try:
    import h11
except ImportError as error:
    raise ImportError("servers with a URL need h11: pip install 'trio-mcp[http]'") from error

CONNECT_SECONDS: Final = 10.0
"""How long a connection may take; nothing bounds its silence, for an event stream may be silent."""

MAX_HEAD_BYTES: Final = 100 * 1024
"""The longest head of an answer, or of a chunk: far more than any server sends."""

EVENTS_AT_ONCE: Final = 128
"""How many chunks, or informational answers, are parsed before other tasks have a turn."""

MAX_INFORMATIONAL: Final = 1000
"""How many informational answers (RFC 9110, section 15.2) may come before the answer, beyond one a second."""

RECEIVE_BYTES: Final = 65_536

FAILURES: Final = (OSError, OverflowError, ValueError, trio.BrokenResourceError, h11.ProtocolError)
"""What connecting, asking and reading raise; ValueError for a host or a header that cannot be sent."""


_REQUESTS: Final = {
    method: h11.Request(method=method, target="*", headers=[("host", "")])
    for method in ("POST", "GET", "DELETE")
}
_END: Final = h11.EndOfMessage()


class NoPatienceError(h11.RemoteProtocolError):
    """The server only wastes time."""


class H11Connection:
    """A connection that is open, made by `open_connection`. Raises `FAILURES`."""

    def __init__(self, stream: trio.abc.Stream, sock: trio.socket.SocketType) -> None:
        self._stream = stream
        self._socket = sock
        self._is_plain = isinstance(stream, trio.SocketStream) and sys.platform != "win32"
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._failure: h11.RemoteProtocolError | None = None
        self._is_broken = False
        self._has_more = False  # of the body, received but not parsed
        self._needs_data = False  # all that was received is parsed
        self._patience = Patience()
        self._chunks = self._chunk_bytes = 0  # what the patience does not know yet
        self.has_heard = False
        """Something of the answer has come."""
        self.is_complete = False
        """The answer has been taken to its end."""

    @property
    def is_stale(self) -> bool:
        """Whether bytes have come: on an idle connection, its end or what nobody has asked for."""
        return self._socket.is_readable()

    @property
    def has_unread(self) -> bool:
        """Whether something has come that was not taken, in the socket or received already."""
        return self._has_more or self.is_stale

    async def send(self, method: str, request: bytes, sent: trio.Event | None) -> None:
        """Write one request in one piece; `sent` is set when it is written. Checkpoints if it waits."""
        # What h11 would write is dropped. Of a request it keeps only the method and that the connection
        # goes on, on which the reading of the answer depends; checking each header again takes long.
        self._http.send(_REQUESTS[method])
        self._http.send(_END)
        try:
            await self._send(request)
        except trio.BrokenResourceError:
            self._is_broken = True  # a server may answer without reading all, and close
        else:
            if sent is not None:
                sent.set()

    async def _send(self, data: bytes) -> None:
        written = write_now(self._socket.fileno(), data) if self._is_plain else 0
        if written < len(data):
            await self._stream.send_all(data[written:])

    async def receive_head(self) -> h11.Response:
        """Wait for the head of the answer, past informational ones; checkpoints.

        Raises NoPatienceError if the server sends informational answers without end.
        """
        count, start = 0, trio.current_time()
        while await self._fill():
            event = self._http.next_event()
            while type(event) is h11.InformationalResponse:
                count += 1
                if count > MAX_INFORMATIONAL + trio.current_time() - start:
                    raise NoPatienceError("sends informational answers")
                if count % EVENTS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
                event = self._http.next_event()
            if type(event) is h11.Response:
                return event
        raise h11.RemoteProtocolError("the server closed the connection without an answer")

    async def receive_body(self) -> bytes:
        """The next portion of the body, or nothing at its end; checkpoints if it is not there yet."""
        while not self.is_complete:
            if self._needs_data:
                await self._fill()
            elif self._has_more:
                await trio.lowlevel.checkpoint()
            if data := self.take_body():
                return data
        return b""

    def take_body(self) -> bytes:
        """Take what has come of the body, or as much as may be parsed at once, without waiting.

        Raises NoPatienceError if it comes in ever more chunks with hardly anything in them.
        """
        if self._failure is not None:
            raise self._failure
        parts: list[bytes] = []
        self._has_more = False
        try:
            while True:
                if len(parts) == EVENTS_AT_ONCE:
                    self._has_more = True
                    break
                event = self._http.next_event()
                if type(event) is h11.Data:
                    parts.append(event.data)
                    continue
                self._needs_data = event is h11.NEED_DATA
                self.is_complete = not self._needs_data
                break
        except h11.RemoteProtocolError as error:
            if not parts:
                raise
            self._failure = error  # raised once the parts before it have been taken
        data = b"".join(parts)
        self._chunks += len(parts)
        self._chunk_bytes += len(data)
        if self._chunks >= EVENTS_AT_ONCE:
            counts, self._chunks, self._chunk_bytes = (self._chunks, self._chunk_bytes), 0, 0
            if self._patience.is_exhausted_by(counts, trio.current_time()):
                raise NoPatienceError("sends chunks")
        return data

    async def _fill(self) -> bool:
        """Wait for bytes; False if the connection has ended. Checkpoints."""
        data: bytes | bytearray
        if self._is_plain:
            # The answer is hardly ever there already: trying first, as a stream does, would mostly fail.
            await trio.lowlevel.wait_readable(self._socket)
            data = os.read(self._socket.fileno(), RECEIVE_BYTES)
        else:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        self._http.receive_data(bytes(data))
        self._needs_data = False
        self.has_heard = self.has_heard or bool(data)
        return bool(data)

    def renew(self) -> bool:
        """Get ready for the next request; False if the connection cannot carry one."""
        http = self._http
        if self._is_broken or not (http.our_state is h11.DONE and http.their_state is h11.DONE):
            return False
        if http.trailing_data != (b"", False):
            return False  # what nobody asked for would pass as the next answer
        http.start_next_cycle()
        self.is_complete = self.has_heard = False
        return True

    def close(self) -> None:
        """Close the socket at once, without waiting: HTTP needs no closing handshake, also over TLS."""
        self._socket.close()


async def open_connection(address: Address, ssl_context: ssl.SSLContext | None) -> H11Connection:
    """Connect within CONNECT_SECONDS, with TLS if there is a context; checkpoints."""
    try:
        with trio.fail_after(CONNECT_SECONDS):
            stream = await _connect(address)
            if ssl_context is None:
                return H11Connection(stream, stream.socket)
            try:
                tls = trio.SSLStream(stream, ssl_context, server_hostname=address.host, https_compatible=True)
                await tls.do_handshake()
            except BaseException:
                stream.socket.close()
                raise
            return H11Connection(tls, stream.socket)
    except trio.TooSlowError:
        raise TimeoutError(f"no connection within {CONNECT_SECONDS:g} seconds") from None


async def _connect(address: Address) -> trio.SocketStream:
    """Connect to the host, or to the first of its pinned addresses that takes the connection; checkpoints."""
    if not address.pinned:
        return await trio.open_tcp_stream(address.host, address.port)
    failure: OSError = TimeoutError(f"no connection within {CONNECT_SECONDS:g} seconds")
    for pinned in address.pinned:
        try:
            # An equal share of the time each, for one may be out of reach.
            with trio.fail_after(CONNECT_SECONDS / len(address.pinned)):
                return await trio.open_tcp_stream(pinned, address.port)
        except trio.TooSlowError:
            continue
        except OSError as error:
            failure = error
    raise failure
