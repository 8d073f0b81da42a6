"""Middleware is typed by what it is put around, and decorators keep its type."""

from __future__ import annotations

from typing import Any, assert_type

import trio

from trio_mcp import GetPromptResult, ResourceContents, Server, open_client
from trio_mcp.middleware import (
    CallNext,
    CallNextPrompt,
    CallNextResource,
    CallNextTool,
    CallToolResult,
    LoggingMiddleware,
    PromptContext,
    RequestContext,
    ResourceContext,
    Result,
    TimingMiddleware,
    ToolContext,
)

server = Server("letters")
seen: list[str] = []


@server.middleware
async def note_request(ctx: RequestContext, call_next: CallNext) -> Result:
    assert_type(ctx.method, str)
    seen.append(ctx.method)
    return await call_next(ctx)


async def trim(ctx: ToolContext, call_next: CallNextTool) -> CallToolResult:
    assert_type(ctx.name, str)
    assert_type(ctx.arguments, dict[str, Any])
    result = await call_next(ctx.replace(arguments={"text": str(ctx.arguments["text"]).strip()}))
    assert_type(result, CallToolResult)
    return result


async def note_resource(ctx: ResourceContext, call_next: CallNextResource) -> list[ResourceContents]:
    assert_type(ctx.uri, str)
    return await call_next(ctx)


async def note_prompt(ctx: PromptContext, call_next: CallNextPrompt) -> GetPromptResult:
    assert_type(ctx.name, str)
    return await call_next(ctx)


class Counting:
    """A callable object is middleware as well."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, ctx: ToolContext, call_next: CallNextTool) -> CallToolResult:
        self.calls += 1
        return await call_next(ctx)


counting = server.add_tool_middleware(Counting())
assert_type(counting, Counting)
server.add_tool_middleware(trim)
server.add_resource_middleware(note_resource)
server.add_prompt_middleware(note_prompt)
server.add_middleware(LoggingMiddleware())
server.add_middleware(TimingMiddleware())


@server.tool
def count(text: str) -> int:
    return len(text)


async def main() -> None:
    async with open_client(server) as client:
        assert (await client.call_tool("count", {"text": " abc "}, result_type=int)).data == 3
    assert counting.calls == 1
    assert "tools/call" in seen


if __name__ == "__main__":
    trio.run(main)
