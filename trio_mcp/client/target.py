"""The targets of a client: servers in this process, URLs, files, commands and connectors.

Owns the reading of `open_client`'s first argument. Refuses to know what travels over a transport.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeGuard, runtime_checkable

import attrs
import trio

from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.stdio_server import StdioServer
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.transports.memory import memory_pair

if TYPE_CHECKING:
    import httpx2

    from trio_mcp.transports.http.authorizer import Authorizer

_HTTP: Final = ("http://", "https://")
_WEBSOCKET: Final = ("ws://", "wss://")


@runtime_checkable
class Servable(Protocol):
    """A server that can be served in memory, such as a `Server`."""

    async def serve(self, transport: FrameTransport) -> None:
        """Serve one connection until the peer closes it."""


@runtime_checkable
class Connector(Protocol):
    """A way to a server that the caller made, for example over a socket of its own."""

    def open_transport(self, settings: ClientSettings) -> AbstractAsyncContextManager[FrameTransport]:
        """Connect for as long as the block lasts."""


Target: TypeAlias = Servable | Connector | StdioServer | str | os.PathLike[str] | Sequence[str]
"""A server in this process, a URL, the path of a Python file, a command and its arguments as a list or as a
`StdioServer`, or a connector."""


HttpKind: TypeAlias = Literal["http", "sse"]
"""Streamable HTTP, or the HTTP+SSE of 2024-11-05."""


@attrs.frozen(kw_only=True)
class UrlOptions:
    """Options for targets with a URL; `http_client` is one of httpx2.

    `auth` is a bearer token as text, a way to get tokens such as `OAuth()`, or an `auth` of httpx2.
    `ssl_context` says which certificates are trusted, instead of the usual ones, and
    `allow_redirects_to` to which other origins a redirect may send a request. `transport` is how an http://
    or https:// URL is asked; None is Streamable HTTP, and HTTP+SSE if the server has only that.
    """

    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    auth: Any = attrs.field(default=None, repr=False)
    http_client: httpx2.AsyncClient | None = None
    ssl_context: ssl.SSLContext | None = None
    allow_redirects_to: Collection[str] | None = None
    transport: HttpKind | None = attrs.field(default=None)

    @transport.validator
    def _check_transport(self, attribute: object, value: object) -> None:
        if value not in (None, "http", "sse"):
            raise ValueError(f'transport must be "http" or "sse", not {value!r}')

    @property
    def extension(self) -> str | None:
        """The extension of MCP that `auth` uses, if it names one."""
        extension = getattr(self.auth, "extension", None)
        return extension if isinstance(extension, str) else None

    def refuse(self, target: object, *names: str) -> None:
        """Raise TypeError if one of the options `names` is set."""
        for name in names:
            if getattr(self, name) is not None:
                raise TypeError(f"{name}= makes no sense for the target {target!r}")


_NO_OPTIONS: Final = UrlOptions()


def open_target(
    target: Target, settings: ClientSettings, options: UrlOptions = _NO_OPTIONS
) -> AbstractAsyncContextManager[FrameTransport]:
    """Connect to `target`; raises TypeError, ValueError or FileNotFoundError if it is not a target."""
    if is_http(target):
        return _open_http(target, settings, options)
    if isinstance(target, str) and target.startswith(_WEBSOCKET):
        options.refuse(target, "http_client", "allow_redirects_to", "transport")
        from trio_mcp.transports.websocket.client import open_websocket_transport

        return open_websocket_transport(
            target,
            max_frame_bytes=settings.max_frame_bytes,
            headers=options.headers,
            ssl_context=options.ssl_context,
            authorizer=_find_authorizer(target, options),
        )
    options.refuse(
        target, *("headers", "auth", "http_client", "ssl_context", "allow_redirects_to", "transport")
    )
    if isinstance(target, Connector):
        return target.open_transport(settings)
    if isinstance(target, Servable):
        return open_served(target, *memory_pair())
    # Imported here: only clients of a subprocess need it.
    from trio_mcp.transports.process import open_process_transport

    server = target if isinstance(target, StdioServer) else StdioServer(*_split_command(target))
    return open_process_transport(
        server.command_line,
        env=server.environment,
        cwd=server.cwd,
        stderr=server.stderr,
        max_frame_bytes=settings.max_frame_bytes,
        grace=settings.shutdown_grace,
    )


def is_http(target: Target) -> TypeGuard[str]:
    """Whether `target` is a URL that is asked over HTTP."""
    return isinstance(target, str) and target.startswith(_HTTP)


def _open_http(
    url: str, settings: ClientSettings, options: UrlOptions
) -> AbstractAsyncContextManager[FrameTransport]:
    authorizer = _find_authorizer(url, options)
    shared: dict[str, Any] = {
        "max_frame_bytes": settings.max_frame_bytes,
        "headers": options.headers,
        "auth": None if authorizer is not None else options.auth,
        "authorizer": authorizer,
        "http_client": options.http_client,
        "ssl_context": options.ssl_context,
        "allow_redirects_to": options.allow_redirects_to,
    }
    # Imported here, as the others below: only clients of such a URL need it.
    if options.transport == "sse":
        from trio_mcp.transports.http.sse_transport import open_sse_transport

        return open_sse_transport(url, patience=settings.handshake_timeout, **shared)
    from trio_mcp.transports.http.transport import open_http_transport

    return open_http_transport(url, **shared)


def _find_authorizer(url: str, options: UrlOptions) -> Authorizer | None:
    """What gives requests to `url` their tokens; None if `auth` is not ours, but one of httpx2.

    Raises TypeError for that over WebSocket, and ValueError for a text that can be no token.
    """
    if options.auth is None:
        return None
    from trio_mcp.transports.http.authorizer import find_authorizer

    authorizer = find_authorizer(options.auth, url, options.ssl_context)
    if authorizer is None and url.startswith(_WEBSOCKET):
        raise TypeError(f"auth= of httpx2 makes no sense for the target {url!r}; OAuth() and a token do")
    return authorizer


def _split_command(target: str | os.PathLike[str] | Sequence[str]) -> tuple[str, list[str]]:
    program, *arguments = read_command(target)
    return program, arguments


def read_command(target: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    """Return the command that starts `target` as a stdio server."""
    if isinstance(target, (str, os.PathLike)):
        path = os.fspath(target)
        if not path.endswith(".py"):
            raise ValueError(f"{path!r} is no URL and no path of a .py file; pass a command as a list")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {path!r}")
        return [sys.executable, path]
    if isinstance(target, Sequence) and target and all(isinstance(part, str) for part in target):
        return list(target)
    raise TypeError(f"a target is a Server, a URL, the path of a .py file or a command list, not {target!r}")


@asynccontextmanager
async def open_served(
    server: Servable, ours: FrameTransport, theirs: FrameTransport
) -> AsyncIterator[FrameTransport]:
    """Serve `theirs` for as long as the block lasts, then close `ours` and wait for the server."""
    # Shielded while the block lasts: its calls meet their own cancellation, not the end of the server.
    serving = trio.CancelScope(shield=True)

    async def serve() -> None:
        with serving:
            await server.serve(theirs)

    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(serve)  # noqa: ASYNC113  # no need to wait: frames that are sent before it runs are queued
        try:
            yield ours
        finally:
            # Shielded, because closing cannot block, and it ends the server.
            with trio.CancelScope(shield=True):
                await ours.aclose()
            serving.shield = False
