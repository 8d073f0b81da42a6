"""Tokens of the tests, who verifies them, and the handshake of a WebSocket that presents one."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from trio_mcp import InvalidToken, Principal, VerifierUnavailable
from trio_mcp.server.asgi import AsgiApp
from trio_mcp.testing.authorization import DevAuthorizationServer
from trio_mcp.transports.http.documents import Document

OUTAGE = "outage"


def make_principal(
    name: str = "ann", scopes: Collection[str] | None = ("read",), left: float | None = 3600.0
) -> Principal:
    """A principal whose token ends in `left` seconds."""
    expires_at = None if left is None else time.time() + left
    return Principal(
        f"https://issuer.example#{name}",
        scopes=scopes,
        issuer="https://issuer.example",
        subject=name,
        client_id="a client",
        expires_at=expires_at,
        claims={"tenant": "blue"},
    )


class Tokens:
    """A verifier that knows the tokens it was given, and counts what it was asked."""

    def __init__(self, tokens: Mapping[str, Principal]) -> None:
        self.tokens = dict(tokens)
        self.asked: list[str] = []

    async def verify(self, token: str) -> Principal:
        """Whoever the token was issued for."""
        self.asked.append(token)
        if token == OUTAGE:
            raise VerifierUnavailable("the issuer is away", retry_after=7)
        try:
            return self.tokens[token]
        except KeyError:
            raise InvalidToken("nobody has issued this token") from None


def bearing(token: str, **headers: str) -> dict[str, Any]:
    """The headers of a request with a token."""
    return {"authorization": f"Bearer {token}", **headers}


def make_fetch(issuer: DevAuthorizationServer) -> Any:
    """The `fetch` of a verifier that asks an authorization server in memory."""

    async def fetch(
        url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Document:
        answer = await issuer.request(method, url, headers=headers, body=body)
        return Document(answer.status, answer.headers, answer.body)

    return fetch


def make_scope(headers: dict[str, str]) -> dict[str, Any]:
    """The ASGI scope of a WebSocket's handshake."""
    given = {"host": "localhost:8000", **headers}
    return {
        "type": "websocket",
        "scheme": "ws",
        "path": "/mcp",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "server": ("127.0.0.1", 8000),
    }


async def shake_hands(app: AsgiApp, headers: dict[str, str], *, extensions: Any) -> list[dict[str, Any]]:
    """What the application sends to a handshake that it refuses."""
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        raise AssertionError("a handshake that is refused is not read")

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**make_scope(headers), "extensions": extensions}, receive, send)
    return sent
