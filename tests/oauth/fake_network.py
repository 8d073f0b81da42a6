"""What a client of OAuth asks is answered without a network: servers, authorization servers, documents."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest
import trio

from trio_mcp.oauth import requests
from trio_mcp.oauth.requests import OAuthAnswer
from trio_mcp.transports.http.authorizer import Authorizer, Refusal

SERVER = "https://mcp.example/mcp"
ISSUER = "https://auth.example"
METADATA_URL = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
CHALLENGE = {"www-authenticate": f'Bearer resource_metadata="{METADATA_URL}"'}


@attrs.frozen
class Asked:
    """One request that the client made."""

    method: str
    url: str
    headers: Mapping[str, str]
    fields: dict[str, str]


Handler = Callable[[Asked], OAuthAnswer]


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> OAuthAnswer:
    return OAuthAnswer(status, headers or {}, json.dumps(value).encode())


def refuse(error: str, status: int = 400, **members: str) -> OAuthAnswer:
    return answer({"error": error, **members}, status)


@attrs.define(eq=False)
class Network:
    """Answers by URL, and keeps what was asked; each request takes as long as `wait`."""

    handlers: dict[str, Handler] = attrs.field(factory=dict)
    asked: list[Asked] = attrs.field(factory=list)
    wait: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    async def ask_once(
        self, method: str, url: str, address: Any, headers: Mapping[str, str], body: bytes, *rest: Any
    ) -> OAuthAnswer:
        await self.wait()
        is_json = headers.get("content-type") == "application/json"
        form = "" if is_json else body.decode()
        asked = Asked(method, url, headers, dict(parse_qsl(form, strict_parsing=bool(form))))
        self.asked.append(asked)
        handler = self.handlers.get(url)
        return answer({}, 404) if handler is None else handler(asked)

    def add_server(self, url: str = SERVER, issuer: str = ISSUER, **members: Any) -> None:
        """A protected server; its metadata is at the well-known place with its path."""
        origin, _, path = url.removeprefix("https://").partition("/")
        document = {"resource": url, "authorization_servers": [issuer], **members}
        place = f"https://{origin}/.well-known/oauth-protected-resource/{path}"
        self.handlers[place] = lambda asked: answer(document)

    def add_issuer(self, token: Handler, issuer: str = ISSUER, **members: Any) -> None:
        """An authorization server, whose token endpoint is the function `token`."""
        document = {"issuer": issuer, "token_endpoint": f"{issuer}/token", **members}
        self.handlers[f"{issuer}/.well-known/oauth-authorization-server"] = lambda asked: answer(document)
        self.handlers[f"{issuer}/token"] = token

    def forms(self, issuer: str = ISSUER) -> list[Asked]:
        """What was posted to a token endpoint."""
        return [asked for asked in self.asked if asked.url == f"{issuer}/token"]


@attrs.define
class Tokens:
    """A token endpoint that gives "token-1", "token-2" and so on."""

    members: dict[str, Any] = attrs.field(factory=dict)
    given: int = 0

    def __call__(self, asked: Asked) -> OAuthAnswer:
        self.given += 1
        return answer({"access_token": f"token-{self.given}", "token_type": "Bearer", **self.members})


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    found = Network()
    monkeypatch.setattr(requests, "_ask_once", found.ask_once)
    return found


async def meet(
    authorizer: Authorizer,
    status: int = 401,
    headers: Mapping[str, str] = CHALLENGE,
    attempt: int = 0,
    url: str = SERVER,
    body: bytes = b"",
) -> bool:
    """Let a request be refused; whether it is to be sent again."""
    presented = await authorizer.headers("POST", url)
    return await authorizer.answer(Refusal(status, headers, presented, "POST", url, attempt, body))


async def token_of(authorizer: Authorizer, url: str = SERVER) -> str | None:
    return (await authorizer.headers("POST", url)).get("authorization")
