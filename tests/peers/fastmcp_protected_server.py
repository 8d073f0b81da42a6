"""A protected server made with FastMCP: `python fastmcp_protected_server.py ISSUER KEYS_URL`.

It prints the URL of its endpoint, and serves until its standard input ends. It takes access tokens of ISSUER,
signed with the keys at KEYS_URL, that are for it and have the scope "read".
"""

import logging
import sys

import anyio
from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token
from listening import listen, serve
from pydantic import AnyHttpUrl


async def main(issuer: str, keys_url: str) -> None:
    listening, origin = listen()
    verifier = JWTVerifier(
        jwks_uri=keys_url,
        issuer=issuer,
        audience=f"{origin}/mcp",
        algorithm="ES256",
        required_scopes=["read"],
    )
    auth = RemoteAuthProvider(verifier, authorization_servers=[AnyHttpUrl(issuer)], base_url=origin)
    server = FastMCP("fastmcp-server", auth=auth)

    @server.tool
    async def whoami() -> str:
        """Who calls, and with which scopes."""
        token = get_access_token()
        assert token is not None
        return f"{token.claims['sub']}: {' '.join(token.scopes)}"

    await serve(server.http_app(path="/mcp"), "/mcp", listening)


if __name__ == "__main__":
    logging.getLogger("fastmcp").setLevel(logging.CRITICAL)
    anyio.run(main, *sys.argv[1:])
