"""A server as an ASGI application.

Owns which server the application serves and for how long: one that it runs itself within the
host's lifespan, or one that is running already. Knows nothing of HTTP; the endpoint does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from contextlib import AsyncExitStack

import trio

from trio_mcp.server.definition import HasDefinition
from trio_mcp.server.running import RunningServer, open_server
from trio_mcp.transports.asgi.access_log import is_logged, serve_logged
from trio_mcp.transports.asgi.call import Serving
from trio_mcp.transports.asgi.endpoint import Endpoint
from trio_mcp.transports.asgi.guard import Authenticate, Believing, Guard
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.types import Receive, Scope, Send
from trio_mcp.wire.origin import Doorkeeper

logger = logging.getLogger("trio_mcp.server")


class AsgiApp:
    """An ASGI 3 application for one MCP endpoint; made by `asgi_app`."""

    def __init__(self, target: HasDefinition | RunningServer, endpoint: Endpoint) -> None:
        self._target = target
        self._endpoint = endpoint
        if isinstance(target, RunningServer):
            self._serve(target)

    @property
    def refusals(self) -> Counter[str]:
        """How often a request was refused, by the kind of reason; the server's own count."""
        return self._endpoint.refusals

    def shut_down(self) -> None:
        """Refuse new requests, and end open event streams; does not wait.

        It is for hosts that wait for open responses before they end the lifespan: an event
        stream would hold them up.
        """
        self._endpoint.shut_down()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope; checkpoints.

        Raises RuntimeError for an unknown type of scope, and in a host that does not run on Trio.
        """
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError("this needs an ASGI host that runs on Trio, such as hypercorn -k trio")
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] not in ("http", "websocket"):
            raise RuntimeError(f"there is no ASGI scope of type {scope['type']!r} here")
        elif self._endpoint.settings.access_log and is_logged():
            await serve_logged(self._serve_request, scope, receive, send)
        else:
            await self._serve_request(scope, receive, send)

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_for_us(scope):
            await self._serve_elsewhere(scope, receive, send)
        elif scope["type"] == "http":
            await self._endpoint.serve_http(scope, receive, send)
        else:
            await self._endpoint.serve_websocket(scope, receive, send)

    async def _serve_elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        sse_path = self._endpoint.find_sse(scope) if scope["type"] == "http" else None
        if sse_path is not None:
            await self._endpoint.serve_http(scope, receive, send, sse_path)
            return
        described = self._endpoint.find_metadata(scope) if scope["type"] == "http" else None
        if described is None:
            await self._endpoint.serve_nothing(scope, send)
        else:
            await self._endpoint.serve_metadata(scope, send, described)

    def _is_for_us(self, scope: Scope) -> bool:
        """Whether the path is the endpoint's: in full, below a mount, or the mount itself."""
        root, path = scope.get("root_path", ""), scope["path"]
        rest = path.removeprefix(root) if root else path
        ours = self._endpoint.path
        if bool(root) and rest in ("", "/"):
            return True
        return ours in (path.rstrip("/") or "/", rest.rstrip("/") or "/")

    def _serve(self, running: RunningServer) -> None:
        if not running.is_closing:
            self._endpoint.start(Serving(running.application, running.nursery, running.refusals))
            running.on_closing(self._endpoint.shut_down)

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        """Answer the host's lifespan events; a server that is not running yet runs between them (ASGI)."""
        async with AsyncExitStack() as stack:
            await receive()
            if not isinstance(self._target, RunningServer):
                try:
                    self._serve(await stack.enter_async_context(open_server(self._target)))
                except Exception as error:  # foreign code, of which the host is told: the lifespan, the store
                    logger.exception("the server could not start")
                    await send({"type": "lifespan.startup.failed", "message": repr(error)})
                    return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self._endpoint.shut_down()
        await send({"type": "lifespan.shutdown.complete"})


def asgi_app(
    target: HasDefinition | RunningServer,
    *,
    path: str = "/mcp",
    settings: HttpSettings | None = None,
    allowed_hosts: Collection[str] | None = None,
    allowed_origins: Collection[str] | None = None,
    cors_origins: Collection[str] = (),
    authenticate: Authenticate | None = None,
    auth: Guard | None = None,
    sse: bool = False,
) -> AsgiApp:
    """Make an ASGI application of a server: Streamable HTTP of every revision, and WebSocket.

    The host must run on Trio, such as hypercorn's trio worker. A `Server` runs as long as the
    host's lifespan; a `RunningServer` is served as it is, for hosts that run no lifespan of a
    mounted application. While no server runs, requests get 503.

    `path` is the endpoint; if the application is mounted below a path, the mount itself is one
    too. `allowed_hosts` and `allowed_origins` are the values of Host ("example.com",
    "example.com:8000", "localhost:*"; "*" for all) and Origin that are accepted. By default, a
    connection to a loopback address may name loopback hosts only, against DNS rebinding, and one
    to another address any host (MCP streamable HTTP, "Security"). Refusals are counted in
    `RunningServer.refusals`. Pages of `cors_origins` ("*" for all) may call it from a browser.
    `auth` is a `Bearer`: each request needs an access token then. `authenticate(scope)` is for programs that
    know their clients by something else, such as what a middleware has put into the scope: it returns a
    `Principal`, a name or None, and may be async.
    With `sse`, clients of the HTTP+SSE transport of 2024-11-05 are served as well, at the paths "sse" and
    "messages" beside the endpoint: "/sse" and "/messages" for "/mcp".

    Raises ValueError for a path that does not begin with "/" or that `sse` takes, for a malformed list, and
    if both `auth` and `authenticate` are given.
    """
    if auth is not None and authenticate is not None:
        raise ValueError("auth and authenticate both say who a client is: give one of them")
    if not path.startswith("/"):
        raise ValueError(f'path must begin with "/", not {path!r}')
    Doorkeeper.for_bind("", allowed_hosts, allowed_origins)  # raises now, not with the first request
    endpoint = Endpoint(
        path.rstrip("/") or "/",
        settings or HttpSettings(),
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        cors_origins=frozenset(cors_origins),
        guard=Believing(authenticate) if authenticate is not None else auth,
        sse=sse,
    )
    return AsgiApp(target, endpoint)
