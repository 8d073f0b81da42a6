"""A stdio server with legacy subscriptions, which the official SDK has in its lower layer only."""

from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.stdio import stdio_server

PLACE = "config://app"
subscribed: set[str] = set()


async def list_resources(ctx: Any, params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[types.Resource(uri=PLACE, name="config")])


async def subscribe(ctx: Any, params: types.SubscribeRequestParams) -> types.EmptyResult:
    subscribed.add(str(params.uri))
    return types.EmptyResult()


async def unsubscribe(ctx: Any, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    subscribed.discard(str(params.uri))
    return types.EmptyResult()


async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[types.Tool(name="change", input_schema={"type": "object"})])


async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
    for uri in sorted(subscribed):
        await ctx.session.send_resource_updated(uri)
    await ctx.session.send_tool_list_changed()
    return types.CallToolResult(content=[types.TextContent(text=f"{sorted(subscribed)}")])


async def main() -> None:
    server: Any = Server(
        "lowlevel-server",
        version="1.0",
        on_list_resources=list_resources,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    options = server.create_initialization_options(NotificationOptions(tools_changed=True))
    async with stdio_server() as (read, write):
        await server.run(read, write, options)


if __name__ == "__main__":
    anyio.run(main)
