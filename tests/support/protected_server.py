"""A server of ours over HTTP that takes the access tokens of an authorization server for development."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from trio_mcp import Bearer, JwtVerifier, Principal, Server, serve_http
from trio_mcp.testing.authorization import DevAuthorizationServer


@asynccontextmanager
async def open_protected(
    server: Server, issuer: DevAuthorizationServer, tokens: list[str], **options: Any
) -> AsyncIterator[str]:
    """The URL at which `server` is served during the block, for tokens of `issuer`.

    `tokens` gets each token that the server is sent; `options` are those of `Bearer`.
    """
    verifier: JwtVerifier | None = None

    async def verify(token: str) -> Principal:
        assert verifier is not None
        tokens.append(token)
        return await verifier.verify(token)

    auth = Bearer(verify, authorization_servers=[issuer.issuer], **options)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(
            partial(serve_http, server, bind="127.0.0.1:0", auth=auth, sse=True, shutdown_grace=0.0)
        )
        # HTTP+SSE is at a URL of its own, for which its clients get their tokens.
        verifier = JwtVerifier(issuer.issuer, [url, url.replace("/mcp", "/sse")])
        yield url
        nursery.cancel_scope.cancel()
