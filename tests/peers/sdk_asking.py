"""Asking with the official SDK: `python sdk_asking.py serve`, or `python sdk_asking.py MODE COMMAND...`.

The first is a stdio server. The second is a client of the stdio server COMMAND. It prints what it saw.
"""

import json
import os
import sys
import warnings
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, MCPDeprecationWarning, StdioServerParameters, stdio_client
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel, Field

RUN_SECONDS = 100


class Order(BaseModel):
    what: str
    count: int = Field(default=2, ge=1)


def make_server() -> MCPServer:
    server = MCPServer("sdk-asking", version="1.0", log_level="ERROR")

    @server.tool()
    async def order(ctx: Context) -> str:
        """Ask for an order, a page, a model and the roots."""
        form = await ctx.elicit("What?", Order)
        page = await ctx.elicit_url("Pay", "https://example.com/pay", "pay")
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="A name?"))
        model = await ctx.session.create_message(messages=[message], max_tokens=10)
        roots = await ctx.session.list_roots()
        names = [root.name for root in roots.roots]
        return f"{form.data.what} {form.data.count} {page.action} {model.content.text} {names}"

    return server


async def report(mode: str, command: str, *args: str) -> None:
    asked: list[Any] = []

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        if params.mode == "url":
            asked.append(params.url)
            return types.ElicitResult(action="accept")
        asked.append(sorted(params.requested_schema["properties"]))
        return types.ElicitResult(action="accept", content={"what": "tea", "size": "l"})

    async def sample(context: Any, params: Any) -> types.CreateMessageResult:
        asked.append(params.messages[0].content.text)
        content = types.TextContent(type="text", text="Ada")
        return types.CreateMessageResult(role="assistant", content=content, model="model-1")

    async def list_roots(context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri="file:///work", name="Work")])

    with anyio.fail_after(RUN_SECONDS):
        transport = stdio_client(
            StdioServerParameters(command=command, args=list(args), env=dict(os.environ))
        )
        callbacks: Any = {"elicitation_callback": elicit, "sampling_callback": sample}
        async with Client(transport, mode=mode, list_roots_callback=list_roots, **callbacks) as client:
            result = await client.call_tool("order", {})
    print(json.dumps({"asked": asked, "text": result.content[0].text}))


if __name__ == "__main__":
    # sampling and roots are deprecated from 2026-07-28 on, but still part of the protocol.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    if sys.argv[1] == "serve":
        anyio.run(make_server().run_stdio_async)
    else:
        anyio.run(report, *sys.argv[1:])
