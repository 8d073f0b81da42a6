"""A server's socket that cannot be held up by its peer.

Owns the deadlines of one connection's bytes. Refuses to know protocols: its user
says when a request is running.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from math import inf
from typing import Final

import attrs
import trio

from trio_mcp.transports.write_now import write_now

# Bytes that the peer must take within one stall_timeout: few enough that a slow peer does not count
# as stalled, many enough that the deadline costs nothing beside the write.
PIECE: Final = 64 * 1024


@attrs.frozen
class Limits:
    """The bounds of every connection; times in seconds, math.inf for no limit, and sizes in bytes.

    - `read_timeout`: for a TLS handshake and the first request; for a request's head, from its first
      byte to its last; and from one piece of a body to the next, while the application waits for it.
      A client that has sent its request owes nothing, and may listen to the response for ever.
    - `keep_alive_timeout`: how long a connection without a request is kept.
    - `stall_timeout`: a peer that takes nothing of what is sent for that long is cut.
    - `max_head_bytes`, `max_body_bytes`: for a request's head; for its body, beyond which it is
      answered with 413, and for a WebSocket message.
    - `max_buffered_bytes`, `max_buffered_bytes_per_peer`: for the unfinished WebSocket messages of all
      connections together, and of those from one address.
    - `ping_interval`: between pings on a WebSocket; None for no pings.
    """

    read_timeout: float
    keep_alive_timeout: float
    stall_timeout: float
    max_head_bytes: int
    max_body_bytes: int
    max_buffered_bytes: int
    max_buffered_bytes_per_peer: int
    ping_interval: float | None


class GuardedStream(trio.abc.HalfCloseableStream):
    """A socket whose peer cannot hold up either direction for longer than its limits.

    Sending: each piece must be taken within `stall_timeout`. Receiving: while no request
    is running, one must begin by a deadline that single bytes do not move.
    """

    def __init__(self, stream: trio.SocketStream, limits: Limits) -> None:
        self.socket = stream.socket  # hypercorn asks for it
        self._stream = stream
        self._limits = limits
        self._reading = trio.CancelScope()
        self._request_by = trio.current_time() + limits.read_timeout
        self._heard = False
        # For data that stays in the kernel while the application is silent: no send_all is running then.
        user_timeout: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
        if user_timeout is not None and self.socket.family != socket.AF_UNIX and limits.stall_timeout < inf:
            milliseconds = max(1, int(limits.stall_timeout * 1000))
            with suppress(OSError):  # the peer has gone already, and reading reports it
                self.socket.setsockopt(socket.IPPROTO_TCP, user_timeout, milliseconds)

    def expect_request(self, timeout: float) -> None:
        """From now on the peer has `timeout` seconds (inf: no limit) until a request begins."""
        self._heard = timeout == inf
        self._set_deadline(timeout)

    def _set_deadline(self, timeout: float) -> None:
        self._request_by = self._reading.deadline = trio.current_time() + timeout

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; if that fails, or the peer takes nothing for `stall_timeout`, end the stream.

        Checkpoints if it has to wait. A failure is reported to `receive_some` and not raised here:
        hypercorn would pass it on from within the application's `send`, and lose it if that is
        being cancelled.
        """
        view = memoryview(data)[write_now(self.socket.fileno(), data) :]
        for start in range(0, len(view), PIECE):
            await self._send(view[start : start + PIECE])

    async def _send(self, piece: bytes | bytearray | memoryview) -> None:
        with (
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
            trio.move_on_after(self._limits.stall_timeout),
        ):
            await self._stream.send_all(piece)
            return
        self.abort()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the socket does."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive, or raise BrokenResourceError if no request begins in time."""
        with trio.CancelScope(deadline=self._request_by) as self._reading:
            data = await self._stream.receive_some(max_bytes)
            if not self._heard:
                # A head has begun. However little of it comes at a time, this is all the time it has.
                self._heard = True
                self._set_deadline(self._limits.read_timeout)
            return data
        raise trio.BrokenResourceError("no request began in time")

    async def send_eof(self) -> None:
        """Send the end of the stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket; what the kernel holds is still sent."""
        await self._stream.aclose()

    def abort(self) -> None:
        """Close the socket now: tasks that wait on it get ClosedResourceError, the peer gets a reset."""
        if self.socket.fileno() != -1:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()
