"""One request to an API and its answer, with progress in bytes.

Owns the caps of an answer, what cancels and closes it, and that no argument changes which server is asked.
The client is the program's: its base URL, its headers, its authentication and its timeouts.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import attrs
import httpx2
import trio

from trio_mcp.errors import ToolError
from trio_mcp.server.context import Context
from trio_mcp.server.openapi.arguments import RequestParts
from trio_mcp.server.openapi.bodies import Content
from trio_mcp.server.openapi.operation import Operation
from trio_mcp.server.openapi.replies import Reply, make_error
from trio_mcp.transports.http.content_coding import DecodedChunks, is_decodable, is_identity

PIECE_BYTES: Final = 65_536
"""How much of a body is sent between two reports."""

_CLOSE_SECONDS: Final = 5.0
_ERROR_BYTES: Final = 65_536
"""How much of the body of an error is read: of an excerpt, several times as much as is shown."""

_CODINGS: Final = "gzip, deflate"
_SHORTEST_SECRET: Final = 6
_HARMLESS: Final = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"),
        "transfer-encoding",
    }
)


@attrs.frozen
class ApiClient:
    """A client of one API: `base_url` is where its paths begin, and a body has at most `max_bytes`."""

    http: Any = attrs.field(repr=False)
    base_url: str = attrs.field(repr=False)
    max_bytes: int
    public_url: str = attrs.field(init=False)
    """The base URL without a password."""

    @public_url.default
    def _make_public_url(self) -> str:
        return str(httpx2.URL(self.base_url).copy_with(userinfo=b"")).rstrip("/")

    async def ask(self, ctx: Context, operation: Operation, parts: RequestParts, accept: str) -> Reply:
        """Send a request, report its bytes and those of the answer, and return that; checkpoints.

        It is closed if the call is cancelled. Raises ToolError if there is no answer, if it is an error, and
        if it is too large.
        """
        progress = _ByteProgress(ctx)
        try:
            request = self._make_request(operation, parts, accept, progress)
            response = await self.http.send(request, stream=True)
        except _FAILURES as error:
            raise _describe(operation, error) from error
        # Some transports, for example httpx2's MockTransport, have read and decoded the body already.
        chunks = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
        try:
            return await self._receive(operation, parts, response, chunks, progress)
        except _FAILURES as error:
            raise _describe(operation, error) from error
        finally:
            # Shielded: a connection that is not closed stays counted, and the API goes on.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_SECONDS):
                await response.aclose()
                await chunks.aclose()

    def _make_request(
        self, operation: Operation, parts: RequestParts, accept: str, progress: _ByteProgress
    ) -> Any:
        headers = {"accept": accept, **parts.headers, "accept-encoding": _CODINGS}
        content = None
        if parts.content is not None:
            headers |= {
                "content-type": parts.content.media_type,
                "content-length": str(len(parts.content.data)),
            }
            content = _Upload(parts.content, progress)
        request = self.http.build_request(
            operation.method,
            self.base_url + parts.path,
            headers=headers,
            cookies=dict(parts.cookies) or None,
            content=content,
        )
        if not str(request.url).startswith(self.base_url + "/"):
            raise ToolError(f"{operation}: the arguments make a URL that leads elsewhere")
        return request

    async def _receive(
        self,
        operation: Operation,
        parts: RequestParts,
        response: Any,
        chunks: AsyncIterator[bytes],
        progress: _ByteProgress,
    ) -> Reply:
        is_error = not 200 <= response.status_code < 300
        headers = {name.lower(): value for name, value in response.headers.items()}
        coding = headers.get("content-encoding", "")
        if response.is_stream_consumed and not is_identity(coding):
            headers.pop("content-length", None)  # that of the body before it was decoded
            coding = ""
        if not is_identity(coding) and not is_decodable(coding):
            raise ToolError(f"{operation} answered in the coding {coding!r:.50}, which was not asked for")
        length = _read_length(headers) if operation.method != "HEAD" else None
        limit = _ERROR_BYTES if is_error else self.max_bytes
        if not is_error and is_identity(coding) and length is not None and length > limit:
            raise _too_large(operation, limit)
        counted: AsyncIterator[bytes] = _Download(chunks, length, progress)
        if not is_identity(coding):
            counted = DecodedChunks(counted, coding)
        body = bytearray()
        async for chunk in counted:
            body += chunk
            if len(body) > limit:
                if is_error:
                    break
                raise _too_large(operation, limit)
        url = self.public_url + parts.path.partition("?")[0]
        reply = Reply(response.status_code, response.reason_phrase, headers, bytes(body[:limit]), url)
        if is_error:
            raise make_error(operation, reply, _find_secrets(self.http, response, parts))
        return reply


_FAILURES: Final = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, zlib.error)


@attrs.define
class _ByteProgress:
    """What a call reports: the bytes that were sent and received, of as many as are known to come."""

    _ctx: Context
    _sent: int = 0

    async def note_sent(self, sent: int, total: int) -> None:
        self._sent = sent
        await self._ctx.report_progress(sent, total, "upload")

    async def note_received(self, received: int, total: int | None) -> None:
        whole = None if total is None else self._sent + total
        await self._ctx.report_progress(self._sent + received, whole, "download")


@attrs.frozen
class _Upload:
    """A body in pieces; it may be read again, if the client authenticates by a second request."""

    _content: Content
    _progress: _ByteProgress

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(self._content.data, self._progress)


@attrs.define
class _Pieces(AsyncIterator[bytes]):
    """One reading of an upload."""

    _data: bytes
    _progress: _ByteProgress
    _sent: int = 0

    async def __anext__(self) -> bytes:
        if self._sent:  # the next piece is asked for when the last one has been written
            await self._progress.note_sent(self._sent, len(self._data))
        piece = self._data[self._sent : self._sent + PIECE_BYTES]
        if not piece:
            raise StopAsyncIteration
        self._sent += len(piece)
        return piece


@attrs.define
class _Download:
    """The pieces of an answer as they come from the network, before they are decoded."""

    _chunks: AsyncIterator[bytes]
    _total: int | None
    _progress: _ByteProgress
    _received: int = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._received += len(chunk)
        await self._progress.note_received(self._received, self._total)
        return chunk


def _read_length(headers: Mapping[str, str]) -> int | None:
    """The bytes that come, if that is said; they are those on the wire, as the coding leaves them."""
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 and int(text) else None


def _too_large(operation: Operation, limit: int) -> ToolError:
    return ToolError(f"{operation} answered with more than {limit:,} bytes")


def _describe(operation: Operation, error: Exception) -> ToolError:
    """What a client reads of a failure; the message of the error may name hosts and proxies."""
    if isinstance(error, httpx2.TimeoutException):
        return ToolError(f"{operation}: the API did not answer in time")
    return ToolError(f"{operation}: no answer from the API ({type(error).__name__})")


def _find_secrets(client: Any, response: Any, parts: RequestParts) -> list[str]:
    """What a request carried beside its arguments, the longest first: keys that an API may repeat."""
    given = {*parts.headers.values(), *parts.cookies.values()}
    found: set[str] = set()
    for name, value in response.request.headers.items():
        if name.lower() not in _HARMLESS and value not in given:
            found |= {value, value.rpartition(" ")[2]}
    found |= {str(value) for value in client.params.values()}
    found |= {str(cookie.value) for cookie in client.cookies.jar}
    return sorted((secret for secret in found if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True)
