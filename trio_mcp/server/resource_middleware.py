"""Middleware around the reads of resources: what it is given, and the resource that it runs around.

Knows nothing of requests. It is imported when a server is first given middleware for its resources.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import attrs
import trio
from msgspec.structs import replace

from trio_mcp.server.completers import Completer
from trio_mcp.server.context import Context, share_context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.layers import Layers
from trio_mcp.server.resource import ResourceDefinition
from trio_mcp.wire.content import ResourceContents
from trio_mcp.wire.resources import ReadResourceResult


class ResourceContext(Context):
    """What middleware around resources is given: the Context of the read, with the resource and its URI."""

    __slots__ = ("_complete", "_context", "_limiter", "resource", "uri", "values")

    def __init__(
        self,
        context: Context,
        resource: ResourceDefinition,
        uri: str,
        values: Mapping[str, str | list[str]],
        limiter: trio.CapacityLimiter,
    ) -> None:
        share_context(context, self)
        self.resource = resource
        """The resource or the template: with its listing and its scopes."""
        self.uri = uri
        """The URI that is read."""
        self.values = values
        """The values of the variables of a template, as texts."""
        self._context = context
        self._limiter = limiter
        self._complete: ReadResourceResult | None = None

    def finish(self, contents: list[ResourceContents]) -> list[ResourceContents] | ReadResourceResult:
        """The result with these contents: with all else that a resource of another server has answered."""
        for one in contents:
            if not isinstance(one, ResourceContents):
                raise TypeError(f"middleware returned a list with {one!r:.100}, which is no ResourceContents")
        return contents if self._complete is None else replace(self._complete, contents=contents)


CallNextResource: TypeAlias = Callable[[ResourceContext], Awaitable[list[ResourceContents]]]
ResourceMiddleware: TypeAlias = Callable[
    [ResourceContext, CallNextResource], Awaitable[list[ResourceContents]]
]
"""An async function of the context and of `call_next`, which reads the resource."""


async def _read(context: ResourceContext) -> list[ResourceContents]:
    found = await context.resource.read(context._context, context.uri, context.values, context._limiter)
    if not isinstance(found, ReadResourceResult):
        return found
    context._complete = found
    return found.contents


@attrs.frozen(kw_only=True)
class LayeredResource(ResourceDefinition):
    """A resource or a template with middleware around it; `inner` is itself."""

    inner: ResourceDefinition
    layers: Layers[ResourceContext, list[ResourceContents]]

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said; None if the server decides."""
        return self.inner.shows_errors

    def find_completer(self, name: str) -> Completer | None:
        """What completes a variable; None if nothing does."""
        return self.inner.find_completer(name)

    def match(self, uri: str) -> Mapping[str, str | list[str]] | None:
        """The values of the variables in `uri`, or None if it names another resource."""
        return self.inner.match(uri)

    async def read(
        self,
        context: Context,
        uri: str,
        values: Mapping[str, str | list[str]],
        limiter: trio.CapacityLimiter,
    ) -> list[ResourceContents] | ReadResourceResult:
        """Run the middleware, and the resource where they say so; raises what they raise."""
        own = ResourceContext(context, self.inner, uri, values, limiter)
        return own.finish(await self.layers.run(own))


def make_resource_layers() -> Layers[ResourceContext, list[ResourceContents]]:
    """Layers around the resources of one server."""
    return Layers(_read, ResourceContext, list)


def put_around_resources(
    definition: ServerDefinition, layers: Layers[ResourceContext, list[ResourceContents]]
) -> None:
    """Let all resources and templates of a server, those of later too, be read inside of `layers`."""

    def wrap(resource: ResourceDefinition) -> ResourceDefinition:
        fields = {field.name: getattr(resource, field.name) for field in attrs.fields(ResourceDefinition)}
        return LayeredResource(**fields, inner=resource, layers=layers)

    table = definition.open_resources()
    table.resources.wrap_all(wrap)
    table.templates.wrap_all(wrap)
