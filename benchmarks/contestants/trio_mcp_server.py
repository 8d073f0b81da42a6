"""The benchmark's server, made with trio_mcp: `python trio_mcp_server.py [http] [OPTION]...`.

`sdk_server.py` has the same tools. Over HTTP it prints the URL of its endpoint, and serves until its
standard input ends. If strict, each report is a schedule point. If at-once, the writer never waits for
further messages, which shows what waiting costs. If protected, it wants access tokens, and prints one behind
the URL.
"""

import os
import sys
from functools import partial
from typing import Any

import trio
from tally import report_burst, report_paced
from trio_mcp_loops import add_loops

from trio_mcp import Context, Lossless, Server, ServerSettings
from trio_mcp.outgoing import outbox


def make_server(*, strict: bool = False) -> Server:
    # Lossless, because the rivals have no other policy: every update of the burst has to arrive.
    settings = ServerSettings(progress=Lossless(), strict_yield=strict)
    server = Server("benchmark", version="1.0", settings=settings)

    @server.tool
    async def burst(n: int, ctx: Context) -> str:
        """Report n updates in a tight loop."""
        await report_burst(ctx.report_progress, n)
        return "done"

    @server.tool
    async def paced(n: int, rate: float, ctx: Context) -> str:
        """Report n updates at `rate` a second, each with the time."""
        await report_paced(ctx.report_progress, trio.sleep, n, rate)
        return "done"

    @server.tool
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    @server.tool
    async def pid() -> str:
        """Return the number of this process."""
        return str(os.getpid())

    add_loops(server)
    return server


def make_protection() -> tuple[Any, str]:
    """A guard for JSON Web Tokens of an issuer in this process, and a token."""
    from trio_mcp import Bearer, JwtVerifier
    from trio_mcp.testing.authorization import DevAuthorizationServer

    issuer = DevAuthorizationServer()
    audience = "https://benchmark.example/mcp"
    verify = JwtVerifier(issuer.issuer, audience, keys=issuer.keys.document())
    token = issuer.issue_token(audience=audience, scopes=["read"], expires_in=86_400)
    return Bearer(verify, scopes=["read"]), token


async def serve(server: Server, *, protected: bool = False) -> None:
    from trio_mcp import serve_http  # a server on stdio starts without it

    guarded, said = {}, ""
    if protected:
        auth, said = make_protection()
        guarded = {"auth": auth}
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0", **guarded))
        print(url, said, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if "at-once" in sys.argv[1:]:
        outbox.QUIET_ROUNDS = 0  # type: ignore[misc]
    chosen = make_server(strict="strict" in sys.argv[1:])
    if "http" in sys.argv[1:]:
        trio.run(partial(serve, chosen, protected="protected" in sys.argv[1:]))
    else:
        chosen.run()
