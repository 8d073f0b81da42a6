"""The helper that a handler reports with, as an object: what it shows of itself."""

from __future__ import annotations

from trio_mcp import Context, Server, open_client


async def test_a_helper_shows_its_values():
    seen: list[str] = []
    server = Server("shown")

    @server.tool
    async def work(ctx: Context) -> None:
        progress = ctx.progress()
        seen.append(repr(progress))
        progress.set_total(4)
        progress.increment()
        progress.set_message("half")
        seen.append(repr(progress))
        async with progress.stage("rest", weight=2) as stage:
            seen.append(repr(stage))

    async with open_client(server) as client:
        await client.call_tool("work")
    assert seen == [
        "<ProgressHelper current=None total=1 message=None>",
        "<ProgressHelper current=1 total=4 message='half'>",
        "<ProgressHelper current=None total=None message=None>",
    ]
