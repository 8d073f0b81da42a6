"""What a server is, as plain data: its name, its tools, its settings, its lifespan.

Owns the registries of tools, prompts and resources. Knows nothing of serving: everything that serves takes a
definition, and `Server` is the face with which programs write one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from msgspec import Struct, field

from trio_mcp.errors import PromptDefinitionError, ToolDefinitionError
from trio_mcp.server.changes import ListChanges, ListKind
from trio_mcp.server.registry import CHANGING, Registry, Tagged
from trio_mcp.server.tags import TagRules
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.session.settings import OfferedKind, ServerSettings
from trio_mcp.tasks.settings import TaskConfig, TaskSettings
from trio_mcp.tasks.store import TaskStore
from trio_mcp.wire.messages import Implementation

if (
    TYPE_CHECKING
):  # a server without prompts, resources, dependencies or middleware starts without these modules
    from trio_mcp.server.layers import Layers
    from trio_mcp.server.prompt import PromptDefinition
    from trio_mcp.server.providers import Provider
    from trio_mcp.server.resource import ResourceDefinition
    from trio_mcp.server.resource_table import ResourceTable

LayerKind: TypeAlias = Literal["requests", "tools", "resources", "prompts"]
"""What middleware is around."""


Makers: TypeAlias = tuple[Callable[..., Any], Callable[..., Any]]
"""What makes a running server in the place of `RunningServer`, and in that of `Supervisor`."""


class ServerDefinition(Struct, eq=False):
    """One server; it can be served many times, also at once.

    `task_store` is None for one in memory. `default_task` is the `task` of every tool that
    gives none of its own. `resources` is None until the first is registered, so that a server of tools
    imports nothing for them. `enter_lifespan` makes the context manager of the server's lifespan; None if it
    has none. `changes` are told what changes while the server runs. `server` is what handlers find as
    `Context.server`. `layers` are its middleware, if it has some.
    `tag_rules` say what is enabled by its tags, None if nothing was ever said.
    `mounted` are the servers that are mounted in it, in their order, one that is mounted twice also twice.
    `instruments` observe a server that is started from then on: `find_makers` says what it is made of then.

    What is registered may change at any time, from any thread.
    """

    info: Implementation
    instructions: str | None
    settings: ServerSettings
    task_settings: TaskSettings
    task_store: TaskStore | None
    default_task: TaskConfig | bool
    tools: Registry[ToolDefinition] = field(default_factory=lambda: Registry("tool", ToolDefinitionError))
    enter_lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    prompts: Registry[PromptDefinition] = field(
        default_factory=lambda: Registry("prompt", PromptDefinitionError)
    )
    resources: ResourceTable | None = None
    changes: ListChanges = field(default_factory=ListChanges)
    server: Any = None
    layers: dict[LayerKind, Layers[Any, Any]] = {}
    tag_rules: TagRules | None = None
    mounted: list[ServerDefinition] = []
    instruments: list[object] = []
    find_makers: Callable[[Sequence[object]], Makers] | None = None

    overrides: Sequence[tuple[Callable[..., Any], Provider]] = ()
    """What takes the place of which dependency, the last one counts: `Server.override_dependency`."""

    @property
    def offers(self) -> Collection[OfferedKind]:
        """The kinds that it declares although it has none yet, or that a mounted server does."""
        if not self.mounted:
            return self.settings.offers
        return {kind for one in (self, *find_mounted(self)) for kind in one.settings.offers}

    def add_tool(self, tool: ToolDefinition) -> None:
        """Register a tool; raises ToolDefinitionError if its name is taken."""
        self.tools.add(tool.listing.name, tool)
        self.changes.tell("tools")

    def add_prompt(self, prompt: PromptDefinition) -> None:
        """Register a prompt; raises PromptDefinitionError if its name is taken."""
        self.prompts.add(prompt.listing.name, prompt)
        self.changes.tell("prompts")

    def add_resource(self, resource: ResourceDefinition) -> None:
        """Register a resource or a template; raises ResourceDefinitionError if its URI is taken."""
        self.open_resources().add(resource)
        self.changes.tell("resources")

    def open_resources(self) -> ResourceTable:
        """The table of resources, which is made if there is none."""
        if self.resources is None:
            from trio_mcp.server.resource_table import ResourceTable

            table = ResourceTable()
            table.resources.rules = table.templates.rules = self.tag_rules
            self.resources = table
        return self.resources

    def add_lifespan(self, enter: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        """Enter one more lifespan, behind those that there are, when the server starts."""
        if self.enter_lifespan is None:
            self.enter_lifespan = enter
            return
        # Imported here: hardly any server has several.
        from trio_mcp.server.lifespans import Lifespans

        before = self.enter_lifespan
        entered = before.functions if isinstance(before, Lifespans) else (before,)
        self.enter_lifespan = Lifespans((*entered, enter))

    def remove(self, kind: ListKind, key: str) -> None:
        """Forget the tool, prompt or resource `key`; raises DefinitionError if there is none."""
        self._registry(kind).remove(key)
        self.changes.tell(kind)

    def switch(self, keys: Mapping[ListKind, Sequence[str]], *, is_enabled: bool) -> None:
        """Enable or disable what is registered, or nothing at all if there is no such thing.

        Raises DefinitionError then.
        """
        self.require(keys)
        for kind, names in keys.items():
            if names and self._registry(kind).switch(names, is_enabled=is_enabled):
                self.changes.tell(kind)

    def require(self, keys: Mapping[ListKind, Sequence[str]]) -> None:
        """Raise DefinitionError unless all that is named is registered."""
        for kind, names in keys.items():
            if names:
                self._registry(kind).require(names)

    def switch_tagged(self, tags: frozenset[str] | None, *, is_enabled: bool, only: bool = False) -> None:
        """Enable or disable what has one of the tags, now and later; None for everything.

        If it is `only` that, everything else is disabled.
        """
        with CHANGING:
            rules = self._open_rules()
            if only:
                rules.add(None, is_enabled=False)
            rules.add(tags, is_enabled=is_enabled)

            def decide(definition: Tagged) -> bool | None:
                if tags is None or definition.tags & tags:
                    return is_enabled
                return False if only else None

            if self.tools.switch_where(decide):
                self.changes.tell("tools")
            if self.prompts.switch_where(decide):
                self.changes.tell("prompts")
            if self.resources is not None and self.resources.switch_where(decide):
                self.changes.tell("resources")

    def _open_rules(self) -> TagRules:
        if self.tag_rules is None:
            self.tag_rules = self.tools.rules = self.prompts.rules = TagRules()
            if self.resources is not None:
                self.resources.resources.rules = self.resources.templates.rules = self.tag_rules
        return self.tag_rules

    def _registry(self, kind: ListKind) -> Registry[Any] | ResourceTable:
        if kind == "resources":
            return self.open_resources()
        return self.tools if kind == "tools" else self.prompts

    @asynccontextmanager
    async def open_lifespan(self) -> AsyncIterator[Any]:
        """Enter the lifespan for as long as the block lasts; yields None if there is none."""
        if self.enter_lifespan is None:
            yield None
            return
        async with self.enter_lifespan() as value:
            yield value


def find_mounted(definition: ServerDefinition) -> list[ServerDefinition]:
    """The servers that are mounted in it, and in these: each once, in the order in which they begin."""
    found: dict[ServerDefinition, None] = {}
    for mounted in definition.mounted:
        found[mounted] = None
        found.update(dict.fromkeys(find_mounted(mounted)))
    return list(found)


class HasDefinition(Protocol):
    """What can be served because it has a definition: a `Server`."""

    @property
    def definition(self) -> ServerDefinition:
        """What the server is."""
