"""`Server`: the public face of a server's definition, and how a program starts serving it.

Owns what a server is beside what it offers, and `run`. The verbs of registration are in `registration.py`,
those of composition in `composition.py`; serving is the business of `running.py`.
"""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, Unpack, overload

import trio

from trio_mcp.background_log import log_in_background
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.server.composition import Composition
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.running import open_server
from trio_mcp.server.signals import ENDING, find_free, run_until_signal
from trio_mcp.session.connection import NO_HEADERS
from trio_mcp.session.settings import ServerSettings
from trio_mcp.tasks.settings import TaskConfig, TaskSettings
from trio_mcp.tasks.store import TaskStore
from trio_mcp.version import __version__
from trio_mcp.wire.content import Icon
from trio_mcp.wire.messages import Implementation

if TYPE_CHECKING:  # hardly any server is made of a document
    from trio_mcp.server.http_options import HttpOptions
    from trio_mcp.server.openapi.adding import OpenApiOptions

L = TypeVar("L", bound=Callable[..., Any])
V = TypeVar("V")


class _Defined(Generic[V]):
    """An attribute of a server that its definition keeps: read and set there."""

    def __set_name__(self, owner: type[Server], name: str) -> None:
        self._name = name

    def __get__(self, server: Server, owner: type[Server]) -> V:
        value: V = getattr(server.definition, self._name)
        return value

    def __set__(self, server: Server, value: V) -> None:
        setattr(server.definition, self._name, value)


class Server(Composition):
    """An MCP server's definition.

    `name`, `version`, `title`, `description`, `icons` and `website_url` are shown to clients, and make up
    `info`; `version` defaults to that of trio_mcp. `instructions` tell a model how to use the server.
    `settings` hold every cap and policy, `task_settings` those of background tasks; `task_store` keeps their
    records, by default in memory. `default_task` is the `task` of every tool that gives none of its own.
    What can be given here can be read and set later, as an attribute of the same name or in `info`, except
    for `lifespan`, which is a first one for the method of that name.
    """

    info = _Defined[Implementation]()
    instructions = _Defined[str | None]()
    settings = _Defined[ServerSettings]()
    task_settings = _Defined[TaskSettings]()
    task_store = _Defined[TaskStore | None]()
    default_task = _Defined[TaskConfig | bool]()

    def __init__(
        self,
        name: str,
        *,
        version: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Icon] | None = None,
        website_url: str | None = None,
        instructions: str | None = None,
        settings: ServerSettings | None = None,
        task_settings: TaskSettings | None = None,
        task_store: TaskStore | None = None,
        default_task: TaskConfig | bool = False,
        lifespan: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(
            ServerDefinition(
                Implementation(
                    name=name,
                    version=version or __version__,
                    title=title,
                    description=description,
                    website_url=website_url,
                    icons=None if icons is None else list(icons),
                ),
                instructions,
                settings or ServerSettings(),
                task_settings or TaskSettings(),
                task_store,
                default_task,
            )
        )
        self.definition.server = self
        if lifespan is not None:
            self.lifespan(lifespan)

    def __repr__(self) -> str:
        return f"<Server {self.name!r} tools={len(self.definition.tools)}>"

    @property
    def name(self) -> str:
        """The server's name."""
        return self.info.name

    def lifespan(self, function: L, /) -> L:
        """Register a context that lasts as long as the server runs: `@server.lifespan`.

        `function(server)` is an async context manager, or an async generator that yields
        once, like one under `asynccontextmanager`. It is entered before the first
        connection and left after the last background task; what it yields is
        `ctx.lifespan` in every handler. Raises TypeError if it is no function.

        There may be several. They are entered in the order of their registration and left in reverse.
        One of them may yield any value if the others yield None; if several yield a value, those must be
        mappings without common keys, and `ctx.lifespan` is a dict of them all. If they are not, the server
        does not start, but raises DefinitionError.
        """
        if not callable(function):
            raise TypeError(f"a lifespan must be a function, not {function!r}")
        is_generator = inspect.isasyncgenfunction(function)
        enter = asynccontextmanager(function) if is_generator else function
        self.definition.add_lifespan(partial(enter, self))
        return function

    def open_lifespan(self) -> AbstractAsyncContextManager[Any]:
        """Enter the server's lifespan for as long as the block lasts; yields None if it has none."""
        return self.definition.open_lifespan()

    @classmethod
    def from_openapi(
        cls,
        spec: Mapping[str, Any] | str | bytes,
        client: Any,
        *,
        name: str | None = None,
        settings: ServerSettings | None = None,
        **options: Unpack[OpenApiOptions],
    ) -> Self:
        """A server whose tools are the operations of an OpenAPI document; see `add_openapi`.

        Its name, unless `name` is given, and its version are those of the document.
        """
        # Imported here: hardly any server is made of a document.
        from trio_mcp.server.openapi.adding import add_operations
        from trio_mcp.server.openapi.document import read_document

        document = read_document(spec)
        server = cls(name or document.title, version=document.api_version, settings=settings)
        add_operations(server.definition, document, client, options)
        return server

    def notify_resource_updated(self, uri: str) -> None:
        """Tell the clients that subscribed to `uri` that what it holds has changed (MCP "Subscriptions").

        It does not wait, and may be called from any thread, also while the server does not run. A client that
        is told slowly is told once of several changes. Raises TypeError if `uri` is not text.
        """
        if not isinstance(uri, str):
            raise TypeError(f"the URI of a resource must be text, not {uri!r}")
        self.definition.changes.tell_updated(uri)

    async def serve(self, transport: FrameTransport, *, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Serve one connection until the peer closes it, then close it; checkpoints.

        `headers` are those of its handshake, by lower-case names, for `Context.headers`.
        When it is cancelled, it cancels the handlers, writes what is queued for at most
        `drain_timeout` seconds and closes the transport. Background tasks that are still
        running when the peer closes get `shutdown_grace` seconds.
        """
        async with open_server(self) as running:
            await running.serve(transport, headers=headers)

    @overload
    def run(self, transport: Literal["stdio"] = "stdio") -> None: ...

    @overload
    def run(self, transport: Literal["stdio", "http"], **options: Unpack[HttpOptions]) -> None: ...

    def run(self, transport: Literal["stdio", "http"] = "stdio", **options: Any) -> None:
        """Serve over stdin and stdout until the client closes them, or over HTTP; blocks.

        `options` are those of `serve_http`. Starts a Trio run of its own; inside one, use
        `await serve_stdio(server)` or `await serve_http(server)`. Raises ValueError for another transport.

        Ctrl-C (SIGINT), SIGTERM and SIGHUP end it: calls are cancelled, what is queued is written for at
        most `drain_timeout` seconds, and the lifespan is left. Then the exit status is 130 after Ctrl-C and
        0 after the others. A second signal ends the process at once. A signal that has a handler
        already is left alone, and so are all in a thread that is not the main one.

        The logging handlers that are there when it begins are called by a thread, so that a client that
        does not read stderr cannot hold up the server. Over HTTP, each request is a line on stderr, unless
        `HttpSettings.access_log` is False or the program has configured its logging otherwise.
        """
        if transport not in ("stdio", "http"):
            raise ValueError(f'transport must be "stdio" or "http", not {transport!r}')
        serve: Callable[[], Awaitable[None]] = partial(serve_stdio, self, **options)
        access_log: AbstractContextManager[None] = nullcontext()
        if transport == "http":
            # Imported here: a server on stdio starts sooner without what serves HTTP.
            from trio_mcp.transports.asgi.access_log import access_log_shown

            serve, access_log = partial(_serve_http, self, **options), access_log_shown()
        interrupted = False
        try:
            with access_log, log_in_background():
                received = trio.run(run_until_signal, serve, find_free((signal.SIGINT, *ENDING)))
            interrupted = received == signal.SIGINT
        except* KeyboardInterrupt:  # before the server has begun, or after its end
            interrupted = True
        if interrupted:
            raise SystemExit(130)


async def _serve_http(server: Server, **options: Any) -> None:
    from trio_mcp.server.http import serve_http

    async with open_unwrapping_nursery() as nursery:
        for url in await nursery.start(partial(serve_http, server, **options)):
            print(f"{server.name} serves MCP at {url}", file=sys.stderr)


async def serve_stdio(server: Server) -> None:
    """Serve over this process's stdin and stdout until the client closes them (MCP stdio).

    Meanwhile fd 1 is stderr and fd 0 is empty, so that neither a stray print nor a child
    process can disturb the messages. Checkpoints. Raises RuntimeError
    on platforms without POSIX streams.
    """
    # Imported here: only servers on stdio need it, and Windows does not have it.
    from trio_mcp.transports.stdio import open_stdio_transport

    async with open_stdio_transport(
        max_frame_bytes=server.settings.max_frame_bytes, max_values=server.settings.max_values
    ) as transport:
        await server.serve(transport)
