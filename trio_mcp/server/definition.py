"""What a server is, as plain data: its name, its tools, its settings, its lifespan.

Owns the registries of tools, prompts and resources. Knows nothing of serving: everything that serves takes a
definition, and `Server` is the face with which programs write one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from trio_mcp.errors import PromptDefinitionError, ToolDefinitionError
from trio_mcp.server.changes import ListChanges
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.session.settings import ServerSettings
from trio_mcp.tasks.settings import TaskConfig, TaskSettings
from trio_mcp.tasks.store import TaskStore
from trio_mcp.wire.messages import Implementation

if TYPE_CHECKING:  # a server without prompts or resources starts without these modules
    from trio_mcp.server.prompt import PromptDefinition
    from trio_mcp.server.resource import ResourceDefinition
    from trio_mcp.server.resource_table import ResourceTable


@attrs.define(eq=False)
class ServerDefinition:
    """One server; it can be served many times, also at once.

    `task_store` is None for one in memory. `default_task` is the `task` of every tool that
    gives none of its own. `tools` and `prompts` are kept by name, in the order of their registration.
    `resources` is None until the first is registered, so that a server of tools imports nothing for them.
    `enter_lifespan` makes the context manager of the server's lifespan; None if it has none. `changes` are
    told what changes while the server runs.
    """

    info: Implementation
    instructions: str | None
    settings: ServerSettings
    task_settings: TaskSettings
    task_store: TaskStore | None
    default_task: TaskConfig | bool
    tools: dict[str, ToolDefinition] = attrs.field(factory=dict)
    enter_lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    prompts: dict[str, PromptDefinition] = attrs.field(factory=dict)
    resources: ResourceTable | None = None
    changes: ListChanges = attrs.field(factory=ListChanges)

    def add_tool(self, tool: ToolDefinition) -> None:
        """Register a tool; raises ToolDefinitionError if its name is taken."""
        name = tool.listing.name
        if name in self.tools:
            raise ToolDefinitionError(f"there is already a tool named {name!r}")
        self.tools[name] = tool

    def add_prompt(self, prompt: PromptDefinition) -> None:
        """Register a prompt; raises PromptDefinitionError if its name is taken."""
        name = prompt.listing.name
        if name in self.prompts:
            raise PromptDefinitionError(f"there is already a prompt named {name!r}")
        self.prompts[name] = prompt

    def add_resource(self, resource: ResourceDefinition) -> None:
        """Register a resource or a template; raises ToolDefinitionError if its URI is taken."""
        if self.resources is None:
            from trio_mcp.server.resource_table import ResourceTable

            self.resources = ResourceTable()
        self.resources.add(resource)

    @asynccontextmanager
    async def open_lifespan(self) -> AsyncIterator[Any]:
        """Enter the lifespan for as long as the block lasts; yields None if there is none."""
        if self.enter_lifespan is None:
            yield None
            return
        async with self.enter_lifespan() as value:
            yield value


class HasDefinition(Protocol):
    """What can be served because it has a definition: a `Server`."""

    @property
    def definition(self) -> ServerDefinition:
        """What the server is."""
