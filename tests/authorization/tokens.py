"""Tokens of the tests, and what the guard of a server is told of each."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from trio_mcp import InvalidToken, Principal, VerifierUnavailable

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
