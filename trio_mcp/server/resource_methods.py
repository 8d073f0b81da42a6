"""The methods by which clients list and read resources (MCP server features, "Resources").

Owns the answers to failures of a resource. It is imported when a client first asks for resources.
"""

from __future__ import annotations

from typing import Any, NoReturn

import trio
from msgspec import UNSET

from trio_mcp.concurrency.failures import leaves
from trio_mcp.errors import ArgumentError, ProtocolError, ResourceNotFound
from trio_mcp.server.child_calls import ChildCalls
from trio_mcp.server.context import Context
from trio_mcp.server.error_results import ErrorResults
from trio_mcp.server.pages import mark_list, read_page
from trio_mcp.server.progress_choice import ProgressChoice
from trio_mcp.server.resource_table import ResourceTable
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.settings import ServerSettings
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import ReadResourceParams, Result
from trio_mcp.wire.resources import (
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
)


class ResourceMethods:
    """Answers the resource methods of one running server; `calls` are what its handlers may call."""

    def __init__(
        self,
        table: ResourceTable,
        settings: ServerSettings,
        lifespan: Any,
        calls: ChildCalls,
        errors: ErrorResults,
        progress: ProgressChoice,
    ) -> None:
        self._table = table
        self._settings = settings
        self._lifespan = lifespan
        self._calls = calls
        self._errors = errors
        self._progress = progress
        # Not that of the tools: a resource that holds a thread may wait for a tool that needs one.
        self._limiter = trio.CapacityLimiter(settings.thread_limit)

    def list_resources(self, request: ServerRequest) -> Result:
        """Answer resources/list."""
        resources, cursor = read_page(request, self._table.resources, self._settings)
        listings = [found.listing for found in resources if isinstance(found.listing, Resource)]
        result = ListResourcesResult(resources=listings, next_cursor=cursor)
        return mark_list(request, result, self._settings, self._table.resources)

    def list_templates(self, request: ServerRequest) -> Result:
        """Answer resources/templates/list."""
        templates, cursor = read_page(request, self._table.templates, self._settings)
        listings = [found.listing for found in templates if isinstance(found.listing, ResourceTemplate)]
        result = ListResourceTemplatesResult(resource_templates=listings, next_cursor=cursor)
        return mark_list(request, result, self._settings, self._table.templates)

    async def read(self, request: ServerRequest) -> Result:
        """Answer resources/read."""
        params = request.params
        assert isinstance(params, ReadResourceParams)
        found = self._table.find(params.uri)
        if found is None:
            raise ResourceNotFound
        resource, values = found
        request.connection.require(resource.scopes)
        if resource.progress is not None or self._progress.for_all:
            self._progress.settle(request, resource.progress, resource.uri)
        if params.request_state is not UNSET or params.input_responses is not UNSET:
            await self._calls.rounds.resume(request)
        context = Context(request, None, self._lifespan, self._calls)
        contents = await resource.read(context, params.uri, values, self._limiter)
        if isinstance(contents, ReadResourceResult):
            return contents
        result = ReadResourceResult(contents=contents)
        cache = resource.cache or self._settings.read_cache
        if cache is not None and request.era.modern:
            cache.mark(result)
            if resource.scopes:
                result.cache_scope = "private"
        return result

    def describe_failure(self, request: ServerRequest, failure: BaseException) -> NoReturn:
        """Raise the ProtocolError that tells the client of `failure` (MCP resources, "Error Handling")."""
        assert isinstance(request.params, ReadResourceParams)
        if isinstance(failure, ProtocolError):
            raise failure
        uri = request.params.uri
        causes = list(leaves(failure))
        told = "\n".join(map(str, causes))
        if all(isinstance(cause, ResourceNotFound) for cause in causes):
            error = ProtocolError(request.era.unknown_resource, told)
        elif all(isinstance(cause, ArgumentError) for cause in causes):
            error = ProtocolError(INVALID_PARAMS, told)
        else:
            found = self._table.find(uri)
            name = uri if found is None else found[0].uri  # a client must not choose what is remembered
            errors = self._errors if found is None else self._errors.showing(found[0].shows_errors)
            error = errors.explain(f"resource {uri!r}", failure, logged_as=f"resource {name!r}")
        text = error.message.encode(errors="backslashreplace").decode()
        raise ProtocolError(error.code, text, {"uri": uri})
