"""A stdio server whose tool asks twice, asks a model, and reports progress between."""

import dataclasses

from trio_mcp import Context, Server

server = Server("our-asking", version="1.0")


@dataclasses.dataclass
class Name:
    name: str


@server.tool
async def introduce(ctx: Context, greeting: str) -> str:
    """Ask for two names and an opinion."""
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


if __name__ == "__main__":
    server.run()
