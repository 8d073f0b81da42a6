"""The benchmark's server, made with trio_mcp. `sdk_server.py` is its twin."""

from tally import MESSAGE

from trio_mcp import Context, Lossless, Server, ServerSettings


def make_server() -> Server:
    # Lossless, because the SDK is: every update of the burst has to arrive.
    server = Server("benchmark", version="1.0", settings=ServerSettings(progress=Lossless()))

    @server.tool
    async def burst(n: int, ctx: Context) -> str:
        """Report n updates in a tight loop."""
        for i in range(n):
            await ctx.report_progress(i + 1, n, MESSAGE)
        return "done"

    @server.tool
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    return server


if __name__ == "__main__":
    make_server().run()
