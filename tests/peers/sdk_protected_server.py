"""A protected server made with the official SDK: `python sdk_protected_server.py ISSUER KEYS_URL`.

It prints the URL of its endpoint, and serves until its standard input ends. It takes access tokens of ISSUER,
signed with the keys at KEYS_URL, that are for it and have the scope "read". The SDK leaves their verification
to the program, here to PyJWT, which it depends on.
"""

import sys
from functools import partial

import anyio
import jwt
from anyio.to_thread import run_sync
from listening import listen, serve
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer


class JwtTokens:
    """The SDK's TokenVerifier."""

    def __init__(self, issuer: str, keys_url: str, audience: str) -> None:
        self._keys = jwt.PyJWKClient(keys_url)
        self._decode = partial(
            jwt.decode,
            algorithms=["ES256"],
            issuer=issuer,
            audience=audience,
            options={"require": ["exp", "iss", "aud"]},
        )
        self._audience = audience

    async def verify_token(self, token: str) -> AccessToken | None:
        """Whom the token is for, or None."""
        try:
            key = await run_sync(self._keys.get_signing_key_from_jwt, token)
            claims = self._decode(token, key)
        except jwt.PyJWTError:
            return None
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims.get("scope", "").split(),
            expires_at=claims["exp"],
            resource=self._audience,
            subject=claims["sub"],
        )


async def main(issuer: str, keys_url: str) -> None:
    listening, origin = listen()
    url = f"{origin}/mcp"
    settings = AuthSettings(
        issuer_url=issuer, resource_server_url=url, required_scopes=["read"], validate_token_resource=True
    )
    server = MCPServer(
        "sdk-server",
        log_level="ERROR",
        auth=settings,
        token_verifier=JwtTokens(issuer, keys_url, url),
    )

    @server.tool()
    async def whoami() -> str:
        """Who calls, and with which scopes."""
        token = get_access_token()
        assert token is not None
        return f"{token.subject}: {' '.join(token.scopes)}"

    await serve(server.streamable_http_app(), "/mcp", listening)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
