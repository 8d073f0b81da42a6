"""How programs register what a server offers: tools, prompts and resources, by decorator or by call.

Owns the verbs of registration, with their overloads. What they register is kept in the
`ServerDefinition`; `Server` adds how it is served.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, overload

from trio_mcp.errors import PromptDefinitionError, ResourceDefinitionError, ToolDefinitionError
from trio_mcp.outgoing.policy import ProgressPolicy
from trio_mcp.server.changes import ListKind
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.tool import ToolDefinition, define_tool
from trio_mcp.session.settings import CacheHint
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.wire.content import Annotations, Icon
from trio_mcp.wire.messages import ToolAnnotations

if TYPE_CHECKING:  # a server without prompts starts without that module
    from trio_mcp.server.prompt import PromptDefinition, PromptFunction

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
Names: TypeAlias = str | Iterable[str]


class Registration:
    """The part of a `Server` with which programs register what it offers."""

    def __init__(self, definition: ServerDefinition) -> None:
        self.definition = definition

    @property
    def tools(self) -> Mapping[str, ToolDefinition]:
        """The tools that are not disabled, by name, in the order of their registration; read-only."""
        return MappingProxyType(self.definition.tools)

    @property
    def prompts(self) -> Mapping[str, PromptDefinition]:
        """The prompts that are not disabled, by name, in the order of their registration; read-only."""
        return MappingProxyType(self.definition.prompts)

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
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        task: TaskConfig | bool | None = None,
        progress: ProgressPolicy | None = None,
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
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        task: TaskConfig | bool | None = None,
        progress: ProgressPolicy | None = None,
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
                icons=icons,
                meta=meta,
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
        icons: Sequence[Icon] | None = None,
        meta: Mapping[str, Any] | None = None,
        task: TaskConfig | bool | None = None,
        progress: ProgressPolicy | None = None,
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
            icons=icons,
            meta=meta,
            task=self.definition.default_task if task is None else task,
            progress=progress,
            dereference_schemas=self.definition.settings.dereference_schemas,
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
    ) -> PromptFunction[P, R] | Callable[[Callable[P, R]], PromptFunction[P, R]]:
        """Register a prompt: `@server.prompt` or `@server.prompt("name", ...)`; see `add_prompt`."""
        if isinstance(function, str):
            if name is not None:
                raise PromptDefinitionError(f"a prompt has one name, not {function!r} and {name!r}")
            function, name = None, function

        def register(function: Callable[P, R]) -> PromptFunction[P, R]:
            return self.add_prompt(
                function, name=name, title=title, description=description, icons=icons, meta=meta
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
    ) -> PromptFunction[P, R]:
        """Register `function` as a prompt (MCP prompts).

        Its arguments come from its type hints, their descriptions from its docstring; a parameter
        annotated with `Context` receives the context. Clients send texts: one that a parameter's type takes
        as it is stays a text, every other is read as JSON. A sync function runs in a worker thread. The
        function returns text, content, a `Message`, or a list of them. What is returned here can be
        called as the function, and its `complete` registers functions that complete arguments. Raises
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
            dereference_schemas=self.definition.settings.dereference_schemas,
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
        cache: CacheHint | None = None,
    ) -> Callable[[F], F]:
        """Register a function as a resource: `@server.resource("config://app")`; see `add_resource`."""
        if callable(uri):
            raise ResourceDefinitionError('a resource needs its URI: @server.resource("config://app")')

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
                cache=cache,
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
        cache: CacheHint | None = None,
    ) -> None:
        """Register what `function` returns as a resource (MCP server features, "Resources").

        `uri` is its URI, or a template of URIs like "users://{id}/profile" (RFC 6570), whose variables are
        the function's parameters; a URI is decoded once, and its parts are converted to the type hints. Of
        templates that match the same URI, the first counts. Text and bytes are read as they are, everything
        else as JSON. A parameter annotated with `Context` receives the context, and a sync function runs in
        a worker thread. `size` is in bytes. Raises ResourceDefinitionError for a template that is malformed
        or ambiguous, for a variable that the function does not take, for a required parameter that the URI
        does not give, and if the URI is taken.
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
                cache=cache,
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
        cache: CacheHint | None = None,
        max_bytes: int = 8 * 1024 * 1024,
        hidden: bool = False,
    ) -> None:
        """Register the files below a directory as the template "`uri`/{path*}".

        They are read in a worker thread. The extension of a file gives its MIME type; what is text, in UTF-8,
        is read as text, everything else as bytes. No client can leave the directory: "..", absolute paths,
        links that lead out of it, names of devices and everything that is no regular file count as unknown.
        So do, unless `hidden` is True, files and directories whose names begin with a dot.
        A file of more than `max_bytes` bytes, 8 MiB by default, cannot be read. `name` is by default that of
        the directory. Raises ResourceDefinitionError if there is no directory at `path`, and as
        `add_resource` does.
        """
        # Imported here: a server of tools starts sooner without.
        from trio_mcp.server.directory import directory_function, make_directory

        directory = make_directory(path, max_bytes, hidden=hidden)
        if not isinstance(uri, str) or "{" in uri:
            raise ResourceDefinitionError(
                f"the URI of a directory must be text without variables, not {uri!r}"
            )
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
            cache=cache,
        )

    def remove_tool(self, name: str) -> None:
        """Take a tool away; a call that is running goes on.

        As every change, it may be made at any time and from any thread. Clients that want to know are told
        that the list has changed, and to others the tool is unknown from now on. Raises ToolDefinitionError
        if there is no such tool.
        """
        self.definition.remove("tools", name)

    def remove_prompt(self, name: str) -> None:
        """Take a prompt away, as `remove_tool` does; raises PromptDefinitionError if there is none."""
        self.definition.remove("prompts", name)

    def remove_resource(self, uri: str) -> None:
        """Take a resource or a template away, as `remove_tool` does.

        Raises ResourceDefinitionError if `uri` is that of none.
        """
        self.definition.remove("resources", uri)

    def disable(self, *, tools: Names = (), prompts: Names = (), resources: Names = ()) -> None:
        """Hide what is registered until it is enabled: it is not listed, and is answered as unknown.

        Each is a name, or several; resources and templates are named by their URIs. What is disabled
        already stays so. Calls that are running go on. Clients are told as by `remove_tool`. Raises
        DefinitionError, and changes nothing, if something is not registered.
        """
        self._switch(tools, prompts, resources, is_enabled=False)

    def enable(self, *, tools: Names = (), prompts: Names = (), resources: Names = ()) -> None:
        """Undo `disable`: what was hidden is listed again, in its old place. Raises as `disable` does."""
        self._switch(tools, prompts, resources, is_enabled=True)

    def _switch(self, tools: Names, prompts: Names, resources: Names, *, is_enabled: bool) -> None:
        keys: dict[ListKind, list[str]] = {
            "tools": _as_list(tools),
            "prompts": _as_list(prompts),
            "resources": _as_list(resources),
        }
        self.definition.switch(keys, is_enabled=is_enabled)


def _as_list(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
