"""The twin of `our_full_server.py` made with a Python peer: `python full_server.py mcp|fastmcp [http|sse]`.

It is a stdio server. With `http` or `sse` it prints the URL of its endpoint, and serves until its standard
input ends. In the modern era its tools return what they want to know, since neither peer can await an answer
there.
"""

import json
import logging
import sys
import warnings
from typing import Any

import anyio
import mcp_types as types
from listening import serve
from mcp import MCPDeprecationWarning
from pydantic import BaseModel

PLACE = "config://app"
CONFIG = '{"level": 3}'
LOGO = b"\x89PNG\r\n"
MODERN = "2026-07-28"


class Order(BaseModel):
    what: str
    size: str = "s"


class Name(BaseModel):
    name: str


def ask_form(message: str, *fields: str) -> types.ElicitRequest:
    properties = {field: {"type": "string"} for field in fields}
    schema = {"type": "object", "properties": properties, "required": [fields[0]]}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def ask_model(text: str) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(text=text))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=10)
    )


ORDER = {
    "form": ask_form("What?", "what", "size"),
    "page": types.ElicitRequest(
        params=types.ElicitRequestURLParams(message="Pay", url="https://example.com/pay")
    ),
    "model": ask_model("A name?"),
    "roots": types.ListRootsRequest(),
}
INTRODUCTION = {
    "first": ask_form("First name?", "name"),
    "last": ask_form("Last name?", "name"),
    "opinion": ask_model("Is that a good name?"),
}
STEPS = ["before all", "one name", "both names", "done"]


async def order_in_rounds(ctx: Any) -> Any:
    """Ask all at once."""
    answers = ctx.input_responses
    if answers is None:
        return types.InputRequiredResult(input_requests=ORDER)
    form, page, model, roots = (answers[key] for key in ORDER)
    names = [root.name for root in roots.roots]
    return f"{form.content['what']} {form.content['size']} {page.action} {model.content.text} {names}"


async def introduce_in_rounds(ctx: Any, greeting: str) -> Any:
    """Ask one after another; what was answered before is in the state."""
    known = json.loads(ctx.request_state or "[]")
    for answer in (ctx.input_responses or {}).values():
        known.append(answer.content["name"] if hasattr(answer, "action") else answer.content.text)
    await ctx.report_progress(len(known) + 1, 4, STEPS[len(known)])
    if len(known) == 3:
        return f"{greeting}, {known[0]} {known[1]}: {known[2]}"
    key = list(INTRODUCTION)[len(known)]
    return types.InputRequiredResult(input_requests={key: INTRODUCTION[key]}, request_state=json.dumps(known))


async def order_at_once(ctx: Any) -> str:
    form = await ctx.elicit("What?", Order)
    page = await ctx.session.elicit_url("Pay", "https://example.com/pay", "pay")
    model = await sample(ctx, "A name?")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        roots = await ctx.session.list_roots()
    names = [root.name for root in roots.roots]
    return f"{form.data.what} {form.data.size} {page.action} {model} {names}"


async def introduce_at_once(ctx: Any, greeting: str) -> str:
    await ctx.report_progress(1, 4, STEPS[0])
    first = await ctx.elicit("First name?", Name)
    await ctx.report_progress(2, 4, STEPS[1])
    last = await ctx.elicit("Last name?", Name)
    await ctx.report_progress(3, 4, STEPS[2])
    opinion = await sample(ctx, "Is that a good name?")
    await ctx.report_progress(4, 4, STEPS[3])
    return f"{greeting}, {first.data.name} {last.data.name}: {opinion}"


async def sample(ctx: Any, text: str) -> str:
    params = ask_model(text).params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        # Over HTTP the question goes by the stream of the call.
        answer = await ctx.session.create_message(
            messages=params.messages, max_tokens=params.max_tokens, related_request_id=ctx.request_id
        )
    return answer.content.text


async def hidden() -> str:
    """Be listed only if somebody shows it."""
    return "seen"


def add_readable(server: Any) -> None:
    """What both peers have alike."""

    @server.resource(PLACE, mime_type="application/json")
    def config() -> str:
        return CONFIG

    @server.resource("logo://app", mime_type="image/png")
    def logo() -> bytes:
        return LOGO

    @server.resource("users://{user_id}/profile")
    def profile(user_id: str) -> str:
        return f"user {user_id}"


def complete(
    ref: types.PromptReference | types.ResourceTemplateReference,
    argument: types.CompletionArgument,
    context: types.CompletionContext | None,
) -> list[str]:
    if isinstance(ref, types.ResourceTemplateReference):
        return [f"{argument.value}0", f"{argument.value}1"]
    known = (context.arguments if context else None) or {}
    return [f"{argument.value}{ending} {known.get('text', '')}" for ending in ("ry", "ramatic")]


def make_mcp() -> Any:
    from mcp.server.mcpserver import Context, Image, MCPServer
    from mcp.server.mcpserver.prompts.base import AssistantMessage, Message, UserMessage

    server = MCPServer("mcp-server", version="1.0", log_level="CRITICAL")
    add_readable(server)

    @server.prompt()
    def review(text: str, style: str = "dry") -> list[Message]:
        """Ask for a review."""
        return [UserMessage(f"Review in {style} style: {text}"), AssistantMessage("My first remark:")]

    @server.prompt()
    def look() -> Image:
        """Show a picture."""
        return Image(data=b"picture", format="png")

    @server.completion()
    async def completion(ref: Any, argument: Any, context: Any) -> types.Completion:
        return types.Completion(values=complete(ref, argument, context), total=2, has_more=False)

    @server.tool()
    async def show(ctx: Context) -> str:
        """Show the tool that is hidden."""
        server.add_tool(hidden)
        await ctx.notify_tools_changed()
        # The first reaches those who listen in the modern era only.
        if ctx.protocol_version != MODERN:
            await ctx.session.send_tool_list_changed()
        return "shown"

    @server.tool()
    async def touch(ctx: Context) -> str:
        """Tell that the resource has changed."""
        await ctx.notify_resource_updated(PLACE)
        return "touched"

    @server.tool(structured_output=False)
    async def order(ctx: Context) -> Any:
        """Ask for an order, a page, a model and the roots."""
        return await (order_in_rounds if ctx.protocol_version == MODERN else order_at_once)(ctx)

    @server.tool(structured_output=False)
    async def introduce(ctx: Context, greeting: str) -> Any:
        """Ask for two names and an opinion, and report progress between."""
        is_modern = ctx.protocol_version == MODERN
        return await (introduce_in_rounds if is_modern else introduce_at_once)(ctx, greeting)

    return server


def make_fastmcp() -> Any:
    from fastmcp import Context, FastMCP
    from fastmcp.prompts import Message
    from fastmcp.utilities.types import Image

    server = FastMCP("fastmcp-server", version="1.0")
    add_readable(server)

    @server.prompt
    def review(text: str, style: str = "dry") -> list[Message]:
        """Ask for a review."""
        return [
            Message(f"Review in {style} style: {text}"),
            Message("My first remark:", role="assistant"),
        ]

    @server.prompt
    def look() -> list[Message]:
        """Show a picture."""
        return [Message(Image(data=b"picture", format="png").to_image_content())]

    server.completion(complete)

    @server.tool
    async def show(ctx: Context) -> str:
        """Show the tool that is hidden."""
        server.add_tool(hidden)
        await ctx.send_notification(types.ToolListChangedNotification())
        return "shown"

    @server.tool
    async def touch(ctx: Context) -> str:
        """Tell that the resource has changed."""
        params = types.ResourceUpdatedNotificationParams(uri=PLACE)
        await ctx.send_notification(types.ResourceUpdatedNotification(params=params))
        return "touched"

    def is_modern(ctx: Context) -> bool:
        return ctx.request_context.protocol_version == MODERN

    @server.tool(output_schema=None)
    async def order(ctx: Context) -> Any:
        """Ask for an order, a page, a model and the roots."""
        return await (order_in_rounds if is_modern(ctx) else order_at_once)(ctx)

    @server.tool(output_schema=None)
    async def introduce(ctx: Context, greeting: str) -> Any:
        """Ask for two names and an opinion, and report progress between."""
        return await (introduce_in_rounds if is_modern(ctx) else introduce_at_once)(ctx, greeting)

    return server


async def main(maker: str, transport: str = "stdio") -> None:
    if maker == "mcp":
        server = make_mcp()
        if transport == "http":
            await serve(server.streamable_http_app(), "/mcp")
        elif transport == "sse":
            await serve(server.sse_app(), "/sse")
        else:
            await server.run_stdio_async()
    else:
        server = make_fastmcp()
        # It logs that it starts, and what is refused.
        logging.getLogger("fastmcp").setLevel(logging.CRITICAL)
        if transport == "http":
            await serve(server.http_app(path="/mcp"), "/mcp")
        else:
            await server.run_stdio_async(show_banner=False)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
