"""The twin of `full_server.py` for the official SDK's 1.x line: `python sdk1_full_server.py [http|sse]`."""

import sys
from typing import Any

import anyio
import mcp.types as types
from listening import serve
from mcp.server.fastmcp import Context, FastMCP, Image
from mcp.server.fastmcp.prompts.base import AssistantMessage, Message, UserMessage
from pydantic import BaseModel

PLACE = "config://app"
LOGO = b"\x89PNG\r\n"


class Order(BaseModel):
    what: str
    size: str = "s"


class Name(BaseModel):
    name: str


def make_server() -> FastMCP:
    server = FastMCP("sdk1-server", log_level="CRITICAL")
    add_readable(server)
    add_changes(server)
    add_questions(server)
    return server


def add_readable(server: FastMCP) -> None:
    @server.resource(PLACE, mime_type="application/json")
    def config() -> str:
        return '{"level": 3}'

    @server.resource("logo://app", mime_type="image/png")
    def logo() -> bytes:
        return LOGO

    @server.resource("users://{user_id}/profile")
    def profile(user_id: str) -> str:
        return f"user {user_id}"

    @server.prompt()
    def review(text: str, style: str = "dry") -> list[Message]:
        """Ask for a review."""
        return [UserMessage(f"Review in {style} style: {text}"), AssistantMessage("My first remark:")]

    @server.prompt()
    def look() -> list[Message]:
        """Show a picture."""
        return [UserMessage(Image(data=b"picture", format="png").to_image_content())]

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
        if isinstance(ref, types.ResourceTemplateReference):
            values = [f"{argument.value}0", f"{argument.value}1"]
        else:
            known = (context.arguments if context else None) or {}
            values = [f"{argument.value}{ending} {known.get('text', '')}" for ending in ("ry", "ramatic")]
        return types.Completion(values=values, total=2, hasMore=False)


async def hidden() -> str:
    """Be listed only if somebody shows it."""
    return "seen"


def add_changes(server: FastMCP) -> None:
    # It has no subscriptions of its own, but its lower layer takes handlers.
    subscribed: set[str] = set()
    lower = server._mcp_server

    @lower.subscribe_resource()
    async def subscribe(uri: Any) -> None:
        subscribed.add(str(uri))

    @lower.unsubscribe_resource()
    async def unsubscribe(uri: Any) -> None:
        subscribed.discard(str(uri))

    @server.tool()
    async def show(ctx: Context) -> str:
        """Show the tool that is hidden."""
        server.add_tool(hidden)
        await ctx.session.send_tool_list_changed()
        return "shown"

    @server.tool()
    async def touch(ctx: Context) -> str:
        """Tell that the resource has changed."""
        for uri in sorted(subscribed):
            await ctx.session.send_resource_updated(uri)
        return "touched"


def add_questions(server: FastMCP) -> None:
    async def sample(ctx: Context, text: str) -> str:
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=text))
        answer = await ctx.session.create_message(
            messages=[message], max_tokens=10, related_request_id=ctx.request_id
        )
        return answer.content.text

    @server.tool()
    async def order(ctx: Context) -> str:
        """Ask for an order, a page, a model and the roots."""
        form = await ctx.elicit("What?", Order)
        page = await ctx.elicit_url("Pay", "https://example.com/pay", "pay")
        model = await sample(ctx, "A name?")
        names = [root.name for root in (await ctx.session.list_roots()).roots]
        return f"{form.data.what} {form.data.size} {page.action} {model} {names}"

    @server.tool()
    async def introduce(ctx: Context, greeting: str) -> str:
        """Ask for two names and an opinion, and report progress between."""
        await ctx.report_progress(1, 4, "before all")
        first = await ctx.elicit("First name?", Name)
        await ctx.report_progress(2, 4, "one name")
        last = await ctx.elicit("Last name?", Name)
        await ctx.report_progress(3, 4, "both names")
        opinion = await sample(ctx, "Is that a good name?")
        await ctx.report_progress(4, 4, "done")
        return f"{greeting}, {first.data.name} {last.data.name}: {opinion}"


async def main(transport: str = "stdio") -> None:
    server = make_server()
    if transport == "http":
        await serve(server.streamable_http_app(), "/mcp")
    elif transport == "sse":
        await serve(server.sse_app(), "/sse")
    else:
        await server.run_stdio_async()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
