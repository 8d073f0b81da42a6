"""How programs register what a server offers: tools, prompts and resources, by decorator or by call.

Owns the verbs of registration, with their overloads; `registered.py` has those that take away and hide.
What they register is kept in the `ServerDefinition`; `Server` adds how it is served.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from trio_mcp.errors import PromptDefinitionError, ResourceDefinitionError, ToolDefinitionError
from trio_mcp.outgoing.policy import ServerPolicy
from trio_mcp.server.functions import CompletableFunction, bare_function
from trio_mcp.server.registered import Names, Registered
from trio_mcp.server.tool import define_tool
from trio_mcp.session.settings import CacheHint
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.wire.content import Annotations, Icon
from trio_mcp.wire.messages import ToolAnnotations

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Registration(Registered):
    """The part of a `Server` with which programs register what it offers."""

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
        annotations: ToolAnnotations | Mapping[str, Any] | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        task: TaskConfig | bool | None = None,
        progress: ServerPolicy | None = None,
        input_schema: Mapping[str, Any] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        validate: bool = True,
        scopes: Collection[str] = (),
        tags: Names = (),
    ) -> Callable[[F], F]: ...

    def tool(
        self,
        function: F | str | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | Mapping[str, Any] | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        task: TaskConfig | bool | None = None,
        progress: ServerPolicy | None = None,
        input_schema: Mapping[str, Any] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        validate: bool = True,
        scopes: Collection[str] = (),
        tags: Names = (),
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
                input_schema=input_schema,
                output_schema=output_schema,
                validate=validate,
                scopes=scopes,
                tags=tags,
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
        annotations: ToolAnnotations | Mapping[str, Any] | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        task: TaskConfig | bool | None = None,
        progress: ServerPolicy | None = None,
        input_schema: Mapping[str, Any] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        validate: bool = True,
        scopes: Collection[str] = (),
        tags: Names = (),
    ) -> None:
        """Register `function` as a tool (MCP tools).

        Schemas come from its type hints, the description from its docstring; a
        parameter annotated with `Context` receives the context. A sync function
        runs in a worker thread. `task` is True or a TaskConfig for a tool that may run
        on in the background after its request was answered, False for one that may not;
        None stands for the server's `default_task`. `progress` is the policy for this tool's
        pending progress, in place of the server's.

        `input_schema` and `output_schema` are JSON Schemas that clients are shown as they are, in place of
        those of the type hints. The function then takes all arguments, as JSON values, in one dict or as
        `**arguments`, or returns a dict. With `validate` both are checked by the package jsonschema (the
        extra of that name). `scopes` are what a client must be allowed to see and call the tool, if it has
        been authenticated (docs/authorization.md). `tags`, one or several, are what programs enable and
        disable tools by; clients do not see them. Raises ToolDefinitionError if the signature
        cannot be described in JSON or the name is taken.
        """
        tool = define_tool(
            bare_function(function),
            name=name,
            title=title,
            description=description,
            annotations=annotations,
            icons=icons,
            meta=meta,
            task=self.definition.default_task if task is None else task,
            progress=progress,
            input_schema=input_schema,
            output_schema=output_schema,
            validate=validate,
            scopes=scopes,
            tags=tags,
            dereference_schemas=self.definition.settings.dereference_schemas,
            refuse_unknown=self.definition.settings.unknown_metadata == "refuse",
        )
        self.definition.add_tool(tool)

    @overload
    def prompt(self, function: Callable[P, R], /) -> CompletableFunction[P, R]: ...

    @overload
    def prompt(
        self,
        name_: str | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        progress: ServerPolicy | None = None,
        scopes: Collection[str] = (),
        tags: Names = (),
    ) -> Callable[[Callable[P, R]], CompletableFunction[P, R]]: ...

    def prompt(
        self,
        function: Callable[P, R] | str | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        progress: ServerPolicy | None = None,
        scopes: Collection[str] = (),
        tags: Names = (),
    ) -> CompletableFunction[P, R] | Callable[[Callable[P, R]], CompletableFunction[P, R]]:
        """Register a prompt: `@server.prompt` or `@server.prompt("name", ...)`; see `add_prompt`."""
        if isinstance(function, str):
            if name is not None:
                raise PromptDefinitionError(f"a prompt has one name, not {function!r} and {name!r}")
            function, name = None, function

        def register(function: Callable[P, R]) -> CompletableFunction[P, R]:
            return self.add_prompt(
                function,
                name=name,
                title=title,
                description=description,
                icons=icons,
                meta=meta,
                progress=progress,
                scopes=scopes,
                tags=tags,
            )

        return register if function is None else register(function)

    def add_prompt(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        progress: ServerPolicy | None = None,
        scopes: Collection[str] = (),
        tags: Names = (),
    ) -> CompletableFunction[P, R]:
        """Register `function` as a prompt (MCP prompts).

        Its arguments come from its type hints, their descriptions from its docstring; a parameter
        annotated with `Context` receives the context. Clients send texts: one that a parameter's type takes
        as it is stays a text, every other is read as JSON. A sync function runs in a worker thread. The
        function returns text, content, a `Message`, or a list of them. What is returned here can be
        called as the function, and its `complete` registers functions that complete arguments. `progress`
        is the policy for this prompt and its completions, in place of the server's, and `scopes` and
        `tags` are as those of a tool. Raises PromptDefinitionError if the signature cannot be described or
        the name is taken.
        """
        # Imported here: a server without prompts starts sooner without that module.
        from trio_mcp.server.prompt import define_prompt

        function = bare_function(function)
        prompt = define_prompt(
            function,
            name=name,
            title=title,
            description=description,
            icons=icons,
            meta=meta,
            dereference_schemas=self.definition.settings.dereference_schemas,
            refuse_unknown=self.definition.settings.unknown_metadata == "refuse",
            progress=progress,
            scopes=scopes,
            tags=tags,
        )
        self.definition.add_prompt(prompt)
        return CompletableFunction(function, prompt)

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
        annotations: Annotations | Mapping[str, Any] | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        cache: CacheHint | None = None,
        progress: ServerPolicy | None = None,
        scopes: Collection[str] = (),
        tags: Names = (),
    ) -> Callable[[Callable[P, R]], CompletableFunction[P, R]]:
        """Register a function as a resource: `@server.resource("config://app")`; see `add_resource`."""
        if callable(uri):
            raise ResourceDefinitionError('a resource needs its URI: @server.resource("config://app")')

        def register(function: Callable[P, R]) -> CompletableFunction[P, R]:
            return self.add_resource(
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
                progress=progress,
                scopes=scopes,
                tags=tags,
            )

        return register

    def add_resource(
        self,
        uri: str,
        function: Callable[P, R],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        size: int | None = None,
        annotations: Annotations | Mapping[str, Any] | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        cache: CacheHint | None = None,
        progress: ServerPolicy | None = None,
        scopes: Collection[str] = (),
        tags: Names = (),
    ) -> CompletableFunction[P, R]:
        """Register what `function` returns as a resource (MCP server features, "Resources").

        `uri` is its URI, or a template of URIs like "users://{id}/profile" (RFC 6570), whose variables are
        the function's parameters; a URI is decoded once, and its parts are converted to the type hints. Of
        templates that match the same URI, the first counts. Text and bytes are read as they are, everything
        else as JSON. A parameter annotated with `Context` receives the context, and a sync function runs in a
        worker thread. `size` is in bytes. `progress` is the policy for this resource, in place of the
        server's, and `scopes` and `tags` are as those of a tool. Raises ResourceDefinitionError for a
        template that is malformed or ambiguous, for a variable that the function does not take, for a
        required parameter that the URI does not give, and if the URI is taken.

        What is returned here can be called as the function, and its `complete` registers functions that
        complete variables of the template.
        """
        # Imported here: a server of tools starts sooner without.
        from trio_mcp.server.resource import define_resource

        function = bare_function(function)
        resource = define_resource(
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
            progress=progress,
            scopes=scopes,
            tags=tags,
            refuse_unknown=self.definition.settings.unknown_metadata == "refuse",
        )
        self.definition.add_resource(resource)
        return CompletableFunction(function, resource)

    def add_directory(
        self,
        uri: str,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: Annotations | Mapping[str, Any] | None = None,
        icons: Sequence[Icon | Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        cache: CacheHint | None = None,
        max_bytes: int = 8 * 1024 * 1024,
        hidden: bool = False,
        scopes: Collection[str] = (),
        tags: Names = (),
    ) -> None:
        """Register the files below a directory as the template "`uri`/{path*}".

        They are read in a worker thread. The extension of a file gives its MIME type; what is text, in UTF-8,
        is read as text, everything else as bytes. No client can leave the directory: "..", absolute paths,
        links that lead out of it, names of devices and everything that is no regular file count as unknown.
        So do, unless `hidden` is True, files and directories whose names begin with a dot. A file of more
        than `max_bytes` bytes, 8 MiB by default, cannot be read. `name` is by default that of the directory,
        and `scopes` and `tags` are as those of a tool. Raises ResourceDefinitionError if there is no
        directory at `path`, and as `add_resource` does.
        """
        # Imported here: a server of tools starts sooner without.
        from trio_mcp.server.directory import make_directory

        directory = make_directory(uri, path, max_bytes, hidden=hidden)
        self.add_resource(
            directory.template,
            directory.read_file,
            name=name or directory.root.name or "files",
            title=title,
            description=description or "The files of a directory.",
            annotations=annotations,
            icons=icons,
            meta=meta,
            cache=cache,
            scopes=scopes,
            tags=tags,
        )
