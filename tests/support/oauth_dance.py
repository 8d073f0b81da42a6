"""A client of OAuth, written out step by step, for tests of the authorization server."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from trio_mcp.testing.authorization import Answer, DevAuthorizationServer, jose

CALLBACK = "http://127.0.0.1:3000/callback"
RESOURCE = "https://mcp.example.com/mcp"
VERIFIER = "v" * 43
NOW = 1_800_000_000.0


class Clock:
    """A Unix time that moves only if a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def challenge_of(verifier: str) -> str:
    digest = sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def basic(client_id: str, secret: str) -> dict[str, str]:
    """The header by which a client authenticates with its secret."""
    encoded = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {"authorization": f"Basic {encoded}"}


class Dance:
    """A public client "app" at one server; `changes` replace parameters, None takes one away."""

    def __init__(self, server: DevAuthorizationServer, client_id: str = "app") -> None:
        self.server = server
        self.client_id = client_id

    def url(self, **changes: Any) -> str:
        """An authorization URL."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "state": "the-state",
            "scope": "read",
            "resource": RESOURCE,
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            **changes,
        }
        given = {name: value for name, value in parameters.items() if value is not None}
        return f"{self.server.issuer}/authorize?{urlencode(given, doseq=True)}"

    async def callback(self, *, user: str | None = None, **changes: Any) -> dict[str, str]:
        """What the client's callback receives, once the user has granted the request."""
        location = await self.server.authorize(self.url(**changes), user=user)
        assert location.startswith(CALLBACK)
        return {name: value for name, (value,) in parse_qs(urlsplit(location).query).items()}

    async def redeem(self, code: str, *, headers: Mapping[str, str] | None = None, **changes: Any) -> Answer:
        """Ask for the tokens of a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            "client_id": self.client_id,
            "resource": RESOURCE,
            **changes,
        }
        return await self.ask_token(headers, **form)

    async def refresh(
        self, token: str, *, headers: Mapping[str, str] | None = None, **changes: Any
    ) -> Answer:
        """Ask for new tokens with a refresh token."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": token,
            "client_id": self.client_id,
            **changes,
        }
        return await self.ask_token(headers, **form)

    async def ask_token(self, headers: Mapping[str, str] | None = None, **form: Any) -> Answer:
        """A request at the token endpoint."""
        given = {name: value for name, value in form.items() if value is not None}
        return await self.server.request("POST", "token", headers=headers, form=given)

    async def tokens(self, **changes: Any) -> dict[str, Any]:
        """The tokens that the whole dance brings."""
        answer = await self.redeem((await self.callback(**changes))["code"])
        assert answer.status == 200, answer.json
        return answer.json

    async def is_active(self, token: str) -> bool:
        """What introspection says about a token."""
        answer = await self.server.request(
            "POST", "introspect", headers=basic("resource", "s3cret"), form={"token": token}
        )
        assert answer.status == 200, answer.json
        return bool(answer.json["active"])


def make_server(clock: Clock | None = None, **options: Any) -> DevAuthorizationServer:
    """A server in memory that knows the public client "app" and the protected server "resource"."""
    server = DevAuthorizationServer(**({} if clock is None else {"now": clock}), **options)
    server.add_client("app", redirect_uris=[CALLBACK], name="The App")
    server.add_client("resource", secret="s3cret")
    return server


class ClientKey:
    """A key of a client, for assertions and proofs; `algorithm` as in `jose.ALGORITHMS`."""

    def __init__(self, now: Clock, algorithm: str = "ES256") -> None:
        self._now = now
        self._algorithm = algorithm
        self._key = jose.generate_key(algorithm)

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [self._key.as_dict(private=False)]}

    @property
    def thumbprint(self) -> str:
        return self._key.thumbprint()

    def assertion(self, issuer: str, subject: str, audience: Any, typ: str = "JWT", **changes: Any) -> str:
        """A signed assertion that is good for a minute."""
        claims = {
            "iss": issuer,
            "sub": subject,
            "aud": audience,
            "iat": self._now(),
            "exp": self._now() + 60,
            "jti": secrets.token_urlsafe(8),
            **changes,
        }
        given = {name: value for name, value in claims.items() if value is not None}
        return jose.sign(given, self._key, self._algorithm, typ)

    def proof(
        self, url: str, *, nonce: str | None = None, typ: str = "dpop+jwt", **changes: Any
    ) -> dict[str, str]:
        """The header with a proof of DPoP for a POST."""
        claims = {
            "htm": "POST",
            "htu": url,
            "iat": self._now(),
            "jti": secrets.token_urlsafe(8),
            "nonce": nonce,
            **changes,
        }
        given = {name: value for name, value in claims.items() if value is not None}
        header = {"jwk": self._key.as_dict(private=False)}
        return {"dpop": jose.sign(given, self._key, self._algorithm, typ, header)}
