"""Newline-delimited JSON over any pair of Trio byte streams (MCP stdio, "Standard streams").

Owns reading in portions and writing whole batches. Refuses to know where the streams come from.
"""

from __future__ import annotations

import functools
import os
import select
import stat
import sys
from collections.abc import Sequence
from typing import Final, TypeGuard

import trio

from trio_mcp.transports.write_now import write_now
from trio_mcp.wire.codec import encode_lines
from trio_mcp.wire.frames import InFrame, OutFrame
from trio_mcp.wire.framing import PORTION, LineDecoder, has_tiny_lines
from trio_mcp.wire.value_count import MAX_VALUES

PIPE_BUF: Final = getattr(select, "PIPE_BUF", 0)
"""What a pipe takes whole or not at all (POSIX write)."""

READ_BYTES: Final = 65_536
"""What a pipe holds at most on Linux, so one read empties it."""


def is_pipe(
    stream: trio.abc.SendStream | trio.abc.ReceiveStream,
) -> TypeGuard[trio.lowlevel.FdStream]:
    """Whether `stream` is one end of a pipe, of which the file descriptor is known."""
    return (
        sys.platform != "win32"
        and isinstance(stream, trio.lowlevel.FdStream)
        and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    )


async def read_pipe(stream: trio.lowlevel.FdStream) -> bytes:
    """What the pipe holds, at most `READ_BYTES`; checkpoints. Raises as `receive_some` does.

    `receive_some` lets others run, tries to read, and only then waits. Here a message is rarely
    there already: waiting first saves a scheduling round and a failed read for each.
    """
    while True:
        fd = stream.fileno()
        if fd == -1:
            raise trio.ClosedResourceError("the pipe was closed")
        await trio.lowlevel.wait_readable(fd)
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:
            pass  # another process reads from it as well
        except OSError as error:
            raise trio.BrokenResourceError from error


class StreamTransport:
    """Frames over a byte stream in each direction; the streams are closed with it."""

    def __init__(
        self,
        send: trio.abc.SendStream,
        receive: trio.abc.ReceiveStream,
        *,
        max_frame_bytes: int,
        max_values: int = MAX_VALUES,
    ) -> None:
        self._send = send
        self._pipe = send if is_pipe(send) else None
        self._receive = receive
        self._receive_some = (
            functools.partial(read_pipe, receive)
            if is_pipe(receive)
            else functools.partial(receive.receive_some, READ_BYTES)
        )
        self._decoder = LineDecoder(max_frame_bytes, max_values)
        self._rest = b""  # of what was read, if its lines are so tiny that it is decoded in portions
        self._ended = False

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Write `frames` in one write; checkpoints if it has to wait."""
        data = encode_lines(frames)
        written = 0 if self._pipe is None else write_now(self._pipe.fileno(), data)
        if written < len(data):
            await self._send.send_all(data[written:])

    def send_now(self, frame: OutFrame) -> bool:
        """Write `frame` into a pipe that has room for all of it."""
        if self._pipe is None:
            return False
        data = encode_lines([frame])
        if len(data) > PIPE_BUF:
            return False
        # A pipe takes so little whole or not at all. If it does not, the writer finds out why.
        return write_now(self._pipe.fileno(), data) > 0

    async def receive_frames(self) -> Sequence[InFrame]:
        """Read until at least one frame is complete; checkpoints, also between portions of what was read."""
        while not self._ended:
            if self._rest:
                await trio.lowlevel.checkpoint()
                portion, self._rest = self._rest[:PORTION], self._rest[PORTION:]
                frames = self._decoder.feed(portion)
            else:
                data = await self._receive_some()
                frames = self._decoder.feed(bytes(data)) if 0 < len(data) <= PORTION else self._take(data)
            if self._decoder.has_ended_long:
                self._decoder.has_ended_long = False
                # What follows takes a turn of its own. Cancelled, this would lose the frames.
                await trio.lowlevel.cancel_shielded_checkpoint()
            if frames:
                return frames
        raise trio.EndOfChannel

    def _take(self, data: bytes | bytearray) -> list[InFrame]:
        """The frames of what was read: the end, or more than a portion."""
        if not data:
            self._ended = True
            return self._decoder.finish()
        if has_tiny_lines(data):
            self._rest = bytes(data)
            return []
        return self._decoder.feed(bytes(data))

    async def aclose(self) -> None:
        """Close both streams, also when cancelled; checkpoints."""
        try:
            await self._send.aclose()
        finally:
            await self._receive.aclose()
