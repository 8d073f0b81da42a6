"""The answer to one HTTP request: its head, and its body read whole or as events.

Owns the caps of a body. Refuses to know how the answer came and what it means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import attrs
import trio

from trio_mcp.errors import MCPError
from trio_mcp.wire.frame_meter import FRAMES_AT_ONCE, Patience
from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.framing import PORTION, has_tiny_lines
from trio_mcp.wire.http import EVENT_STREAM
from trio_mcp.wire.sse import EventDecoder

RETRY_MILLISECONDS: Final = 1000
"""How long to wait before a stream is opened again, if the server does not say."""

Deliver = Callable[[list[InFrame]], Awaitable[None]]


class UnreachableError(Exception):
    """The endpoint could not be asked, or it broke off its answer; the message names its URL."""


class WastefulError(UnreachableError):
    """The server only wastes time, so it is not asked again."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(f"{url} {what} that carry nothing, and is not read any further")


class UnauthorizedError(UnreachableError):
    """The server wants a token and none was got, so it did nothing; `failure` is for the caller."""

    def __init__(self, failure: MCPError) -> None:
        super().__init__(str(failure))
        self.failure = failure


def describe_failure(url: str, error: BaseException) -> str:
    """What an UnreachableError says about `error`, or about its cause if it says nothing itself."""
    if not str(error) and error.__cause__ is not None:
        error = error.__cause__
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"the connection to {url} failed: {cause}"


@attrs.define(eq=False)
class StreamPosition:
    """How far an event stream was read, over all connections that carried it."""

    last_event_id: str | None = None
    retry: int = RETRY_MILLISECONDS


class _Portions:
    """The chunks of an event stream, those with tiny lines in portions between which others have a turn."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    @property
    def has_more(self) -> bool:
        """Whether a part of a chunk is still to come."""
        return bool(self._rest)

    def __aiter__(self) -> _Portions:
        return self

    async def __anext__(self) -> bytes:
        if self._rest:
            await trio.lowlevel.checkpoint()
            data, self._rest = self._rest[:PORTION], self._rest[PORTION:]
            return data
        data = await anext(self._chunks)
        if has_tiny_lines(data):
            data, self._rest = data[:PORTION], data[PORTION:]
        return data


@attrs.define(eq=False)
class HttpResponse:
    """The answer to one request; `headers` have lower-case names.

    The chunks raise UnreachableError if the answer breaks off.
    """

    code: int
    reason: str
    headers: Mapping[str, str]
    _chunks: AsyncIterator[bytes] = attrs.field(repr=False)
    _limit: int = attrs.field(repr=False)
    _has_unread: Callable[[], bool] = attrs.field(repr=False, default=lambda: False)
    url: str = ""
    _portions: _Portions | None = attrs.field(init=False, repr=False, default=None)

    def has_unread(self) -> bool:
        """Whether unread bytes of the answer have arrived; False if that cannot be told."""
        return (self._portions is not None and self._portions.has_more) or self._has_unread()

    @property
    def status(self) -> str:
        """The code as a person reads it, for example "404 Not Found"."""
        return f"{self.code} {self.reason or _PHRASES.get(self.code, '')}".strip()

    @property
    def content_type(self) -> str:
        """The media type of the body, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_success(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of events."""
        return self.is_success and self.content_type == EVENT_STREAM

    def with_chunks(self, chunks: AsyncIterator[bytes]) -> HttpResponse:
        """The same answer with another body."""
        return HttpResponse(self.code, self.reason, self.headers, chunks, self._limit, url=self.url)

    async def read_events(
        self,
        position: StreamPosition,
        deliver: Deliver,
        on_first: Callable[[str | None], None] | None = None,
    ) -> None:
        """Deliver the frames of an event stream until it ends; checkpoints if it waits for them.

        `on_first` is called at the first event: with its data if it names an endpoint (MCP transports
        2024-11-05, "HTTP with SSE"), else with None, if it is a message.
        Raises UnreachableError if the answer breaks off, and WastefulError if the server only wastes
        time, as with comments or empty events.
        """
        decoder = EventDecoder(self._limit)
        patience = Patience()
        portions = _Portions(self._chunks)
        self._portions = portions
        async for data in portions:
            frames = decoder.feed(data)
            if decoder.unpaid >= FRAMES_AT_ONCE and patience.is_exhausted_by(
                decoder.take_counts(), trio.current_time()
            ):
                raise WastefulError(self.url, "sends events")
            if decoder.last_event_id is not None:
                position.last_event_id = decoder.last_event_id
            if decoder.retry is not None:
                position.retry = decoder.retry
            if on_first is not None and (frames or decoder.endpoint is not None):
                on_first(decoder.endpoint)
                on_first = None
            if frames:
                await deliver(frames)

    async def read_body(self) -> bytes | None:
        """The whole body, or None if it is longer than a message may be.

        Checkpoints if it waits for more.
        """
        parts: list[bytes] = []
        length = 0
        async for data in self._chunks:
            length += len(data)
            if length > self._limit:
                return None
            parts.append(data)
        return b"".join(parts)


_PHRASES: Final[Mapping[int, str]] = {status.value: status.phrase for status in HTTPStatus}
