"""The official SDK's client with its own OAuth provider: `python sdk_oauth_client.py MODE URL`.

MODE is legacy or auto. It prints as JSON what it saw of the protected server at URL, which has the tools
`whoami`, for the scope "read", and `erase`, for another one. The page where a user would agree is asked for
by this program: the authorization server must redirect at once.
"""

import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.oauth2 import AuthorizationCodeResult
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

RUN_SECONDS = 100
REDIRECT = "http://localhost:3030/callback"


class MemoryStorage:
    """The SDK's TokenStorage."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client_info: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client_info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client_info = client_info


class User:
    """A browser whose user agrees to all; `asked` are the scopes that were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._callback = ""

    async def redirect(self, url: str) -> None:
        self.asked.append(parse_qs(urlsplit(url).query)["scope"][0])
        async with httpx2.AsyncClient() as http:
            self._callback = (await http.get(url)).headers["location"]

    async def callback(self) -> AuthorizationCodeResult:
        query = parse_qs(urlsplit(self._callback).query)
        assert "code" in query, query
        found = {name: query[name][0] for name in ("code", "state", "iss") if name in query}
        return AuthorizationCodeResult(**found)


async def run(mode: str, url: str) -> dict[str, Any]:
    user = User()
    metadata = OAuthClientMetadata(
        client_name="sdk",
        redirect_uris=[REDIRECT],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
    )
    auth = OAuthClientProvider(url, metadata, MemoryStorage(), user.redirect, user.callback)
    async with (
        httpx2.AsyncClient(auth=auth) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        return {
            "protocol_version": client.protocol_version,
            "tools": [tool.name for tool in (await client.list_tools()).tools],
            "whoami": (await client.call_tool("whoami", {})).content[0].text,
            "erase": (await client.call_tool("erase", {})).content[0].text,
            "asked": user.asked,
        }


async def main(mode: str, url: str) -> None:
    with anyio.fail_after(RUN_SECONDS):
        report = await run(mode, url)
    print(json.dumps(report))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
