"""What a proxy offers: the tools, prompts and resources of other servers, as definitions of its own.

Owns how each is made of what the upstream server lists, which is shown as it is but for a prefix of its name.
Refuses to know how a request is handed on: that is the matter of `Forwarder`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn, Protocol, TypeVar

import attrs
import msgspec
import trio

from trio_mcp.client.link import Link
from trio_mcp.schema.parameters import read_parameters
from trio_mcp.schema.signatures import Subject
from trio_mcp.schema.verbatim import VerbatimParameters
from trio_mcp.server.completers import Completer
from trio_mcp.server.context import Context
from trio_mcp.server.functions import NO_SCOPES
from trio_mcp.server.prompt import PromptDefinition
from trio_mcp.server.resource import ResourceDefinition
from trio_mcp.server.resource_table import ResourceTable
from trio_mcp.server.results import FREE
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.wire.eras import Era
from trio_mcp.wire.http import read_parameter_headers
from trio_mcp.wire.messages import CallToolResult, PromptReference, ResourceTemplateReference, Tool
from trio_mcp.wire.prompts import Completion, GetPromptResult, Prompt
from trio_mcp.wire.resources import ReadResourceResult, Resource, ResourceTemplate
from trio_mcp.wire.tasks import EXTENSION
from trio_mcp.wire.uri_template import parse_template

logger = logging.getLogger("trio_mcp.proxy")

T = TypeVar("T", bound=Tool | Prompt)


class Forwarder(Protocol):
    """Hands requests on to one upstream server, by the names that it uses itself."""

    async def call_tool(self, context: Context, name: str, arguments: msgspec.Raw | None) -> CallToolResult:
        """Call a tool; checkpoints."""

    async def get_prompt(self, context: Context, name: str, arguments: Mapping[str, Any]) -> GetPromptResult:
        """Get a prompt; checkpoints."""

    async def read_resource(self, context: Context, uri: str) -> ReadResourceResult:
        """Read a resource; checkpoints."""

    async def complete(
        self,
        context: Context,
        ref: PromptReference | ResourceTemplateReference,
        argument: Mapping[str, str],
        known: Mapping[str, str],
    ) -> Completion:
        """Complete an argument; checkpoints."""


def _never_called(ctx: Context) -> NoReturn:
    raise AssertionError("the definition hands a request on instead of calling a function")


_CONTEXT_ONLY: Final = read_parameters(_never_called, Context, Subject("a function that is never called"))


def _take_anything(schema: dict[str, Any]) -> VerbatimParameters:
    """The upstream server checks the arguments."""
    return VerbatimParameters(schema, None, None, lambda value: None)


class ProxyTool(ToolDefinition, frozen=True, kw_only=True):
    """A tool of an upstream server, which calls it `remote_name`."""

    forwarder: Forwarder
    remote_name: str

    def listing_for(self, era: Era) -> Tool:
        """How clients of `era` see the tool."""
        if era.tasks != "legacy" and self.listing.execution is not None:
            return msgspec.structs.replace(self.listing, execution=None)
        return super().listing_for(era)

    async def call(
        self, context: Context | None, arguments: msgspec.Raw | None, limiter: trio.CapacityLimiter
    ) -> CallToolResult:
        """Call the tool of the upstream server; checkpoints. Raises ProtocolError."""
        assert context is not None, "the definition takes the context"
        return await self.forwarder.call_tool(context, self.remote_name, arguments)


@attrs.frozen
class ProxyPrompt(PromptDefinition):
    """A prompt of an upstream server, which calls it `remote_name`."""

    forwarder: Forwarder = attrs.field(kw_only=True)
    remote_name: str = attrs.field(kw_only=True)
    takes_context: bool = attrs.field(kw_only=True, default=True)

    async def get(
        self,
        context: Context | None,
        arguments: Mapping[str, Any],
        limiter: trio.CapacityLimiter,
        max_values: int,
    ) -> GetPromptResult:
        """Get the prompt of the upstream server; checkpoints. Raises ProtocolError."""
        assert context is not None, "the definition takes the context"
        return await self.forwarder.get_prompt(context, self.remote_name, arguments)


@attrs.frozen
class ProxyResource(ResourceDefinition):
    """A resource of an upstream server, or a template; one that cannot be read here matches nothing."""

    forwarder: Forwarder = attrs.field(kw_only=True)
    is_readable: bool = attrs.field(kw_only=True, default=True)

    def match(self, uri: str) -> Mapping[str, str | list[str]] | None:
        """The values of the variables in `uri`, or None if it names another resource."""
        return super().match(uri) if self.is_readable else None

    async def read(
        self,
        context: Context,
        uri: str,
        values: Mapping[str, str | list[str]],
        limiter: trio.CapacityLimiter,
    ) -> ReadResourceResult:
        """Read the resource of the upstream server; checkpoints. Raises ProtocolError."""
        return await self.forwarder.read_resource(context, uri)


@attrs.frozen
class ProxyCompleter(Completer):
    """Lets the upstream server complete one argument of what `ref` names."""

    forwarder: Forwarder = attrs.field(kw_only=True)
    ref: PromptReference | ResourceTemplateReference = attrs.field(kw_only=True)
    argument: str = attrs.field(kw_only=True)

    async def complete(
        self, context: Context, value: str, arguments: Mapping[str, str], limiter: trio.CapacityLimiter
    ) -> Completion:
        """Ask the upstream server for values; checkpoints. Raises ProtocolError."""
        argument = {"name": self.argument, "value": value}
        return await self.forwarder.complete(context, self.ref, argument, arguments)


def _renamed(listing: T, prefix: str) -> T:
    return msgspec.structs.replace(listing, name=prefix + listing.name) if prefix else listing


def make_tool(listing: Tool, forwarder: Forwarder, prefix: str, link: Link) -> ProxyTool:
    """The definition of a tool that the server behind `link` lists."""
    try:
        headers = read_parameter_headers(listing.input_schema)
    except ValueError:  # clients leave the tool out over HTTP, as they would that of the upstream server
        headers = {}
    return ProxyTool(
        listing=_renamed(listing, prefix),
        function=_never_called,
        parameters=_take_anything(listing.input_schema),
        returns=FREE,
        is_async=True,
        task=_find_task_config(listing, link),
        headers=headers,
        scopes=NO_SCOPES,
        takes_context=True,
        forwarder=forwarder,
        remote_name=listing.name,
    )


def _find_task_config(listing: Tool, link: Link) -> TaskConfig | None:
    """How a call may be a task: as with the upstream server, which decides by itself in the modern era."""
    capabilities = link.agreement.capabilities
    if link.era.tasks == "extension":
        extensions = capabilities.get("extensions")
        has_tasks = isinstance(extensions, Mapping) and EXTENSION in extensions
        return TaskConfig(promote_after=math.inf) if has_tasks else None
    mode = None if listing.execution is None else listing.execution.task_support
    if link.era.tasks == "none" or "tasks" not in capabilities or mode in (None, "forbidden"):
        return None
    # A server of this revision makes no task unasked, so the proxy does for clients that can have one.
    return TaskConfig(mode="required" if mode == "required" else "optional")


def make_prompt(listing: Prompt, forwarder: Forwarder, prefix: str, *, completes: bool) -> ProxyPrompt:
    """The definition of a prompt; the server completes its arguments if it `completes`."""
    names = [argument.name for argument in listing.arguments or ()]
    ref = PromptReference(name=listing.name)
    return ProxyPrompt(
        listing=_renamed(listing, prefix),
        function=_never_called,
        parameters=_CONTEXT_ONLY,
        is_async=True,
        completers=_make_completers(forwarder, ref, names) if completes else {},
        takes_context=True,
        forwarder=forwarder,
        remote_name=listing.name,
    )


def make_resource(
    listing: Resource | ResourceTemplate, forwarder: Forwarder, *, completes: bool
) -> ProxyResource:
    """The definition of a resource or a template; the server completes its variables if it `completes`."""
    uri = listing.uri if isinstance(listing, Resource) else listing.uri_template
    template, is_readable = None, True
    if not isinstance(listing, Resource):
        try:
            template = parse_template(uri)
        except ValueError as error:
            logger.debug("the template %r is listed, and matches nothing here: %s", uri, error)
            template, is_readable = parse_template("unreadable:template"), False
    names = () if template is None else tuple(template.names)
    return ProxyResource(
        uri=uri,
        listing=listing,
        template=template,
        function=_never_called,
        parameters=_CONTEXT_ONLY,
        returns=FREE,
        is_async=True,
        lists=frozenset(),
        completers=_make_completers(forwarder, ResourceTemplateReference(uri), names) if completes else {},
        forwarder=forwarder,
        is_readable=is_readable,
    )


@attrs.define(eq=False)
class ProxyResources(ResourceTable):
    """The resources of a proxy; `fallback` reads those that nobody lists, if there is one server alone."""

    fallback: Forwarder | None = None

    def find(self, uri: str) -> tuple[ResourceDefinition, Mapping[str, str | list[str]]] | None:
        """The resource that `uri` names, and the values of its variables."""
        found = super().find(uri)
        if found is not None or self.fallback is None:
            return found
        return make_resource(Resource(uri=uri, name=uri), self.fallback, completes=False), {}


def _make_completers(
    forwarder: Forwarder, ref: PromptReference | ResourceTemplateReference, names: Any
) -> dict[str, Completer]:
    return {
        name: ProxyCompleter(
            function=_never_called,
            is_async=True,
            value_name="value",
            arguments_name=None,
            context_name=None,
            forwarder=forwarder,
            ref=ref,
            argument=name,
        )
        for name in names
    }
