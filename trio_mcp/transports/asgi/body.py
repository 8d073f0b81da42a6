"""Reading the body of an HTTP request over ASGI: in one pass, and within every cap.

Owns what is done while the body arrives: its length, its values, and what is held of it are counted. How
a refusal looks is the endpoint's.
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from trio_mcp.transports.asgi.types import Receive
from trio_mcp.transports.buffered_bytes import BufferedBytes
from trio_mcp.transports.paced_decoding import count_in_turns
from trio_mcp.wire.codec import decode_counted, refuse_values
from trio_mcp.wire.frame_meter import FRAMES_AT_ONCE, Patience
from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.value_count import ValueCounter

_BLANKS: Final = 1024
"""How much blank space in front of an array is looked through: nobody sends more who means well."""


class TooLongError(Exception):
    """A body is longer than the cap."""


class WastefulBodyError(Exception):
    """A body comes in ever more pieces with hardly anything in them."""


@attrs.frozen
class Body:
    """A whole body; `is_beyond` says that it holds more values than the cap."""

    data: bytes
    max_values: int
    is_beyond: bool = False

    @property
    def is_batch(self) -> bool:
        """Whether it begins as an array."""
        return self.data[:_BLANKS].lstrip()[:1] == b"["

    def decode(self) -> InFrame:
        """The message that it holds; never raises."""
        return refuse_values(self.data, self.max_values) if self.is_beyond else decode_counted(self.data)


async def read_body(
    receive: Receive, max_bytes: int, max_values: int, buffered: BufferedBytes, peer: str
) -> Body | None:
    """Read a body; None if the client has gone before its end. Checkpoints.

    Raises TooLongError beyond `max_bytes`, TooMuchBufferedError if `buffered` has no room for more, and
    WastefulBodyError if the client only wastes time.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        data = message.get("body", b"")
        if len(data) <= min(max_bytes, max_values):  # as most are
            return Body(data, max_values)
    read = bytearray()  # not a list, which one-byte parts would make many times as long
    counter: ValueCounter | None = None
    parts = judged = 0
    patience = Patience()
    with buffered.claim(peer) as claim:
        while message["type"] == "http.request":
            part = message.get("body", b"")
            if len(read) + len(part) > max_bytes:
                raise TooLongError
            claim.hold(len(read) + len(part))
            if counter is None and len(read) + len(part) > max_values:
                counter = ValueCounter(max_values)
                await count_in_turns(counter, bytes(read))
            read += part
            if counter is not None:
                await count_in_turns(counter, part)
            if not message.get("more_body", False):
                body = Body(bytes(read), max_values, counter is not None and counter.is_beyond)
                await trio.lowlevel.checkpoint()
                return body
            parts += 1
            if parts % FRAMES_AT_ONCE == 0:
                if patience.is_exhausted_by((FRAMES_AT_ONCE, len(read) - judged), trio.current_time()):
                    raise WastefulBodyError
                judged = len(read)
                await trio.lowlevel.checkpoint()  # the pieces may have been there all at once
            message = await receive()
    return None
