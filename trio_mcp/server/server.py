"""`Server`: the public face of a server's definition, and how a program starts serving it.

Owns the decorators that programs register with, and `run`. What they register is kept in
a `ServerDefinition`; serving it is the business of `running.py`.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

import trio

from trio_mcp.background_log import log_in_background
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import PromptDefinitionError, ToolDefinitionError
from trio_mcp.outgoing.policy import ServerPolicy
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.running import open_server
from trio_mcp.server.signals import ENDING, find_free, run_until_signal
from trio_mcp.server.tool import ToolDefinition, define_tool
from trio_mcp.session.connection import NO_HEADERS
from trio_mcp.session.settings import ServerSettings
from trio_mcp.tasks.settings import TaskConfig, TaskSettings
from trio_mcp.tasks.store import TaskStore
from trio_mcp.version import __version__
from trio_mcp.wire.content import Annotations, Icon
from trio_mcp.wire.messages import Implementation, ToolAnnotations

if TYPE_CHECKING:  # a server without prompts starts without that module
    from trio_mcp.server.prompt import PromptDefinition, PromptFunction

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
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


class Server:
    """An MCP server's definition.

    `name` and `version` are shown to clients, `instructions` tell a model how to
    use the server; `version` defaults to that of trio_mcp. `settings` hold every
    cap and policy, `task_settings` those of background tasks; `task_store` keeps their
    records, by default in memory. `default_task` is the `task` of every tool that gives none of
    its own. What can be given here can be read and set later, as an attribute of the same name;
    name, version and title make up `info`.
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
        instructions: str | None = None,
        settings: ServerSettings | None = None,
        task_settings: TaskSettings | None = None,
        task_store: TaskStore | None = None,
        default_task: TaskConfig | bool = False,
    ) -> None:
        self.definition = ServerDefinition(
            Implementation(name=name, version=version or __version__, title=title),
            instructions,
            settings or ServerSettings(),
            task_settings or TaskSettings(),
            task_store,
            default_task,
        )

    def __repr__(self) -> str:
        return f"<Server {self.name!r} tools={len(self.definition.tools)}>"

    @property
    def name(self) -> str:
        """The server's name."""
        return self.info.name

    @property
    def tools(self) -> Mapping[str, ToolDefinition]:
        """The tools by name, in the order of their registration; read-only."""
        return MappingProxyType(self.definition.tools)

    @property
    def prompts(self) -> Mapping[str, PromptDefinition]:
        """The prompts by name, in the order of their registration; read-only."""
        return MappingProxyType(self.definition.prompts)

    def lifespan(self, function: L, /) -> L:
        """Register a context that lasts as long as the server runs: `@server.lifespan`.

        `function(server)` is an async context manager, or an async generator that yields
        once, like one under `asynccontextmanager`. It is entered before the first
        connection and left after the last background task; what it yields is
        `ctx.lifespan` in every handler. Raises TypeError if it is no function, and
        ToolDefinitionError if the server has a lifespan already.
        """
        if self.definition.enter_lifespan is not None:
            raise ToolDefinitionError("the server has a lifespan already")
        if not callable(function):
            raise TypeError(f"a lifespan must be a function, not {function!r}")
        is_generator = inspect.isasyncgenfunction(function)
        enter = asynccontextmanager(function) if is_generator else function
        self.definition.enter_lifespan = partial(enter, self)
        return function

    def open_lifespan(self) -> AbstractAsyncContextManager[Any]:
        """Enter the server's lifespan for as long as the block lasts; yields None if it has none."""
        return self.definition.open_lifespan()

    @overload
    def tool(self, function: F, /) -> F: ...

    @overload
    def tool(
        self,
        name_: str | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        task: TaskConfig | bool | None = None,
        progress: ServerPolicy | None = None,
    ) -> Callable[[F], F]: ...

    def tool(
        self,
        function: F | str | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        task: TaskConfig | bool | None = None,
        progress: ServerPolicy | None = None,
    ) -> F | Callable[[F], F]:
        """Register a function as a tool: `@server.tool` or `@server.tool("name", ...)`; see `add_tool`."""
        if isinstance(function, str):
            if name is not None:
                raise ToolDefinitionError(f"a tool has one name, not {function!r} and {name!r}")
            function, name = None, function

        def register(function: F) -> F:
            self.add_tool(
                function,
                name=name,
                title=title,
                description=description,
                annotations=annotations,
                task=task,
                progress=progress,
            )
            return function

        return register if function is None else register(function)

    def add_tool(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        task: TaskConfig | bool | None = None,
        progress: ServerPolicy | None = None,
    ) -> None:
        """Register `function` as a tool (MCP tools).

        Schemas come from its type hints, the description from its docstring; a
        parameter annotated with `Context` receives the context. A sync function
        runs in a worker thread. `task` is True or a TaskConfig for a tool that may run
        on in the background after its request was answered, False for one that may not;
        None stands for the server's `default_task`. `progress` is the policy for this tool's
        pending progress, in place of the server's. Raises ToolDefinitionError if the signature
        cannot be described in JSON or the name is taken.
        """
        tool = define_tool(
            function,
            name=name,
            title=title,
            description=description,
            annotations=annotations,
            task=self.default_task if task is None else task,
            progress=progress,
            dereference_schemas=self.settings.dereference_schemas,
        )
        self.definition.add_tool(tool)

    @overload
    def prompt(self, function: Callable[P, R], /) -> PromptFunction[P, R]: ...

    @overload
    def prompt(
        self,
        name_: str | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        progress: ServerPolicy | None = None,
    ) -> Callable[[Callable[P, R]], PromptFunction[P, R]]: ...

    def prompt(
        self,
        function: Callable[P, R] | str | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        progress: ServerPolicy | None = None,
    ) -> PromptFunction[P, R] | Callable[[Callable[P, R]], PromptFunction[P, R]]:
        """Register a prompt: `@server.prompt` or `@server.prompt("name", ...)`; see `add_prompt`."""
        if isinstance(function, str):
            if name is not None:
                raise PromptDefinitionError(f"a prompt has one name, not {function!r} and {name!r}")
            function, name = None, function

        def register(function: Callable[P, R]) -> PromptFunction[P, R]:
            return self.add_prompt(
                function,
                name=name,
                title=title,
                description=description,
                icons=icons,
                meta=meta,
                progress=progress,
            )

        return register if function is None else register(function)

    def add_prompt(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        progress: ServerPolicy | None = None,
    ) -> PromptFunction[P, R]:
        """Register `function` as a prompt (MCP prompts).

        Its arguments come from its type hints, their descriptions from its docstring; a parameter
        annotated with `Context` receives the context. Clients send texts: one that a parameter's type takes
        as it is stays a text, every other is read as JSON. A sync function runs in a worker thread. The
        function returns text, content, a `Message`, or a list of them. What is returned here can be
        called as the function, and its `complete` registers functions that complete arguments. `progress`
        is the policy for this prompt and its completions, in place of the server's. Raises
        PromptDefinitionError if the signature cannot be described or the name is taken.
        """
        # Imported here: a server without prompts starts sooner without that module.
        from trio_mcp.server.prompt import PromptFunction, define_prompt

        prompt = define_prompt(
            function,
            name=name,
            title=title,
            description=description,
            icons=icons,
            meta=meta,
            dereference_schemas=self.settings.dereference_schemas,
            progress=progress,
        )
        self.definition.add_prompt(prompt)
        return PromptFunction(function, prompt)

    def resource(
        self,
        uri: str,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        size: int | None = None,
        annotations: Annotations | None = None,
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        progress: ServerPolicy | None = None,
    ) -> Callable[[F], F]:
        """Register a function as a resource: `@server.resource("config://app")`; see `add_resource`."""
        if callable(uri):
            raise ToolDefinitionError('a resource needs its URI: @server.resource("config://app")')

        def register(function: F) -> F:
            self.add_resource(
                uri,
                function,
                name=name,
                title=title,
                description=description,
                mime_type=mime_type,
                size=size,
                annotations=annotations,
                icons=icons,
                meta=meta,
                progress=progress,
            )
            return function

        return register

    def add_resource(
        self,
        uri: str,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        size: int | None = None,
        annotations: Annotations | None = None,
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        progress: ServerPolicy | None = None,
    ) -> None:
        """Register what `function` returns as a resource (MCP server features, "Resources").

        `uri` is its URI, or a template of URIs like "users://{id}/profile" (RFC 6570), whose variables are
        the function's parameters; a URI is decoded once, and its parts are converted to the type hints. Of
        templates that match the same URI, the first counts. Text and bytes are read as they are, everything
        else as JSON. A parameter annotated with `Context` receives the context, and a sync function runs in
        a worker thread. `size` is in bytes. `progress` is the policy for this resource, in place of the
        server's. Raises ToolDefinitionError for a template that is malformed or
        ambiguous, for a variable that the function does not take, for a required parameter that the URI does
        not give, and if the URI is taken.
        """
        # Imported here: a server of tools starts sooner without.
        from trio_mcp.server.resource import define_resource

        self.definition.add_resource(
            define_resource(
                uri,
                function,
                name=name,
                title=title,
                description=description,
                mime_type=mime_type,
                size=size,
                annotations=annotations,
                icons=icons,
                meta=meta,
                progress=progress,
            )
        )

    def add_directory(
        self,
        uri: str,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: Annotations | None = None,
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        max_bytes: int = 8 * 1024 * 1024,
        hidden: bool = False,
    ) -> None:
        """Register the files below a directory as the template "`uri`/{path*}".

        They are read in a worker thread. The extension of a file gives its MIME type; what is text, in UTF-8,
        is read as text, everything else as bytes. No client can leave the directory: "..", absolute paths,
        links that lead out of it, names of devices and everything that is no regular file count as unknown.
        So do, unless `hidden` is True, files and directories whose names begin with a dot.
        A file of more than `max_bytes` bytes, 8 MiB by default, cannot be read. `name` is by default that of
        the directory. Raises ToolDefinitionError if there is no directory at `path`, and as `add_resource`
        does.
        """
        # Imported here: a server of tools starts sooner without.
        from trio_mcp.server.directory import directory_function, make_directory

        directory = make_directory(path, max_bytes, hidden=hidden)
        if not isinstance(uri, str) or "{" in uri:
            raise ToolDefinitionError(f"the URI of a directory must be text without variables, not {uri!r}")
        base = uri.rstrip("/") if not uri.endswith("://") else uri[:-1]
        self.add_resource(
            f"{base}/{{path*}}",
            directory_function(directory, base),
            name=name or directory.root.name or "files",
            title=title,
            description=description or "The files of a directory.",
            annotations=annotations,
            icons=icons,
            meta=meta,
        )

    async def serve(self, transport: FrameTransport, *, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Serve one connection until the peer closes it, then close it; checkpoints.

        `headers` are those of its handshake, by lower-case names, for `Context.headers`.
        When it is cancelled, it cancels the handlers, writes what is queued for at most
        `drain_timeout` seconds and closes the transport. Background tasks that are still
        running when the peer closes get `shutdown_grace` seconds.
        """
        async with open_server(self) as running:
            await running.serve(transport, headers=headers)

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
