"""A protected server, its authorization server and a client, in one process.

The authorization server is the one for development, so nobody needs an account anywhere. The client knows
only the URL of the server: it is refused, finds the authorization server, registers itself, and takes its
user there, who grants what is asked for. A tool that needs another scope makes the client ask again.
It prints:

    without a token: an access token is needed (-32600)
    with a token for another server: the access token is meant for another server (-32600)
    alice has 2 albums
    alice has deleted summer
    alice was asked for: read; delete read
"""

import socket
from functools import partial

import trio

from trio_mcp import Bearer, Context, JwtVerifier, MCPError, OAuth, Server, open_client, serve_http
from trio_mcp.testing import DevAuthorizationServer, open_authorization_server

server = Server("albums")


def find_user(ctx: Context) -> str | None:
    return None if ctx.principal is None else ctx.principal.subject


@server.tool(scopes=["read"])
def count(ctx: Context) -> str:
    """Count your albums."""
    return f"{find_user(ctx)} has 2 albums"


@server.tool(scopes=["delete"])
def delete(ctx: Context, album: str) -> str:
    """Delete an album."""
    return f"{find_user(ctx)} has deleted {album}"


async def use_server(url: str, issuer: DevAuthorizationServer) -> None:
    for what, auth in (
        ("without a token", None),
        ("with a token for another server", issuer.issue_token("alice", audience="https://other.example")),
    ):
        try:
            async with open_client(url, auth=auth) as client:
                await client.list_tools()
        except MCPError as error:
            print(f"{what}:", error)

    # `open_browser` shows a URL to the user. Here the authorization server plays the user, who grants all.
    async with open_client(url, auth=OAuth(open_browser=issuer.open_browser)) as client:
        print((await client.call_tool("count")).data)
        print((await client.call_tool("delete", {"album": "summer"})).data)


async def main() -> None:
    with socket.socket() as free:  # finds a free port; a real server has a URL that is known beforehand
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url = f"http://{address}/mcp"  # which tokens for this server name as their audience

    async with open_authorization_server() as issuer, trio.open_nursery() as nursery:
        auth = Bearer(JwtVerifier(issuer.issuer, audience=url), scopes=["read"])
        await nursery.start(partial(serve_http, server, bind=address, auth=auth))
        await use_server(url, issuer)
        asked = [request.parameters["scope"][0] for request in issuer.seen if request.endpoint == "authorize"]
        print("alice was asked for:", "; ".join(asked))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
