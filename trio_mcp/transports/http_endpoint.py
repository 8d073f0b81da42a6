"""One HTTP endpoint: messages out, answers in, and what can go wrong between (on httpx2).

Owns the HTTP client and the reading of bodies, whole and as events. Knows no
method, session or era.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any, Final

import attrs
import trio

from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.http import EVENT_STREAM, JSON
from trio_mcp.wire.sse import EventDecoder

try:
    import httpx2
except ImportError as error:
    raise ImportError("servers with a URL need httpx2: pip install 'trio-mcp[http]'") from error

CONNECT_SECONDS: Final = 10.0
"""How long a connection may take; nothing bounds its silence, for an event stream may be silent."""

CLOSE_SECONDS: Final = 1.0
"""How long the closing of one answer, or the end of the session, may take."""

KEPT_CONNECTIONS: Final = 20
KEPT_SECONDS: Final = 30.0
"""Idle connections that wait for the next request; those in use are not limited."""

RETRY_MILLISECONDS: Final = 1000
"""How long to wait before a stream is opened again, where the server does not say."""

_TIMEOUT: Final = httpx2.Timeout(None, connect=CONNECT_SECONDS)

Deliver = Callable[[list[InFrame]], Awaitable[None]]


class UnreachableError(Exception):
    """The endpoint could not be asked, or it broke off its answer; the message names its URL."""


class _Body(httpx2.AsyncByteStream):
    """A request's body that tells when it has been written."""

    def __init__(self, data: bytes, sent: trio.Event) -> None:
        self._data = data
        self._sent = sent

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(self._data, self._sent)


@attrs.define(eq=False)
class _Pieces:
    """One reading of a `_Body`; there are several where the request is sent again."""

    _data: bytes
    _sent: trio.Event
    _is_taken: bool = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._is_taken:
            self._sent.set()  # the next piece is asked for when this one has been written
            raise StopAsyncIteration
        self._is_taken = True
        return self._data


@attrs.define(eq=False)
class StreamPosition:
    """How far an event stream was read, over all connections that carried it."""

    last_event_id: str | None = None
    retry: int = RETRY_MILLISECONDS


@attrs.frozen(eq=False)
class Answer:
    """The answer to one request; `headers` have lower-case names."""

    code: int
    headers: Mapping[str, str]
    status: str
    """The code as a person reads it, for example "404 Not Found"."""
    content_type: str
    """The media type of the body, without its parameters."""
    _chunks: AsyncIterator[bytes] = attrs.field(repr=False)
    _limit: int = attrs.field(repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of events."""
        return self.is_success and self.content_type == EVENT_STREAM

    async def read_events(self, position: StreamPosition, deliver: Deliver) -> None:
        """Deliver the frames of an event stream until it ends; checkpoints."""
        decoder = EventDecoder(self._limit)
        async for data in self._chunks:
            frames = decoder.feed(data)
            if decoder.last_event_id is not None:
                position.last_event_id = decoder.last_event_id
            if decoder.retry is not None:
                position.retry = decoder.retry
            if frames:
                await deliver(frames)

    async def read_body(self) -> bytes | None:
        """The whole body, or None where it is longer than a message may be; checkpoints."""
        parts: list[bytes] = []
        length = 0
        async for data in self._chunks:
            length += len(data)
            if length > self._limit:
                return None
            parts.append(data)
        return b"".join(parts)


def _read_answer(response: httpx2.Response, chunks: AsyncIterator[bytes], limit: int) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    phrase = response.reason_phrase or httpx2.codes.get_reason_phrase(response.status_code)
    status = f"{response.status_code} {phrase}".strip()
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Answer(response.status_code, headers, status, kind, chunks, limit)


@attrs.frozen(eq=False)
class Endpoint:
    """The URL of a server, and how to ask it; `limit` is the largest message in bytes."""

    url: str
    origin: str
    limit: int
    _client: httpx2.AsyncClient
    _headers: Mapping[str, str]
    _auth: Any = None

    @asynccontextmanager
    async def ask(
        self, method: str, headers: Mapping[str, str], body: bytes = b"", sent: trio.Event | None = None
    ) -> AsyncIterator[Answer]:
        """Send one request; its answer can be read while the block lasts. Checkpoints.

        `sent` is set when the request is written. Raises UnreachableError, also where the
        answer breaks off in the block.
        """
        accept = f"{JSON}, {EVENT_STREAM}" if method == "POST" else EVENT_STREAM
        content = {"content-type": JSON} if body else {}
        options = {} if self._auth is None else {"auth": self._auth}
        try:
            request = self._client.build_request(
                method,
                self.url,
                # Identity: what compresses a stream may hold back its events.
                headers={
                    **self._headers,
                    "accept": accept,
                    "accept-encoding": "identity",
                    **content,
                    **headers,
                },
                content=body or None,
                timeout=_TIMEOUT,
            )
            if sent is not None:
                request.stream = _Body(body, sent)
            response = await self._client.send(request, stream=True, **options)
        except Exception as error:  # the caller's client and auth may raise anything, and so may odd headers
            raise UnreachableError(self._describe(error)) from error
        chunks = response.aiter_bytes()
        try:
            if response.request.method != method:
                # What a GET brings is no answer, and may be a stream without an end.
                raise UnreachableError(
                    f"{self.url} redirects to {response.url}, which makes a {response.request.method} of "
                    f"each {method}; use that URL"
                )
            yield _read_answer(response, chunks, self.limit)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise UnreachableError(self._describe(error)) from error
        finally:
            # Shielded: a connection that is not closed stays counted, and its server goes on.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
                await _close(response, chunks)

    def _describe(self, error: Exception) -> str:
        cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return f"the connection to {self.url} failed: {cause}"


async def _close(response: httpx2.Response, chunks: AsyncIterator[bytes]) -> None:
    """Give the connection back, or close it where the answer was not read to its end."""
    await response.aclose()
    # The body is generators within generators, and closing the outermost leaves the others to
    # the garbage collector. Reading from what is closed ends them from within.
    with suppress(Exception):
        async for _ in chunks:
            pass


@asynccontextmanager
async def open_endpoint(
    url: str,
    *,
    limit: int,
    headers: Mapping[str, str] | None,
    auth: Any,
    http_client: httpx2.AsyncClient | None,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Endpoint]:
    """An endpoint on `http_client`, which stays open, or on a client of its own. Checkpoints.

    Raises ValueError for what is no URL of a server, and TypeError for what are no headers.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{url!r} is no URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is no http:// or https:// URL with a host")
    origin = f"{parsed.scheme}://{parsed.netloc.decode()}"
    extra = httpx2.Headers(headers)  # raises TypeError for what can be none
    if http_client is not None:
        yield Endpoint(url, origin, limit, http_client, extra, auth)
        return
    limits = httpx2.Limits(
        max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS, keepalive_expiry=KEPT_SECONDS
    )
    client = httpx2.AsyncClient(
        limits=limits, timeout=_TIMEOUT, follow_redirects=True, verify=ssl_context or _default_context()
    )
    try:
        yield Endpoint(url, origin, limit, client, extra, auth)
    finally:
        # Shielded: sockets are closed also where the block is cancelled.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
            await client.aclose()


@cache
def _default_context() -> ssl.SSLContext:
    """What all clients of this process trust; loading it takes longer than connecting."""
    return httpx2.create_ssl_context()
