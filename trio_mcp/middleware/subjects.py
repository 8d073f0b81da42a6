"""What a middleware runs around: the name by which logs and times know it.

Owns these names for the contexts of all four kinds.
"""

from __future__ import annotations

from typing import Final

import attrs

from trio_mcp.server.prompt_middleware import PromptContext
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.server.request_middleware import RequestContext
from trio_mcp.server.resource_middleware import ResourceContext
from trio_mcp.server.tool_middleware import ToolContext
from trio_mcp.wire.messages import (
    CallToolParams,
    CompleteParams,
    GetPromptParams,
    ReadResourceParams,
    SubscribeParams,
    TaskIdParams,
)

MAX_CHARACTERS: Final = 256
"""A client chooses names and URIs; longer ones are cut."""


@attrs.frozen
class Subject:
    """A request by its method, or a run by its kind; `name` is what the client asks for, if it names one."""

    method: str
    name: str | None = None

    def __str__(self) -> str:
        return self.method if self.name is None else f"{self.method} {self.name}"


def find_subject(ctx: RequestFacts) -> Subject:
    """What `ctx` is the context of: a request, or the run of a "tool", a "resource" or a "prompt"."""
    if isinstance(ctx, RequestContext):
        name = _find_name(ctx)
        return Subject(ctx.method, None if name is None else name[:MAX_CHARACTERS])
    if isinstance(ctx, ToolContext):
        return Subject("tool", ctx.name)
    if isinstance(ctx, ResourceContext):
        return Subject("resource", ctx.uri[:MAX_CHARACTERS])
    assert isinstance(ctx, PromptContext), "a middleware is around one of four kinds"
    return Subject("prompt", ctx.name)


def _find_name(ctx: RequestContext) -> str | None:
    match ctx.params:
        case CallToolParams(name=name) | GetPromptParams(name=name):
            return name
        case ReadResourceParams(uri=uri) | SubscribeParams(uri=uri):
            return uri
        case TaskIdParams(task_id=task_id):
            return task_id
        case CompleteParams(argument=argument):
            return argument.name
    return None
