"""Requests over connections of our own: the short way, for a server that needs nothing special.

Owns when a connection goes back to the pool. Refuses to know redirects, cookies, proxies and credentials,
which `httpx_client.py` leaves to httpx2.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs
import trio

from trio_mcp.transports.http.address import Address
from trio_mcp.transports.http.content_coding import DecodedChunks, is_decodable, is_identity
from trio_mcp.transports.http.h11_connection import FAILURES, H11Connection, NoPatienceError
from trio_mcp.transports.http.h11_request import RequestWriter
from trio_mcp.transports.http.pool import ConnectionPool
from trio_mcp.transports.http.response import HttpResponse, UnreachableError, WastefulError, describe_failure

if TYPE_CHECKING:
    import h11


def _unreachable(url: str, error: Exception) -> UnreachableError:
    if isinstance(error, NoPatienceError):
        return WastefulError(url, str(error))
    return UnreachableError(describe_failure(url, error))


class H11Body:
    """The chunks of one answer; its connection goes back to the pool as soon as the last has come."""

    def __init__(self, url: str, pool: ConnectionPool, connection: H11Connection, first: bytes) -> None:
        self._url = url
        self._pool = pool
        self._connection: H11Connection | None = connection
        self._taken = first
        self._release()

    def __aiter__(self) -> H11Body:
        return self

    async def __anext__(self) -> bytes:
        if self._taken:
            data, self._taken = self._taken, b""
            return data
        if self._connection is None:
            raise StopAsyncIteration
        try:
            data = await self._connection.receive_body()
        except FAILURES as error:
            raise _unreachable(self._url, error) from error
        self._release()
        if not data:
            raise StopAsyncIteration
        return data

    def has_unread(self) -> bool:
        """Whether bytes wait to be taken; False once all have come."""
        return self._connection is not None and self._connection.has_unread

    def _release(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_complete:
            self._connection = None
            self._pool.give_back(connection)

    def close(self) -> None:
        """Close the connection, unless the end of the answer has come."""
        if self._connection is None:
            return
        with suppress(*FAILURES):
            self._connection.take_body()
        self._pool.give_back(self._connection)
        self._connection = None


class _DecodedBody(DecodedChunks):
    """A body in a content coding, decoded."""

    def __init__(self, url: str, body: H11Body, coding: str) -> None:
        super().__init__(body, coding)
        self._url = url
        self._coding = coding

    async def __anext__(self) -> bytes:
        try:
            return await super().__anext__()
        except zlib.error as error:
            raise UnreachableError(
                f"{self._url} sent what is not in its content coding {self._coding!r}: {error}"
            ) from error


@attrs.frozen(eq=False)
class H11Response:
    """An answer and the body whose connection it holds."""

    answer: HttpResponse
    body: H11Body
    head: h11.Response


class H11Client:
    """Asks one address; `headers` go with every request and are ordinary ones."""

    def __init__(
        self,
        url: str,
        address: Address,
        ssl_context: ssl.SSLContext | None,
        headers: Mapping[str, str] | None,
        limit: int,
    ) -> None:
        self._url = url
        self._limit = limit
        self._writer = RequestWriter(address, headers)
        self.pool = ConnectionPool(address, ssl_context)

    async def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        sent: trio.Event | None,
        *,
        is_repeatable: bool = False,
    ) -> H11Response:
        """Send one request and wait for the head of its answer; checkpoints.

        The body must be closed. Whoever finds a kept connection closed cannot know how far the server
        came, so only a request that `is_repeatable` is then sent again, once and on a new connection.
        Raises UnreachableError.
        """
        try:
            request = self._writer.write(method, headers, body)
            kept = self.pool.reuse()
            if kept is not None:
                try:
                    return await self._ask_on(kept, method, request, sent)
                except FAILURES:
                    if kept.has_heard or not is_repeatable:
                        raise
            return await self._ask_on(await self.pool.open(), method, request, sent)
        except FAILURES as error:
            raise _unreachable(self._url, error) from error

    async def _ask_on(
        self, connection: H11Connection, method: str, request: bytes, sent: trio.Event | None
    ) -> H11Response:
        try:
            await connection.send(method, request, sent)
            head = await connection.receive_head()
            first = connection.take_body()  # a short answer comes with its head
        except BaseException:
            connection.close()
            raise
        return self._read(head, H11Body(self._url, self.pool, connection, first))

    def _read(self, head: h11.Response, body: H11Body) -> H11Response:
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        code, reason = head.status_code, head.reason.decode("latin-1")
        coding = headers.get("content-encoding", "")
        chunks: AsyncIterator[bytes] = body
        if is_decodable(coding):
            chunks = _DecodedBody(self._url, body, coding)
        elif not is_identity(coding) and 200 <= code < 300:
            body.close()
            raise UnreachableError(
                f"{self._url} answered in the content coding {coding!r}, although identity was asked for"
            )
        return H11Response(
            HttpResponse(code, reason, headers, chunks, self._limit, body.has_unread, self._url), body, head
        )
