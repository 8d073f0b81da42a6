"""Several servers in one nursery: `open_group` and the verbs of `ClientGroup`.

Owns which server a name belongs to. A server's connection, and its failure, is the matter of `GroupServer`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import msgspec
import trio

from trio_mcp.call_result import CallResult
from trio_mcp.client.call_handle import CallHandle
from trio_mcp.client.client import Arguments, Client
from trio_mcp.client.group_member import GroupServer, ServerState, describe_error
from trio_mcp.client.mcp_servers import MEMBER, read_mcp_servers
from trio_mcp.client.resource_reading import ReadResult
from trio_mcp.client.server_entry import ServerEntry, check_options
from trio_mcp.client.target import Target
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.concurrency.nursery import open_service_nursery
from trio_mcp.errors import MCPError, ProtocolError, ServerLookupError
from trio_mcp.validators import describe_seconds, require_seconds
from trio_mcp.wire.errors import METHOD_NOT_FOUND
from trio_mcp.wire.messages import PromptReference, ResourceTemplateReference, Tool
from trio_mcp.wire.prompts import Completion, GetPromptResult, Prompt
from trio_mcp.wire.resources import Resource, ResourceTemplate

if TYPE_CHECKING:
    from typing import Unpack

    from trio_mcp.client.call_options import (
        AnyCall,
        PlainCall,
        ReadOptions,
        RequestOptions,
        StartCall,
        TaskCall,
    )
    from trio_mcp.client.connection_options import ConnectionOptions

logger = logging.getLogger("trio_mcp.client")

T = TypeVar("T")
Listed = TypeVar("Listed", Tool, Prompt, Resource)

SERVER_SECONDS: Final = 30.0
"""How long one server may take to connect, or to list what it has, before the group goes on without it."""


class ClientGroup:
    """Connections to several servers; made by `open_group`.

    Tools and prompts have the name of their server in front of their own: `add` of the server `calculator`
    is `calculator_add`. Resources keep their URIs. Methods may be called from many tasks at once.
    """

    def __init__(self, nursery: trio.Nursery, options: Mapping[str, Any], server_timeout: float) -> None:
        self._nursery = nursery
        self._options = options
        self._timeout = server_timeout
        self._servers: dict[str, GroupServer] = {}

    def __repr__(self) -> str:
        servers = ", ".join(f"{server.name!r} {server.state.value}" for server in self._servers.values())
        return f"<ClientGroup of {servers or 'no servers'}>"

    @property
    def servers(self) -> Mapping[str, GroupServer]:
        """The servers by name, in their order; those that have failed are among them."""
        return MappingProxyType(self._servers)

    def client(self, server: str) -> Client:
        """Return the client of a server, for what the group has no verb for.

        Raises ServerLookupError for an unknown name, and ServerUnavailable if the server is not connected.
        """
        return self._named(server).client

    async def add(self, name: str, server: ServerEntry | Target) -> GroupServer:
        """Connect to one more server, which comes last; checkpoints.

        Raises ValueError for a name or a prefix that clashes, and what `open_client` raises; then nothing
        is added.
        """
        added = self._start(name, server)
        try:
            await added.wait_opened()
            if added.error is not None:
                raise added.error
        except BaseException:
            if self._servers.get(name) is added:  # it may be removed already, and another have its name
                del self._servers[name]
            added.leave()
            raise
        return added

    async def remove(self, name: str) -> None:
        """Close the connection to a server and forget it; checkpoints.

        What is called on it meanwhile raises ServerUnavailable. Raises ServerLookupError for an unknown name.
        """
        server = self._named(name)
        del self._servers[name]
        server.leave()
        await server.wait_finished()

    def _start(self, name: str, server: ServerEntry | Target) -> GroupServer:
        """Begin to connect to one more server; its `state` says how far that is."""
        added = GroupServer(name, ServerEntry.of(server), self._options, self._timeout)
        if name in self._servers:
            raise ValueError(f"the group has a server {name!r} already")
        check_prefixes([*self._servers.values(), added])
        self._nursery.start_soon(added.run)
        self._servers[name] = added
        return added

    async def list_tools(self) -> list[Tool]:
        """List the tools of all connected servers, in the order of the servers; checkpoints.

        Their names are those that `call_tool` takes. A server that does not answer in time, or answers with
        an error, is left out with a warning.
        """
        found = await self._list_all("tools", Client.list_tools)
        return [_with_prefix(server, tool) for server, tools in found for tool in tools]

    async def list_prompts(self) -> list[Prompt]:
        """List the prompts of all connected servers, as `list_tools` lists tools; checkpoints."""
        found = await self._list_all("prompts", Client.list_prompts)
        return [_with_prefix(server, prompt) for server, prompts in found for prompt in prompts]

    async def list_resources(self) -> list[Resource]:
        """List the resources of all connected servers, in the order of the servers; checkpoints.

        Their names have the prefix of their server, their URIs are unchanged. As in `list_tools`, a server
        that does not answer is left out.
        """
        found = await self._list_all("resources", Client.list_resources)
        for server, resources in found:
            server.catalogue.uris = frozenset(resource.uri for resource in resources)
        return [_with_prefix(server, resource) for server, resources in found for resource in resources]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """List the templates of all connected servers, as `list_resources` lists resources; checkpoints."""
        found = await self._list_all("resources", Client.list_resource_templates)
        for server, templates in found:
            server.catalogue.note_templates([template.uri_template for template in templates])
        return [
            msgspec.structs.replace(template, name=server.prefix + template.name)
            for server, templates in found
            for template in templates
        ]

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: type[T], **options: Unpack[PlainCall]
    ) -> CallResult[T]: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: type[T], **options: Unpack[TaskCall]
    ) -> TaskHandle[T]: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: type[T], **options: Unpack[AnyCall]
    ) -> CallResult[T] | TaskHandle[T]: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: Any = None, **options: Unpack[PlainCall]
    ) -> CallResult: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: Any = None, **options: Unpack[TaskCall]
    ) -> TaskHandle: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: Any = None, **options: Unpack[AnyCall]
    ) -> CallResult | TaskHandle: ...

    async def call_tool(
        self, name: str, arguments: Arguments = None, *, task: Any = False, **options: Any
    ) -> CallResult[Any] | TaskHandle[Any]:
        """Call a tool by its name with the prefix; checkpoints. See `Client.call_tool`.

        `options` are the keyword arguments of that method. Raises what it raises, ServerLookupError if no
        server has such a prefix, and ServerUnavailable if the server is not connected.
        """
        server, inner = self._find(name)
        with server.named() as client:
            answer: CallResult | TaskHandle = await client.call_tool(inner, arguments, task=task, **options)
            return answer

    @overload
    def start_call(
        self, name: str, arguments: Arguments = None, *, result_type: type[T], **options: Unpack[StartCall]
    ) -> AbstractAsyncContextManager[CallHandle[T]]: ...

    @overload
    def start_call(
        self, name: str, arguments: Arguments = None, *, result_type: Any = None, **options: Unpack[StartCall]
    ) -> AbstractAsyncContextManager[CallHandle]: ...

    @asynccontextmanager
    async def start_call(
        self, name: str, arguments: Arguments = None, **options: Any
    ) -> AsyncIterator[CallHandle[Any]]:
        """Call a tool concurrently with the block; see `Client.start_call`, and `call_tool` for the name.

        If the connection is lost, `CallHandle.result` raises ConnectionLost. Leaving checkpoints.
        """
        server, inner = self._find(name)
        async with server.client.start_call(inner, arguments, **options) as handle:
            yield handle

    async def get_prompt(
        self, name: str, arguments: Arguments = None, **options: Unpack[RequestOptions]
    ) -> GetPromptResult:
        """Get a prompt by its name with the prefix; checkpoints. See `Client.get_prompt`.

        Raises what that method raises, and as `call_tool`.
        """
        server, inner = self._find(name)
        with server.named() as client:
            return await client.get_prompt(inner, arguments, **options)

    async def read_resource(
        self, uri: str, *, server: str | None = None, **options: Unpack[ReadOptions]
    ) -> ReadResult:
        """Read a resource of the server that has it; checkpoints. See `Client.read_resource`.

        Without `server`, the name of one, it is the one that lists the URI, or else the one that has a
        template for it. The lists are read if the URI was not in them before. Raises what that method
        raises, ServerLookupError if no server or several have the URI, and ServerUnavailable.
        """
        found = await self._find_reader(uri) if server is None else self._named(server)
        with found.named() as client:
            return await client.read_resource(uri, **options)

    async def complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: Mapping[str, str],
        context_arguments: Mapping[str, Any] | None = None,
        *,
        server: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> Completion:
        """Ask for values of an argument; checkpoints. See `Client.complete`.

        A prompt has its name with the prefix. A template belongs to `server`, or else to the server that
        lists it. Raises what that method raises, and as `read_resource`.
        """
        if isinstance(ref, PromptReference):
            found, inner = self._find(ref.name)
            ref = PromptReference(name=inner)
        else:
            found = await self._find_lister(ref.uri) if server is None else self._named(server)
        with found.named() as client:
            return await client.complete(ref, argument, context_arguments, **options)

    def _named(self, name: str) -> GroupServer:
        try:
            return self._servers[name]
        except KeyError:
            raise ServerLookupError(f"the group has no server {name!r}: {self._names()}") from None

    def _find(self, name: str) -> tuple[GroupServer, str]:
        """The server of a tool or prompt, and the name that it has there."""
        for server in self._servers.values():
            if name.startswith(server.prefix):
                return server, name[len(server.prefix) :]
        prefixes = ", ".join(repr(server.prefix) for server in self._servers.values())
        raise ServerLookupError(
            f"no server of the group has a prefix of {name!r}: {prefixes or 'there is none'}"
        )

    async def _find_reader(self, uri: str) -> GroupServer:
        if len(self._servers) == 1:
            await trio.lowlevel.checkpoint()
            return next(iter(self._servers.values()))
        found = self._connected(lambda server: uri in server.catalogue.uris)
        if not found:
            await self._list_uris()
            found = self._connected(lambda server: uri in server.catalogue.uris)
        return self._single(uri, found or self._connected(lambda server: server.catalogue.matches(uri)))

    async def _find_lister(self, template: str) -> GroupServer:
        found = self._connected(lambda server: template in server.catalogue.templates)
        if not found:
            await self._list_uris()
            found = self._connected(lambda server: template in server.catalogue.templates)
        return self._single(template, found)

    async def _list_uris(self) -> None:
        await self.list_resources()
        await self.list_resource_templates()

    def _connected(self, has: Callable[[GroupServer], bool]) -> list[GroupServer]:
        return [
            server
            for server in self._servers.values()
            if server.state is ServerState.CONNECTED and has(server)
        ]

    def _single(self, uri: str, found: Sequence[GroupServer]) -> GroupServer:
        if len(found) == 1:
            return found[0]
        if found:
            names = " and ".join(repr(server.name) for server in found)
            raise ServerLookupError(f"{uri!r} belongs to {names}: say which, by server=")
        raise ServerLookupError(
            f"no server of the group lists {uri!r}; server= can say which to ask: {self._names()}"
        )

    def _names(self) -> str:
        return f"it has {', '.join(map(repr, self._servers))}" if self._servers else "it has none"

    async def _list_all(
        self, capability: str, fetch: Callable[[Client], Awaitable[list[T]]]
    ) -> list[tuple[GroupServer, list[T]]]:
        """Ask all connected servers at once; what is found is in the order of the servers."""
        found: dict[str, list[T]] = {}

        async def ask(server: GroupServer) -> None:
            with trio.move_on_after(server.timeout) as waiting:
                found[server.name] = await _list_one(server, capability, fetch)
            if waiting.cancelled_caught:
                _leave_out(server, capability, f"no answer within {describe_seconds(server.timeout)}")

        asked = self._connected(lambda server: True)
        async with trio.open_nursery() as nursery:
            for server in asked:
                nursery.start_soon(ask, server)
        return [(server, found.get(server.name, [])) for server in asked]


async def _list_one(
    server: GroupServer, capability: str, fetch: Callable[[Client], Awaitable[list[T]]]
) -> list[T]:
    is_declared = True
    try:
        client = server.client
        is_declared = capability in client.server_capabilities
        if is_declared or capability == "tools":  # which some servers do not declare
            return await fetch(client)
    except MCPError as error:
        if is_declared or not (isinstance(error, ProtocolError) and error.code == METHOD_NOT_FOUND):
            _leave_out(server, capability, describe_error(error))
    return []


def _leave_out(server: GroupServer, what: str, reason: str) -> None:
    logger.warning("the %s of %r are left out: %s", what, server.name, reason)


def _with_prefix(server: GroupServer, item: Listed) -> Listed:
    return msgspec.structs.replace(item, name=server.prefix + item.name)


def check_prefixes(servers: Sequence[GroupServer]) -> None:
    """Raise ValueError if a name could belong to two of the servers."""
    for index, one in enumerate(servers):
        for other in servers[:index]:
            short, long = sorted((one, other), key=lambda server: len(server.prefix))
            if long.prefix.startswith(short.prefix):
                raise ValueError(
                    f"servers {other.name!r} and {one.name!r} clash: a name that begins with {long.prefix!r} "
                    f"could belong to either; give one of them another prefix (ServerEntry)"
                )


@asynccontextmanager
async def open_group(
    servers: Mapping[str, ServerEntry | Target] | Mapping[str, Any] | str | os.PathLike[str],
    *,
    server_timeout: float = SERVER_SECONDS,
    **options: Unpack[ConnectionOptions],
) -> AsyncIterator[ClientGroup]:
    """Connect to several servers for as long as the block lasts; checkpoints.

    `servers` are targets of `open_client` by name, or `ServerEntry`s for what is special about one; or the
    object with `mcpServers` that hosts use, or the path of a JSON file with it (see `read_mcp_servers`).
    `options` are keyword arguments of `open_client`, for every server.

    The servers are connected to at once. The block begins when each is connected or has failed, as it also
    has if that takes longer than `server_timeout` seconds. A server that fails, then or later, is logged; the
    others go on, and what is called on it raises ServerUnavailable. When the block ends, all connections are
    closed.

    Raises ValueError for prefixes that clash and for what is wrong in the JSON, TypeError for
    options that do not exist, and OSError if the file cannot be read. An exception that the block raises is
    not wrapped in a group.
    """
    require_seconds("server_timeout", server_timeout)
    check_options(options)
    if isinstance(servers, (str, os.PathLike)):
        servers = read_mcp_servers(await trio.Path(servers).read_bytes())
    elif isinstance(servers.get(MEMBER), Mapping):
        servers = read_mcp_servers(servers)
    async with open_service_nursery() as nursery:
        group = ClientGroup(nursery, options, server_timeout)
        try:
            started = [group._start(name, server) for name, server in servers.items()]
            for server in started:
                await server.wait_opened()
            yield group
        finally:
            for server in group.servers.values():
                server.leave()
