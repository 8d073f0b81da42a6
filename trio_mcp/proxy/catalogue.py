"""What one upstream server offers, kept in step with what the proxy offers.

Owns the reading of its lists, and which definitions of the proxy are replaced when one has changed. They keep
the order in which the upstream server lists them. Refuses to know when a list is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct

from trio_mcp.client.changes import Change, PromptsListChanged, ResourcesListChanged, ToolsListChanged
from trio_mcp.client.link import Link
from trio_mcp.client.list_reader import PageReader
from trio_mcp.errors import ProtocolError, RemoteProtocolError
from trio_mcp.printable import one_line
from trio_mcp.proxy.definitions import Forwarder, ProxyResource, make_prompt, make_resource, make_tool
from trio_mcp.server.changes import ListKind
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.registry import Registry
from trio_mcp.wire.errors import METHOD_NOT_FOUND
from trio_mcp.wire.faithful import read_faithfully
from trio_mcp.wire.messages import Tool
from trio_mcp.wire.prompts import Prompt
from trio_mcp.wire.resources import Resource, ResourceTemplate
from trio_mcp.wire.tolerant import UNREADABLE

logger = logging.getLogger("trio_mcp.proxy")

S = TypeVar("S", bound=Struct)

_CAPABILITIES: Final = {"tools": "tools", "prompts": "prompts", "resources": "resources"}


class Listed(Protocol):
    """A definition that is listed."""

    @property
    def listing(self) -> Any:
        """What clients see of it."""


class _Page(msgspec.Struct, rename="camel"):
    next_cursor: str | None = None


def page_reader(member: str, kind: type[S]) -> PageReader[S]:
    """Reads a page of a list without losing anything; an item that cannot be read is left out."""

    def read(raw: Raw) -> tuple[Sequence[S], str | None]:
        try:
            cursor = msgspec.json.decode(raw, type=_Page).next_cursor
            members = msgspec.json.decode(raw, type=dict[str, Raw])
            items = msgspec.json.decode(members[member], type=list[Raw])
        except (*UNREADABLE, KeyError) as error:
            raise RemoteProtocolError(f"the server sent a malformed list of {member}: {error}") from None
        found: list[S] = []
        for index, item in enumerate(items):
            try:
                found.append(read_faithfully(item, kind, f"element {index} of the server's {member}"))
            except UNREADABLE as error:
                logger.warning("element %d of the server's %s is left out: %s", index, member, error)
        return found, cursor

    return read


_READ_TOOLS: Final = page_reader("tools", Tool)
_READ_PROMPTS: Final = page_reader("prompts", Prompt)
_READ_RESOURCES: Final = page_reader("resources", Resource)
_READ_TEMPLATES: Final = page_reader("resourceTemplates", ResourceTemplate)


class Catalogue:
    """Keeps what `definition` offers of one upstream server, whose names get `prefix`, up to date.

    `on_connected` is called with each new connection, before its lists are read.
    """

    def __init__(
        self,
        name: str,
        definition: ServerDefinition,
        forwarder: Forwarder,
        prefix: str,
        on_connected: Callable[[Link], None],
    ) -> None:
        self._name = name
        self._definition = definition
        self._forwarder = forwarder
        self._prefix = prefix
        self._on_connected = on_connected
        # What of each registry is of this server.
        self._own: dict[str, list[str]] = {}

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(keys)} {kind}s" for kind, keys in self._own.items())
        return f"<Catalogue of {self._name!r}: {counts or 'nothing'}>"

    def has_resource(self, uri: str) -> bool:
        """Whether a resource is, or seems to be, one of this server."""
        found = self._definition.open_resources().find(uri)
        return (
            found is not None
            and isinstance(found[0], ProxyResource)
            and found[0].forwarder is self._forwarder
        )

    async def read_all(self, link: Link) -> None:
        """Read what the server is and all that it offers; checkpoints. Raises MCPError."""
        self._on_connected(link)
        await self._read_tools(link)
        await self._read_prompts(link)
        await self._read_resources(link)

    async def read_changed(self, link: Link, change: Change) -> None:
        """Read the list that has changed, and tell of it; checkpoints. Raises MCPError."""
        kind: ListKind
        match change:
            case ToolsListChanged():
                kind, is_other = "tools", await self._read_tools(link)
            case PromptsListChanged():
                kind, is_other = "prompts", await self._read_prompts(link)
            case ResourcesListChanged():
                kind, is_other = "resources", await self._read_resources(link)
            case _:
                return
        if not is_other:  # what has changed may have been changed back, and is told all the same
            self._definition.changes.tell(kind)

    async def _read_tools(self, link: Link) -> bool:
        try:
            tools = await link.list_tools(refresh=True, read_page=_READ_TOOLS)
        except ProtocolError as error:
            tools = _none_if_missing(link, "tools", error)
        made = [make_tool(tool, self._forwarder, self._prefix, link) for tool in tools]
        return self._replace(
            self._definition.tools,
            {tool.listing.name: tool for tool in made},
            self._definition.add_tool,
            lambda name: self._definition.remove("tools", name),
            lambda name: self._definition.switch({"tools": [name]}, is_enabled=False),
        )

    async def _read_prompts(self, link: Link) -> bool:
        prompts: list[Prompt] = []
        if "prompts" in link.agreement.capabilities:
            prompts = await link.list_pages("prompts/list", "prompts", _READ_PROMPTS, refresh=True)
        completes = "completions" in link.agreement.capabilities
        made = [make_prompt(one, self._forwarder, self._prefix, completes=completes) for one in prompts]
        return self._replace(
            self._definition.prompts,
            {prompt.listing.name: prompt for prompt in made},
            self._definition.add_prompt,
            lambda name: self._definition.remove("prompts", name),
            lambda name: self._definition.switch({"prompts": [name]}, is_enabled=False),
        )

    async def _read_resources(self, link: Link) -> bool:
        if "resources" not in link.agreement.capabilities:
            resources: list[Resource] = []
            templates: list[ResourceTemplate] = []
        else:
            resources = await link.list_pages("resources/list", "resources", _READ_RESOURCES, refresh=True)
            try:
                templates = await link.list_pages(
                    "resources/templates/list", "resource templates", _READ_TEMPLATES, refresh=True
                )
            except ProtocolError as error:  # some servers with resources do not know this method
                if error.code != METHOD_NOT_FOUND:
                    raise
                templates = []
        completes = "completions" in link.agreement.capabilities
        table = self._definition.open_resources()
        remove = lambda uri: self._definition.remove("resources", uri)  # noqa: E731
        disable = lambda uri: self._definition.switch({"resources": [uri]}, is_enabled=False)  # noqa: E731
        listed: tuple[tuple[Registry[Any], Iterable[Resource | ResourceTemplate]], ...] = (
            (table.resources, resources),
            (table.templates, templates),
        )
        is_other = False
        for registry, found in listed:
            made = [make_resource(one, self._forwarder, completes=completes) for one in found]
            new = {one.uri: one for one in made}
            if self._replace(registry, new, self._definition.add_resource, remove, disable):
                is_other = True
        return is_other

    def _replace(
        self,
        registry: Registry[Any],
        new: Mapping[str, Listed],
        add: Callable[[Any], None],
        remove: Callable[[str], None],
        disable: Callable[[str], None],
    ) -> bool:
        """Let the registry have `new` of this server, in this order, and tell of it if that is a change.

        Returns whether it is one.

        No other task sees what is between the old list and the new one.
        """
        own = self._own.get(registry.kind, [])
        wanted = [key for key in new if key in own or not registry.has(key)]
        for key in new.keys() - set(wanted):
            logger.warning(
                "the %s %s of %s is left out: there is one of that name already",
                registry.kind,
                one_line(repr(key)),
                one_line(repr(self._name)),
            )
        same = 0
        while same < min(len(own), len(wanted)) and own[same] == wanted[same]:
            if not _is_same(registry.find(own[same]), new[own[same]]):
                break
            same += 1
        hidden = {key for key in own[same:] if registry.has(key) and key not in registry.enabled}
        for key in own[same:]:
            if registry.has(key):  # otherwise the program has removed it
                remove(key)
        for key in wanted[same:]:
            add(new[key])
            if key in hidden:
                disable(key)
        self._own[registry.kind] = wanted
        return same < max(len(own), len(wanted))


def _is_same(old: Listed | None, new: Listed) -> bool:
    return old is not None and msgspec.json.encode(old.listing) == msgspec.json.encode(new.listing)


def _none_if_missing(link: Link, capability: str, error: ProtocolError) -> list[Any]:
    """Nothing, if the server neither declares nor has such a list; raises `error` otherwise."""
    if capability in link.agreement.capabilities or error.code != METHOD_NOT_FOUND:
        raise error
    return []
