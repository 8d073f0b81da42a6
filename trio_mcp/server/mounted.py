"""What a mounted server offers, as the server in which it is mounted offers it.

Owns how a handler of the mounted server is called: with a context of its own server, and in the threads of
that. Its progress, its questions and its cancellation are those of the request. Knows nothing of registries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs
import msgspec
import trio
from msgspec.structs import replace

from trio_mcp.errors import ResourceDefinitionError
from trio_mcp.outgoing.policy import Conflate, Heartbeat, ServerPolicy, reports_policy
from trio_mcp.schema.returns import find_return_type
from trio_mcp.server.child_calls import ChildCalls
from trio_mcp.server.completers import Completer
from trio_mcp.server.context import Context, enter_server, read_calls
from trio_mcp.server.mount_names import MountNames
from trio_mcp.server.prompt import PromptDefinition
from trio_mcp.server.resource import ResourceDefinition
from trio_mcp.server.running_mounts import MountedServer, RunningMounts
from trio_mcp.server.tool import ToolDefinition, check_name
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.wire.content import ResourceContents
from trio_mcp.wire.messages import CallToolResult
from trio_mcp.wire.prompts import Completion, GetPromptResult
from trio_mcp.wire.resources import ReadResourceResult, Resource
from trio_mcp.wire.uri_template import parse_template


class _Entered(msgspec.Struct, frozen=True):
    """A call in the mounted server: its `context` there, and the threads of sync functions."""

    context: Context
    limiter: trio.CapacityLimiter
    server: MountedServer


async def _enter(
    names: MountNames, context: Context, limiter: trio.CapacityLimiter, *, is_async: bool
) -> _Entered:
    """Go on with the call of `context` in the mounted server; checkpoints if its lifespan must begin first.

    `limiter` has the threads that the call would use where the server is mounted.
    """
    outer = cast("ChildCalls", read_calls(context))
    mounts: RunningMounts = outer.mounts
    server = await mounts.find(names.definition)
    limiter = mounts.choose_limiter(limiter, server.limiter)
    calls = server.calls_of_async if is_async else server.calls_of_sync
    if outer.path:  # a handler has called it
        calls = replace(
            calls,
            limiter=limiter,
            path=outer.path,
            gathered=outer.gathered,
            arguments=outer.arguments,
            parent=outer.parent,
            prefix=outer.prefix,
        )
    return _Entered(enter_server(context, calls, server.lifespan), limiter, server)


class MountedTool(ToolDefinition, frozen=True, kw_only=True):
    """A tool of a mounted server; `inner` is what that offers."""

    inner: ToolDefinition
    names: MountNames

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said: as its own server says."""
        return _shows_errors(self.inner, self.names)

    async def call(
        self, context: Context | None, arguments: msgspec.Raw | None, limiter: trio.CapacityLimiter
    ) -> CallToolResult:
        """Call the tool in its own server; raises what it raises."""
        assert context is not None, "the tool takes a context"
        entered = await _enter(self.names, context, limiter, is_async=not self.holds_thread)
        inner = self.inner
        result = await inner.call(
            entered.context if inner.takes_context else None, arguments, entered.limiter
        )
        content = self.names.show_blocks(result.content)
        return result if content is result.content else replace(result, content=content)


@attrs.frozen(kw_only=True)
class MountedPrompt(PromptDefinition):
    """A prompt of a mounted server; `inner` is what that offers."""

    inner: PromptDefinition
    names: MountNames

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said: as its own server says."""
        return _shows_errors(self.inner, self.names)

    def find_completer(self, name: str) -> Completer | None:
        """What completes an argument, in its own server."""
        return _mount_completer(self.inner.find_completer(name), self.names)

    async def get(
        self,
        context: Context | None,
        arguments: Mapping[str, Any],
        limiter: trio.CapacityLimiter,
        max_values: int,
    ) -> GetPromptResult:
        """Get the prompt in its own server; raises what it raises."""
        assert context is not None, "the prompt takes a context"
        entered = await _enter(self.names, context, limiter, is_async=False)
        inner = self.inner
        own = entered.context if inner.takes_context else None
        result = await inner.get(own, arguments, entered.limiter, max_values)
        messages = [
            replace(message, content=self.names.show_block(message.content)) for message in result.messages
        ]
        return replace(result, messages=messages)


@attrs.frozen(kw_only=True)
class MountedResource(ResourceDefinition):
    """A resource or a template of a mounted server; `inner` is what that offers."""

    inner: ResourceDefinition
    names: MountNames

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said: as its own server says."""
        return _shows_errors(self.inner, self.names)

    def find_completer(self, name: str) -> Completer | None:
        """What completes a variable, in its own server."""
        return _mount_completer(self.inner.find_completer(name), self.names)

    async def read(
        self,
        context: Context,
        uri: str,
        values: Mapping[str, str | list[str]],
        limiter: trio.CapacityLimiter,
    ) -> list[ResourceContents] | ReadResourceResult:
        """Read the resource in its own server; raises what it raises."""
        entered = await _enter(self.names, context, limiter, is_async=False)
        own_uri = self.names.read_uri(self.inner, uri, values)
        found = await self.inner.read(entered.context, own_uri, values, entered.server.reading_limiter)
        if isinstance(found, ReadResourceResult):
            return replace(found, contents=self.names.show_contents(found.contents, own_uri, uri))
        return self.names.show_contents(found, own_uri, uri)


@attrs.frozen(kw_only=True)
class MountedCompleter(Completer):
    """A function that completes an argument in a mounted server."""

    inner: Completer
    names: MountNames

    async def complete(
        self, context: Context, value: str, arguments: Mapping[str, str], limiter: trio.CapacityLimiter
    ) -> Completion:
        """Complete it in its own server; raises what it raises."""
        entered = await _enter(self.names, context, limiter, is_async=False)
        return await self.inner.complete(entered.context, value, arguments, entered.limiter)


def mount_tool(inner: ToolDefinition, name: str, names: MountNames) -> ToolDefinition:
    """The tool under another name, as one of the server in which its own is mounted."""
    check_name(name)
    fields = {field: getattr(inner, field) for field in ToolDefinition.__struct_fields__}
    fields |= {
        "listing": replace(inner.listing, name=name),
        "task": _mount_task(inner.task, names, is_async=not inner.holds_thread),
        "progress": _find_policy(inner.progress, names),
        "takes_context": True,
    }
    return MountedTool(**fields, inner=inner, names=names)


def mount_prompt(inner: PromptDefinition, name: str, names: MountNames) -> PromptDefinition:
    """The prompt under another name, as one of the server in which its own is mounted."""
    fields = {field.name: getattr(inner, field.name) for field in attrs.fields(PromptDefinition)}
    fields |= {
        "listing": replace(inner.listing, name=name),
        "progress": _find_policy(inner.progress, names),
        "takes_context": True,
    }
    return MountedPrompt(**fields, inner=inner, names=names)


def mount_resource(inner: ResourceDefinition, uri: str, names: MountNames) -> ResourceDefinition:
    """The resource, or template, under another URI; raises ResourceDefinitionError if it cannot have that."""
    try:
        template = parse_template(uri)
    except ValueError as error:
        raise ResourceDefinitionError(f"resource {uri!r}: {error}") from None
    if sorted(template.names) != sorted(inner.variable_names):
        raise ResourceDefinitionError(
            f"resource {inner.uri!r} cannot be mounted as {uri!r}, which has other variables"
        )
    listing = inner.listing
    fields = {field.name: getattr(inner, field.name) for field in attrs.fields(ResourceDefinition)}
    fields |= {
        "uri": uri,
        "listing": (
            replace(listing, uri=uri) if isinstance(listing, Resource) else replace(listing, uri_template=uri)
        ),
        "template": None if inner.template is None else template,
        "cache": inner.cache or names.definition.settings.read_cache,
        "progress": _find_policy(inner.progress, names),
    }
    return MountedResource(**fields, inner=inner, names=names)


def _shows_errors(inner: ToolDefinition | PromptDefinition | ResourceDefinition, names: MountNames) -> bool:
    own = inner.shows_errors
    return names.definition.settings.show_errors if own is None else own


def _find_policy(own: ServerPolicy | None, names: MountNames) -> ServerPolicy | None:
    """Its own policy or that of its server; None for that of the server in which it is mounted."""
    chosen = names.definition.settings.progress
    if chosen == Conflate():
        return own
    if isinstance(own, Heartbeat) and own.policy is None:
        return attrs.evolve(own, policy=reports_policy(chosen))
    return chosen if own is None else own


def _mount_task(task: TaskConfig | None, names: MountNames, *, is_async: bool) -> TaskConfig | None:
    if task is None or task.gather is None:
        return task
    return attrs.evolve(task, gather=_mount_gather(task.gather, names, is_async=is_async))


def _mount_gather(gather: Callable[..., Any], names: MountNames, *, is_async: bool) -> Callable[..., Any]:
    async def gather_there(context: Context, values: Any) -> Any:
        limiter = cast("ChildCalls", read_calls(context)).limiter
        entered = await _enter(names, context, limiter, is_async=is_async)
        return await gather(entered.context, values)

    # By it, what another process has gathered comes back from JSON.
    gather_there.__annotations__ = {"return": find_return_type(gather)}
    return gather_there


def _mount_completer(inner: Completer | None, names: MountNames) -> Completer | None:
    if inner is None:
        return None
    fields = {field.name: getattr(inner, field.name) for field in attrs.fields(Completer)}
    return MountedCompleter(**fields, inner=inner, names=names)
