"""Requests through httpx2: for all that a connection of our own does not do.

Owns the httpx2 client, unless the caller brought one: proxies, credentials, cookies and
redirects are its business. The only module that imports httpx2.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from trio_mcp.transports.http.address import parse_address
from trio_mcp.transports.http.h11_connection import CONNECT_SECONDS, EVENTS_AT_ONCE
from trio_mcp.transports.http.pool import KEPT_SECONDS
from trio_mcp.transports.http.response import HttpResponse, UnreachableError, WastefulError, describe_failure
from trio_mcp.wire.frame_meter import Patience
from trio_mcp.wire.http import EVENT_STREAM, JSON

try:
    import httpx2
except ImportError as error:
    raise ImportError("this URL needs httpx2: pip install 'trio-mcp[http]'") from error

if TYPE_CHECKING:
    import h11

CLOSE_SECONDS: Final = 1.0
"""How long the closing of one answer, or of the client, may take."""

_KEPT_CONNECTIONS: Final = 20
"""Fewer than of our own: with each request httpx2 looks at all of them."""

_MAX_REDIRECTS: Final = 20

_TIMEOUT: Final = httpx2.Timeout(None, connect=CONNECT_SECONDS)


class _Body(httpx2.AsyncByteStream):
    """A request's body that tells when it has been written."""

    def __init__(self, data: bytes, sent: trio.Event) -> None:
        self._data = data
        self._sent = sent

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(self._data, self._sent)


@attrs.define(eq=False)
class _Chunks:
    """The chunks of an answer, which httpx2 hands out without letting others run between two of one read."""

    _url: str
    _chunks: AsyncIterator[bytes]
    _count: int = 0
    _length: int = 0
    _patience: Patience = attrs.field(factory=Patience)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._count == EVENTS_AT_ONCE:
            counts, self._count, self._length = (self._count, self._length), 0, 0
            if self._patience.is_exhausted_by(counts, trio.current_time()):
                raise WastefulError(self._url, "sends chunks")
            await trio.lowlevel.checkpoint()
        data = await anext(self._chunks)
        self._count += 1
        self._length += len(data)
        return data


@attrs.define(eq=False)
class _Pieces:
    """One reading of a `_Body`; there are several if the request is sent again."""

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


class HttpxClient:
    """Asks one URL through `http_client`, which stays open, or through a client of its own.

    Redirects are followed to the `origins`. Raises TypeError for what are no headers.
    """

    def __init__(
        self,
        url: str,
        *,
        limit: int,
        headers: Mapping[str, str] | None,
        auth: Any,
        http_client: httpx2.AsyncClient | None,
        ssl_context: ssl.SSLContext | None,
        origins: Collection[str],
    ) -> None:
        self._url = url
        self._origins = origins
        self._headers = httpx2.Headers(headers)
        self._options = {} if auth is None else {"auth": auth}
        self._limit = limit
        self._is_own = http_client is None
        self.client = _make_client(ssl_context) if http_client is None else http_client

    async def aclose(self) -> None:
        """Close its own client, also if the caller is cancelled; bounded, checkpoints."""
        # Shielded: sockets are closed also if the block is cancelled.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
            if self._is_own:
                await self.client.aclose()
            await trio.lowlevel.checkpoint()

    def note_cookies(self, head: h11.Response) -> None:
        """Send the cookies of an answer to a request of our own from now on."""
        request = httpx2.Request("POST", self._url)
        response = httpx2.Response(head.status_code, headers=list(head.headers), request=request)
        self.client.cookies.extract_cookies(response)

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        sent: trio.Event | None,
        *,
        is_repeatable: bool = False,
    ) -> AsyncIterator[HttpResponse]:
        """Send one request; its answer can be read while the block lasts. Checkpoints.

        One that `is_repeatable` is sent again if its connection ends without an answer. Raises
        UnreachableError, also if the answer breaks off in the block.
        """
        try:
            response = await self._send(method, headers, body, sent, is_repeatable=is_repeatable)
        except UnreachableError:
            raise
        except Exception as error:  # the caller's client and auth may raise anything, and so may odd headers
            raise UnreachableError(describe_failure(self._url, error)) from error
        chunks = response.aiter_bytes()
        try:
            answered = {name.lower(): value for name, value in response.headers.items()}
            paced = _Chunks(self._url, chunks)
            code, reason = response.status_code, response.reason_phrase
            yield HttpResponse(code, reason, answered, paced, self._limit, url=self._url)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise UnreachableError(describe_failure(self._url, error)) from error
        finally:
            # Shielded: a connection that is not closed stays counted, and its server goes on.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
                await _close(response, chunks)

    async def _send(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        sent: trio.Event | None,
        *,
        is_repeatable: bool,
    ) -> httpx2.Response:
        """Send a request and follow its redirects, which httpx2 would follow with headers of the caller."""
        url = self._url
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                response = await self._send_once(url, method, headers, body, sent)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                if not is_repeatable:
                    raise
                is_repeatable = False
                response = await self._send_once(url, method, headers, body, sent)
            following = response.next_request if self.client.follow_redirects else None
            if following is None:
                return response
            await response.aclose()
            self._check_redirect(following, method)
            url = str(following.url)
        raise UnreachableError(f"{self._url} redirects more than {_MAX_REDIRECTS} times")

    async def _send_once(
        self, url: str, method: str, headers: Mapping[str, str], body: bytes, sent: trio.Event | None
    ) -> httpx2.Response:
        request = self._make_request(url, method, headers, body)
        if sent is not None:
            request.stream = _Body(body, sent)
        return await self.client.send(request, stream=True, follow_redirects=False, **self._options)

    def _check_redirect(self, following: httpx2.Request, method: str) -> None:
        """Raise UnreachableError unless a request may be sent there as it is."""
        if following.method != method:
            # What a GET brings is no answer, and may be a stream without an end.
            raise UnreachableError(
                f"{self._url} redirects to {following.url}, which makes a {following.method} of "
                f"each {method}; use that URL"
            )
        origin = parse_address(str(following.url)).origin
        if origin not in self._origins:
            raise UnreachableError(
                f"{self._url} redirects to {following.url}, which is another origin: neither headers nor "
                f"messages are sent there; use that URL, or allow_redirects_to={[origin]!r}"
            )

    def _make_request(self, url: str, method: str, headers: Mapping[str, str], body: bytes) -> httpx2.Request:
        accept = f"{JSON}, {EVENT_STREAM}" if method == "POST" else EVENT_STREAM
        content = {"content-type": JSON} if body else {}
        return self.client.build_request(
            method,
            url,
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


async def _close(response: httpx2.Response, chunks: AsyncIterator[bytes]) -> None:
    """Give the connection back, or close it if the answer was not read to its end."""
    await response.aclose()
    # The body is generators within generators, and closing the outermost leaves the others to
    # the garbage collector. Reading from what is closed ends them from within.
    with suppress(Exception):  # a client of the caller's may raise anything, and the answer is given up
        async for _ in chunks:
            pass


def _make_client(ssl_context: ssl.SSLContext | None) -> httpx2.AsyncClient:
    """A client that follows redirects, and opens as many connections as there are requests."""
    limits = httpx2.Limits(
        max_connections=None, max_keepalive_connections=_KEPT_CONNECTIONS, keepalive_expiry=KEPT_SECONDS
    )
    return httpx2.AsyncClient(
        limits=limits, timeout=_TIMEOUT, follow_redirects=True, verify=ssl_context or default_context()
    )


@cache
def default_context() -> ssl.SSLContext:
    """What all clients of this process trust; loading it takes longer than connecting."""
    return httpx2.create_ssl_context()
