"""What a server is put together of beside its own functions: middleware, instruments, servers, documents.

Owns these verbs. `registration.py` has those that register a function, and each feature has a module of its
own, which is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from trio_mcp.server.definition import LayerKind
from trio_mcp.server.registration import Registration

if TYPE_CHECKING:  # most servers use none of them
    from trio_mcp.server.mount_names import Rename
    from trio_mcp.server.mounting import Mount
    from trio_mcp.server.openapi.adding import OpenApiOptions
    from trio_mcp.server.prompt_middleware import PromptMiddleware
    from trio_mcp.server.request_middleware import RequestMiddleware
    from trio_mcp.server.resource_middleware import ResourceMiddleware
    from trio_mcp.server.tool_middleware import ToolMiddleware

    M = TypeVar("M", bound=RequestMiddleware)
    T = TypeVar("T", bound=ToolMiddleware)
    S = TypeVar("S", bound=ResourceMiddleware)
    P = TypeVar("P", bound=PromptMiddleware)

B = TypeVar("B")


class Composition(Registration):
    """The part of a `Server` with which programs put it together."""

    def middleware(self, function: M, /) -> M:
        """Put a function around every request: `@server.middleware`; see `add_middleware`."""
        return self.add_middleware(function)

    def add_middleware(self, middleware: M) -> M:
        """Put `middleware` around every request of a client, lists, pings and the handshake included.

        `async def middleware(ctx, call_next)` gets a RequestContext, and returns the result that
        `await call_next(ctx)` returns, or another one of the same kind; a failure is an exception. What was
        added first is the outermost. With such middleware each request runs in a task of its own; those that
        change a session are done before what the same client sends later.

        Returns `middleware`, so that it may be used as a decorator. Raises TypeError for what is no async
        function of two arguments, and LocalProtocolError if the server runs already.
        """
        self._add_layer("requests", middleware)
        return middleware

    def add_tool_middleware(self, middleware: T) -> T:
        """Put `middleware` around each run of a tool, wherever it runs; it may be added at any time.

        `async def middleware(ctx, call_next)` gets a ToolContext, which is the Context of the run with the
        tool and its arguments, and returns a CallToolResult, as `await call_next(ctx)` does. What the tool
        raises passes through it. It runs around direct calls, inside background tasks, for each of their
        attempts, in workers, and around tools that other tools call. Returns `middleware`, and raises
        TypeError for what is no async function of two arguments.
        """
        self._add_layer("tools", middleware)
        return middleware

    def add_resource_middleware(self, middleware: S) -> S:
        """Put `middleware` around each read of a resource; it may be added at any time.

        It gets a ResourceContext and returns a list of ResourceContents, otherwise as `add_tool_middleware`.
        """
        self._add_layer("resources", middleware)
        return middleware

    def add_prompt_middleware(self, middleware: P) -> P:
        """Put `middleware` around each request for a prompt; it may be added at any time.

        It gets a PromptContext and returns a GetPromptResult, otherwise as `add_tool_middleware`.
        """
        self._add_layer("prompts", middleware)
        return middleware

    def _add_layer(self, kind: LayerKind, middleware: Any) -> None:
        # Imported here: a server without middleware starts sooner.
        from trio_mcp.server.middleware import add_layer

        add_layer(self.definition, kind, middleware)

    def mount(self, server: Composition, prefix: str | None = None, *, names: Rename | None = None) -> Mount:
        """Offer all that `server` offers here as well, now and later; it may be mounted at any time.

        A tool or prompt "x" becomes "prefix_x", and a resource "scheme://x" becomes "scheme://prefix/x".
        Names and URIs in `names`, a mapping or a function that returns None for others, get what it gives
        instead.
        What `server` adds, removes, disables or notifies later appears here at once. Its handlers run as if
        it were served alone: with its own server, lifespan, thread limit and settings in their context. Its
        lifespan is entered with that of this server, or before its first call if that runs already
        (docs/composition.md).

        Raises DefinitionError if names are taken, for a bad prefix, and for a server that this one is mounted
        in; TypeError for what is no Server. A name that is taken later stays with who has it; the log warns.
        """
        # Imported here: most servers are mounted nowhere.
        from trio_mcp.server.mounting import mount

        if not isinstance(server, Composition):
            raise TypeError(f"a server is mounted, not {server!r}")
        return mount(self.definition, server.definition, prefix, names)

    def unmount(self, mount: Mount) -> None:
        """Take away what `mount` has brought; calls that run go on. Raises DefinitionError if it has not.

        The lifespan of the mounted server ends with the server that runs.
        """
        from trio_mcp.server.mounting import unmount

        unmount(self.definition, mount)

    def add_openapi(
        self, spec: Mapping[str, Any] | str | bytes, client: Any, **options: Unpack[OpenApiOptions]
    ) -> None:
        """Register the operations of an OpenAPI document as tools; each call sends one HTTP request.

        `spec` is a document of OpenAPI 3.0, 3.1 or 3.2: a dict, or the text of JSON or YAML. `client` is an
        `httpx2.AsyncClient`, which stays open and is the program's: its base URL (without one, the server
        that the document names), headers, authentication and timeouts are used. A call reports the bytes
        that it sends and receives.

        `options`: `include` and `exclude` choose operations by operationId or "METHOD /path", in which `*`
        stands for any text, or by a function of an `Operation`; `names` maps operationIds to names of tools,
        or is a function that returns a name or None; `as_resources` chooses the GET operations that become
        resources instead; an answer has at most `max_bytes` bytes (8 MiB); `slashes="encode"` lets values in
        a path have slashes; without `validate` arguments are not checked, and without `validate_output` no
        output schemas are listed. `task`, `progress` and `scopes` are those of each tool.

        Registers all of them or, if it raises, none. Raises DefinitionError for a document that cannot be
        read, for an operation that cannot be described, which it names, and for a name that is taken.
        """
        from trio_mcp.server.openapi.adding import add_operations
        from trio_mcp.server.openapi.document import read_document

        add_operations(self.definition, read_document(spec), client, options)

    def add_instrument(self, instrument: B, /) -> B:
        """Have `instrument` told what this server does, whenever it is started from now on; returns it.

        It is an object with any of the hooks of `trio_mcp.instruments.Instrument`, of that class or of any
        other. Several are told in the order in which they were added, and of the end of calls and sessions in
        the reverse order. A server without instruments pays nothing for them. Raises TypeError for an object
        without a hook, or with one that is async.
        """
        # Imported here: a server that nobody observes starts sooner without that module.
        from trio_mcp.instruments import check_instrument
        from trio_mcp.server.instrumentation import find_makers

        check_instrument(instrument)
        self.definition.instruments.append(instrument)
        self.definition.find_makers = find_makers
        return instrument

    def override_dependency(
        self, dependency: Callable[..., Any], replacement: Callable[..., Any], /
    ) -> AbstractContextManager[None]:
        """Let `replacement` provide what `dependency` does, for as long as the block lasts: for tests.

        It counts for every `Depends(dependency)` of this server, for runs of handlers that begin within the
        block. `replacement` is as any dependency, and may depend on `dependency` itself; if it is sync,
        it runs in Trio's thread. Of several for the same, the newest counts. Raises TypeError for what is no
        function, and DefinitionError for a function that cannot be a dependency.
        """
        from trio_mcp.server.overriding import override

        return override(self.definition, dependency, replacement)
