"""What a server offers once it is registered: programs look at it, take it away, hide it and show it again.

Owns the verbs that name what is registered by its key. `registration.py` adds those that register.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from trio_mcp.errors import DefinitionError
from trio_mcp.schema.signatures import Subject
from trio_mcp.server.changes import ListKind
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.registry import CHANGING
from trio_mcp.server.tags import read_tags
from trio_mcp.server.tool import ToolDefinition

if TYPE_CHECKING:  # a server without prompts starts without that module
    from trio_mcp.server.prompt import PromptDefinition

Names: TypeAlias = str | Iterable[str]


class Registered:
    """The part of a `Server` with which programs see and change what is registered."""

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

    def disable(
        self,
        *,
        tools: Names = (),
        prompts: Names = (),
        resources: Names = (),
        tags: Names = (),
        everything: bool = False,
    ) -> None:
        """Hide what is registered until it is enabled: it is not listed, and is answered as unknown.

        Each is a name, or several; resources and templates are named by their URIs. What is disabled
        already stays so. Calls that are running go on. Clients are told as by `remove_tool`. `tags` hide what
        has one of them, and `everything` all, also what is registered or mounted later; a later call of
        `enable` or `disable` overrides an earlier one. Raises DefinitionError, and changes nothing, if
        something is not registered.
        """
        self._switch(tools, prompts, resources, tags, is_enabled=False, everything=everything)

    def enable(
        self,
        *,
        tools: Names = (),
        prompts: Names = (),
        resources: Names = (),
        tags: Names = (),
        only: bool = False,
        everything: bool = False,
    ) -> None:
        """Undo `disable`: what was hidden is listed again, in its old place. Raises as `disable` does.

        With `only`, what has none of the `tags` is hidden, also what is registered later; `everything` undoes
        that. What a mounted server has disabled stays hidden. Raises TypeError for `only` without `tags`.
        """
        self._switch(tools, prompts, resources, tags, is_enabled=True, only=only, everything=everything)

    def _switch(
        self,
        tools: Names,
        prompts: Names,
        resources: Names,
        tags: Names,
        *,
        is_enabled: bool,
        everything: bool,
        only: bool = False,
    ) -> None:
        keys: dict[ListKind, list[str]] = {
            "tools": _as_list(tools),
            "prompts": _as_list(prompts),
            "resources": _as_list(resources),
        }
        named = read_tags(tags, Subject("enable and disable", DefinitionError))
        if only and not named:
            raise TypeError("only=True hides what has none of the tags, so it needs tags")
        with CHANGING:
            self.definition.require(keys)
            if everything:
                self.definition.switch_tagged(None, is_enabled=is_enabled)
            if named:
                self.definition.switch_tagged(named, is_enabled=is_enabled, only=only)
            self.definition.switch(keys, is_enabled=is_enabled)


def _as_list(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
