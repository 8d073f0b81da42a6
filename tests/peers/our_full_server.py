"""A server made with trio_mcp that has all that others use, over stdio, or over HTTP with `http`.

Over HTTP it prints its URL, and serves until its standard input, a pipe, ends. `full_server.py` and
`ts_full_server.mjs` are its twins, made with other implementations: most of it has the same names there.
"""

import sys
from functools import partial
from typing import Annotated, Literal

import attrs
import trio

from trio_mcp import Context, Image, Message, Server, serve_http, titles

PLACE = "config://app"
server = Server("our-full-server", version="1.0")


@server.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool
async def count(n: int, ctx: Context) -> str:
    """Count, with progress."""
    for i in range(n):
        await ctx.report_progress(i + 1, n, f"step {i + 1}")
    return f"counted {n}"


# What can be read.


@server.resource(PLACE)
def config() -> dict[str, int]:
    return {"level": 3}


@server.resource("logo://app", mime_type="image/png")
def logo() -> bytes:
    return b"\x89PNG\r\n"


@server.resource("users://{user_id}/profile")
def profile(user_id: int) -> str:
    return f"user {user_id}"


@profile.complete("user_id")
def complete_user(value: str) -> list[str]:
    return [f"{value}0", f"{value}1"]


# Prompts.


@server.prompt
def greet(name: str, style: Literal["short", "long"] = "short") -> str:
    """Ask for a greeting."""
    return f"Greet {name}, {style}"


@server.prompt
def review(text: str, style: str = "dry") -> list[Message]:
    """Ask for a review."""
    return [Message(f"Review in {style} style: {text}"), Message("My first remark:", role="assistant")]


@review.complete("style")
def complete_style(value: str, arguments: dict[str, str]) -> list[str]:
    return [f"{value}{ending} {arguments.get('text', '')}" for ending in ("ry", "ramatic")]


@server.prompt
def look() -> Image:
    """Show a picture."""
    return Image(b"picture", "png")


# What changes.


@server.tool
def hidden() -> str:
    """Be listed only if somebody shows it."""
    return "seen"


server.disable(tools="hidden")


@server.tool
async def show(ctx: Context) -> str:
    """Show the tool that is hidden."""
    ctx.server.enable(tools="hidden")
    return "shown"


@server.tool
async def hide(ctx: Context) -> str:
    """Hide that tool again."""
    ctx.server.disable(tools="hidden")
    return "hidden"


@server.tool
async def touch() -> str:
    """Tell that the resource has changed."""
    server.notify_resource_updated(PLACE)
    return "touched"


# What asks the client.


@attrs.frozen
class Order:
    what: str
    size: Annotated[Literal["s", "l"], titles(s="Small", l="Large")] = "s"


@server.tool
async def order(ctx: Context) -> str:
    """Ask for an order, a page, a model and the roots."""
    form = await ctx.elicit("What?", Order)
    page = await ctx.elicit_url("Pay", "https://example.com/pay", elicitation_id="pay")
    model = await ctx.sample("A name?", max_tokens=10)
    roots = await ctx.list_roots()
    assert form.data is not None
    return f"{form.data.what} {form.data.size} {page.action} {model.text} {[root.name for root in roots]}"


@attrs.frozen
class Name:
    name: str


@server.tool
async def introduce(ctx: Context, greeting: str) -> str:
    """Ask for two names and an opinion, and report progress between."""
    await ctx.report_progress(1, 4, "before all")
    first = await ctx.elicit("First name?", Name)
    await ctx.report_progress(2, 4, "one name")
    last = await ctx.elicit("Last name?", Name, key="last")
    await ctx.report_progress(3, 4, "both names")
    opinion = await ctx.sample("Is that a good name?", max_tokens=10)
    await ctx.report_progress(4, 4, "done")
    assert first.data is not None
    assert last.data is not None
    return f"{greeting}, {first.data.name} {last.data.name}: {opinion.text}"


@server.tool
async def decide(ctx: Context) -> str:
    """Ask for a name, and return what the user did."""
    return (await ctx.elicit("Whoever?", Name)).action


async def serve() -> None:
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0", sse=True))
        print(url, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        trio.run(serve)
    else:
        server.run()
