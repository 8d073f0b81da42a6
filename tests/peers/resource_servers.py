"""Stdio servers with resources, prompts, completion and changes: `python resource_servers.py MAKER`.

MAKER is `sdk` or `lowlevel` (the official SDK; only the second has legacy subscriptions), or `fastmcp`.
"""

import sys
from typing import Any

import anyio

PLACE = "config://app"
PICTURE = b"\x89PNG\r\n"


def make_sdk() -> Any:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp_types import Completion, CompletionArgument, CompletionContext, PromptReference

    server = MCPServer("sdk-resources", version="1.0", log_level="ERROR")
    reads = 0

    @server.resource(PLACE, mime_type="application/json")
    def config() -> str:
        """How it is set up."""
        nonlocal reads
        reads += 1
        return f'{{"reads": {reads}}}'

    @server.resource("logo://app", mime_type="image/png")
    def logo() -> bytes:
        return PICTURE

    @server.resource("users://{name}/profile")
    def profile(name: str) -> str:
        return f"profile of {name}"

    @server.prompt()
    def greet(name: str) -> str:
        """Say hello."""
        return f"Greet {name}"

    @server.completion()
    async def complete(
        ref: PromptReference, argument: CompletionArgument, context: CompletionContext | None
    ) -> Completion:
        return Completion(values=[f"{argument.value}da", f"{argument.value}lan"], total=2, has_more=False)

    @server.tool()
    async def change(ctx: Context) -> str:
        """Tell of an update twice, and of a new tool."""
        await ctx.notify_resource_updated(PLACE)
        await ctx.notify_resource_updated(PLACE)
        server.add_tool(complete_nothing, name="new")
        await ctx.notify_tools_changed()
        return "changed"

    return server


async def complete_nothing() -> str:
    """Do nothing."""
    return "nothing"


def make_lowlevel() -> Any:
    import mcp_types as types
    from mcp.server.lowlevel import NotificationOptions, Server

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

    server: Any = Server(
        "lowlevel-resources",
        version="1.0",
        on_list_resources=list_resources,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    server.options = server.create_initialization_options(NotificationOptions(tools_changed=True))
    return server


async def run_lowlevel() -> None:
    from mcp.server.stdio import stdio_server

    server = make_lowlevel()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.options)


def make_fastmcp() -> Any:
    from fastmcp import FastMCP

    server = FastMCP("fastmcp-resources", version="1.0")

    @server.resource(PLACE, mime_type="application/json")
    def config() -> str:
        """How it is set up."""
        return '{"reads": 1}'

    @server.resource("logo://app", mime_type="image/png")
    def logo() -> bytes:
        return PICTURE

    @server.resource("users://{name}/profile")
    def profile(name: str) -> str:
        return f"profile of {name}"

    @server.prompt
    def greet(name: str) -> str:
        """Say hello."""
        return f"Greet {name}"

    @server.completion
    async def complete(ref: Any, argument: Any, context: Any = None) -> list[str]:
        return [f"{argument.value}da", f"{argument.value}lan"]

    return server


if __name__ == "__main__":
    match sys.argv[1]:
        case "sdk":
            anyio.run(make_sdk().run_stdio_async)
        case "lowlevel":
            anyio.run(run_lowlevel)
        case "fastmcp":
            make_fastmcp().run(transport="stdio", show_banner=False)
