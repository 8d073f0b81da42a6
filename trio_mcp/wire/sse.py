"""Server-sent events: bytes in any portions to frames, and back (HTML standard, "Server-sent events").

Owns the event framing of Streamable HTTP and its caps. Knows nothing of
connections and streams, nor of what an event id means to its server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from trio_mcp.wire.codec import decode_lines, decode_message, encode_lines, refuse_message
from trio_mcp.wire.frame_meter import Counts
from trio_mcp.wire.frames import InFrame, OutFrame
from trio_mcp.wire.value_count import MAX_ANSWER_VALUES

KEEP_ALIVE: Final = b":\n\n"
"""A comment, which every reader ignores; it keeps a quiet connection open."""

_BOM: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data: "
_BETWEEN: Final = b"\n\n" + _DATA
_RETRY_DIGITS: Final = 9
"""A longer `retry`, in milliseconds, would be weeks, and is ignored."""


def encode_events(frames: Iterable[OutFrame]) -> bytes:
    """Encode `frames` in order, an event for each message."""
    lines = encode_lines(frames)
    return _DATA + lines[:-1].replace(b"\n", _BETWEEN) + b"\n\n" if lines else b""


def encode_event(data: bytes, *, event_id: str | None = None, retry: int | None = None) -> bytes:
    """Encode one message; with empty `data` the event only hands out its id. `retry` is in milliseconds.

    Raises ValueError for an id with a line break or a NUL.
    """
    fields = []
    if event_id is not None:
        if any(char in event_id for char in "\r\n\0"):
            raise ValueError(f"an event id must be one line without NUL, not {event_id!r}")
        fields.append(b"id: %b\n" % event_id.encode())
    if retry is not None:
        fields.append(b"retry: %d\n" % retry)
    return b"".join((*fields, _DATA, data.replace(b"\n", b"\n" + _DATA), b"\n\n"))


class EventDecoder:
    """Collects bytes of one stream and hands out the frames of every complete event.

    An event with more than `max_event_bytes` of data is answered once, as `Malformed`,
    and skipped to its end without being stored. An event that is incomplete when the
    stream ends is dropped.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._limit = max_event_bytes
        self._head: bytes | None = b""  # of the stream, until it is known whether it is a BOM
        self._tail: list[bytes] = []  # the unfinished line, capped like the data of an event
        self._tail_length = 0
        self._after_cr = False  # a newline that comes next belongs to the line before
        self._data: list[bytes] = []  # of the event that is being read, line by line
        self._data_length = 0
        self._is_message = True
        self._is_endpoint = False
        self.endpoint: str | None = None
        """The data of the last event `endpoint` (MCP transports 2024-11-05, "HTTP with SSE"), or None."""
        self._skipping = False
        self._new_id: str | None = None  # takes effect with the end of its event
        self._complete: list[bytes] = []  # data of whole events, decoded in one pass
        self._frames: list[InFrame] = []
        self.last_event_id: str | None = None
        """The id that the last complete event left in force, or None."""
        self.retry: int | None = None
        """How many milliseconds to wait before connecting again, or None."""
        self.unpaid = 0
        """How many lines and events came since `take_counts`, for which the data of messages has to pay."""
        self._useful = 0  # bytes of data of messages
        self._event_lines = 0  # of the event that is being read: those that count if it is no message

    def take_counts(self) -> Counts:
        """What came since this was called last; the fields of a message count only until it is complete."""
        counts = self.unpaid, self._useful
        self.unpaid = self._useful = 0
        return counts

    def feed(self, data: bytes) -> list[InFrame]:
        """Take the next bytes and return the frames that they complete."""
        if self._head is not None:
            data = self._strip_bom(data)
        if not data:
            return []
        if self._after_cr:
            self._after_cr = False
            if data[0] == 0x0A:
                data = data[1:]
        if self._is_between_events and b"\r" not in data:
            data = self._take_burst(data)
        if data:
            self._take_lines(data)
        self._decode_complete()
        frames, self._frames = self._frames, []
        return frames

    @property
    def _is_between_events(self) -> bool:
        return not (self._data or self._skipping or self._new_id is not None) and self._is_message

    def _strip_bom(self, data: bytes) -> bytes:
        assert self._head is not None, "the head of the stream is checked once"
        data = self._head + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._head = data
            return b""
        self._head = None
        return data.removeprefix(_BOM)

    def _take_burst(self, data: bytes) -> bytes:
        """Take whole events of one plain data line each; return what is left, or all.

        This is how progress comes, so it costs three passes in C and no loop.
        """
        end = data.rfind(b"\n\n")
        if end < 0:
            return data
        if self._tail:
            data = b"".join((*self._tail, data))
            end += self._tail_length
            self._tail, self._tail_length = [], 0
        if not data.startswith(_DATA):
            return data
        block = data[len(_DATA) : end]
        lines = block.replace(_BETWEEN, b"\n")
        # Each replacement took `_BETWEEN` and left one newline: more newlines are other fields.
        newlines = lines.count(b"\n")
        if newlines * (len(_BETWEEN) - 1) != len(block) - len(lines):
            return data
        self.unpaid += newlines + 1
        self._useful += len(lines) - newlines
        if len(lines) <= self._limit:
            self._frames += decode_lines(lines, MAX_ANSWER_VALUES)
        else:
            for line in lines.split(b"\n"):
                if len(line) > self._limit:
                    self._refuse(line)
                else:
                    self._complete.append(line)
        return data[end + 2 :]

    def _take_lines(self, data: bytes) -> None:
        if b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return
        lines = data.splitlines()  # splits bytes at LF, CR and CRLF only
        if self._tail:
            lines[0] = b"".join((*self._tail, lines[0]))
        elif self._tail_length and not lines[0]:
            lines[0] = b":"  # the end of a line that was not stored, and so no blank one
        self._tail, self._tail_length = [], 0
        self._after_cr = data.endswith(b"\r")
        unfinished = b"" if self._after_cr or data.endswith(b"\n") else lines.pop()
        for line in lines:
            if not line:
                self._end_event()
            elif self._skipping:
                self.unpaid += 1
            else:
                self._take_field(line)
        if unfinished:
            self._keep(unfinished)

    def _keep(self, data: bytes) -> None:
        self._tail_length += len(data)
        if self._skipping:
            return
        if self._tail_length > self._limit + len(_DATA):
            seen = b"".join((*self._tail, data))
            self._tail = []
            self._skip_event(seen.removeprefix(_DATA))
        else:
            self._tail.append(data)

    def _take_field(self, line: bytes) -> None:
        if len(line) > self._limit + len(_DATA):
            self._skip_event(line.removeprefix(_DATA))
            return
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name != b"data" or not value:
            self.unpaid += 1
            self._event_lines += 1
        if name == b"data":
            self._data_length += len(value) + bool(self._data)
            if self._data_length > self._limit:
                self._skip_event(value)
            else:
                self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._new_id = value.decode(errors="replace")
        elif name == b"event":
            self._is_message = value in (b"", b"message")
            self._is_endpoint = value == b"endpoint"
        elif name == b"retry" and value.isdigit() and len(value) <= _RETRY_DIGITS:
            self.retry = int(value)

    def _end_event(self) -> None:
        self.unpaid += 1
        if self._new_id is not None:
            self.last_event_id, self._new_id = self._new_id, None
        if self._data and self._is_message:
            if self._data_length >= len(self._data):  # so not all of its lines are empty
                self.unpaid -= self._event_lines
                self._useful += self._data_length
            if len(self._data) == 1:
                self._complete.append(self._data[0])
            else:
                self._decode_complete()
                message = b"\n".join(self._data)
                if message.strip():
                    self._frames.append(decode_message(message, MAX_ANSWER_VALUES))
        elif self._data and self._is_endpoint:
            self.endpoint = b"\n".join(self._data).decode(errors="replace")
        self._data, self._data_length, self._event_lines = [], 0, 0
        self._is_message = True
        self._is_endpoint = False
        self._skipping = False

    def _decode_complete(self) -> None:
        if self._complete:
            self._frames += decode_lines(b"\n".join(self._complete), MAX_ANSWER_VALUES)
            self._complete = []

    def _skip_event(self, data: bytes) -> None:
        data = b"\n".join((*self._data, data))
        self._data, self._data_length = [], 0
        self._skipping = True
        self._refuse(data)

    def _refuse(self, data: bytes) -> None:
        """Refuse a message that begins with `data`."""
        self._decode_complete()
        seen = data[: self._limit]
        self._frames.append(refuse_message(seen, f"message longer than {self._limit} bytes", lost=True))
