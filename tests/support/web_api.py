"""A web API without a network, as the transport of an `httpx2.AsyncClient`.

Owns what it was asked, and answers that come piece by piece.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import Client, Server, open_client

BASE = "https://api.example.com/v1"


class WebApi(httpx2.AsyncBaseTransport):
    """Answers each request by `answer`, and keeps what it was asked in `requests`."""

    def __init__(self, answer: Callable[[httpx2.Request], httpx2.Response] | None = None) -> None:
        self.answer = answer or (lambda request: httpx2.Response(204))
        self.requests: list[httpx2.Request] = []

    @property
    def last(self) -> httpx2.Request:
        """The last request."""
        return self.requests[-1]

    @property
    def target(self) -> str:
        """The path of the last request and its query, as they were sent, without the path of the base."""
        return self.last.url.raw_path.decode().removeprefix("/v1")

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        return self.answer(request)

    def client(self, **options: Any) -> httpx2.AsyncClient:
        """A client of this API."""
        return httpx2.AsyncClient(**{"base_url": BASE, **options}, transport=self, timeout=HANG_SECONDS)


class Pieces(httpx2.AsyncByteStream, AsyncIterator[bytes]):
    """A body of several pieces; `closed` is set once it is closed. With `stall` it does not end."""

    def __init__(self, pieces: Sequence[bytes], *, stall: bool = False) -> None:
        self._pieces = pieces
        self._stall = stall
        self.taken = 0
        self.exhausted = trio.Event()
        self.closed = trio.Event()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.taken < len(self._pieces):
            self.taken += 1
            return self._pieces[self.taken - 1]
        self.exhausted.set()
        if self._stall:
            await trio.sleep_forever()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.set()


@asynccontextmanager
async def open_api(
    spec: dict[str, Any], api: WebApi, client: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A client of a server whose tools are the operations of `spec`, answered by `api`."""
    async with (
        api.client(**client or {}) as http,
        open_client(Server.from_openapi(spec, http, **options)) as mcp,
    ):
        yield mcp


def document(
    paths: dict[str, Any], schemas: dict[str, Any] | None = None, version: str = "3.1.0"
) -> dict[str, Any]:
    """A document with these paths and schemas."""
    return {
        "openapi": version,
        "info": {"title": "Test", "version": "7"},
        "paths": paths,
        "components": {"schemas": schemas or {}},
    }
