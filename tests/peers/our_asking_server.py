"""A stdio server that asks its client, made with trio_mcp."""

from typing import Annotated, Literal

import attrs
import trio

from trio_mcp import Context, Server, serve_stdio, titles


@attrs.frozen
class Order:
    what: str
    size: Annotated[Literal["s", "l"], titles(s="Small", l="Large")] = "s"


server = Server("asking")


@server.tool
async def order(ctx: Context) -> str:
    """Ask for an order, a page, a model and the roots."""
    form = await ctx.elicit("What?", Order)
    page = await ctx.elicit_url("Pay", "https://example.com/pay", elicitation_id="pay")
    model = await ctx.sample("A name?", max_tokens=10)
    roots = await ctx.list_roots()
    assert form.data is not None
    return f"{form.data.what} {form.data.size} {page.action} {model.text} {[root.name for root in roots]}"


if __name__ == "__main__":
    trio.run(serve_stdio, server)
