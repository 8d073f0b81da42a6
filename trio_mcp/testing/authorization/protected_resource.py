"""An ASGI application behind tokens of the authorization server for development.

Owns what a resource checks, for tests of clients: bearer tokens and those that are bound to a key (RFC 6750,
RFC 9449), and the metadata of the resource (RFC 9728). It is not what protects a server of trio_mcp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.dpop_proofs import check_proof, make_nonce
from trio_mcp.testing.authorization.exchange import Answer, OAuthProblem, answer_json, send_answer
from trio_mcp.testing.authorization.state import AuthorizationState
from trio_mcp.transports.asgi.types import ASGIApp, Message, Receive, Scope, Send

CLAIMS: Final = "trio_mcp.claims"
"""Where the application finds the claims of the token, in the scope of a request."""

_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


class ProtectedResource:
    """An ASGI application whose requests need a token; see `DevAuthorizationServer.protect`."""

    def __init__(
        self,
        state: AuthorizationState,
        app: ASGIApp,
        resource: str,
        scopes: frozenset[str],
        *,
        needs_proof: bool,
        needs_nonce: bool,
    ) -> None:
        self._state = state
        self._app = app
        self.resource = resource
        self.scopes = scopes
        self._needs_proof = needs_proof
        self._needs_nonce = needs_nonce

    def __repr__(self) -> str:
        return f"<ProtectedResource {self.resource}: {' '.join(sorted(self.scopes)) or 'no scopes'}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3); checkpoints. The lifespan is the application's."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        path = urlsplit(self.resource).path.rstrip("/")
        if scope["path"] in (_WELL_KNOWN, f"{_WELL_KNOWN}{path}"):
            await send_answer(send, answer_json(self._describe()))
            return
        try:
            claims, scheme = self._check(scope)
        except OAuthProblem as problem:
            await send_answer(send, self._refuse(problem))
            return
        nonce = make_nonce(self._state) if scheme == "dpop" and self._needs_nonce else {}
        await self._app({**scope, CLAIMS: claims}, receive, _with_headers(send, nonce))

    def _describe(self) -> Mapping[str, Any]:
        return {
            "resource": self.resource,
            "authorization_servers": [self._state.issuer],
            "bearer_methods_supported": ["header"],
            "dpop_bound_access_tokens_required": self._needs_proof,
            **({"scopes_supported": sorted(self.scopes)} if self.scopes else {}),
        }

    def _check(self, scope: Scope) -> tuple[Mapping[str, Any], str]:
        """The claims of the token of a request, and how it was presented; raises OAuthProblem."""
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        given = [value for name, value in headers if name == "authorization"]
        proofs = [value for name, value in headers if name == "dpop"]
        if not given:
            raise OAuthProblem("", "an access token is needed", 401)
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() not in ("bearer", "dpop") or not token or " " in token:
            raise OAuthProblem("invalid_request", "one access token is needed")
        claims = self._read(token)
        if claims.get("cnf") is not None or self._needs_proof or scheme.lower() == "dpop":
            self._check_proof(scope, claims, scheme.lower(), token, proofs)
        if not self.scopes <= set(str(claims.get("scope", "")).split()):
            raise OAuthProblem("insufficient_scope", "the token lacks a scope", 403)
        return claims, scheme.lower()

    def _read(self, token: str) -> Mapping[str, Any]:
        known = self._state.grants.describe(token)
        if not known["active"] and self._state.settings.opaque_tokens:
            raise OAuthProblem("invalid_token", "the access token is not active", 401)
        try:
            claims = known if known["active"] else self._state.keys.verify(token)[1]
            jose.check_times(claims, self._state.now())
        except jose.InvalidJwt as error:
            raise OAuthProblem("invalid_token", str(error), 401) from None
        audience = claims.get("aud")
        named = [audience] if isinstance(audience, str) else audience or []
        if claims.get("iss") != self._state.issuer or self.resource not in named:
            raise OAuthProblem("invalid_token", "the access token is for another resource", 401)
        return claims

    def _check_proof(
        self, scope: Scope, claims: Mapping[str, Any], scheme: str, token: str, proofs: list[str]
    ) -> None:
        bound_to = claims.get("cnf", {}).get("jkt")
        if bound_to is None:
            raise OAuthProblem("invalid_token", "the access token is bound to no key", 401)
        if scheme != "dpop" or len(proofs) != 1:
            raise OAuthProblem(
                "invalid_token", "the access token is bound to a key, which needs a proof", 401
            )
        split = urlsplit(self.resource)
        url = f"{split.scheme}://{split.netloc}{scope['path']}"
        try:
            thumbprint = check_proof(
                self._state, proofs[0], scope["method"], url, needs_nonce=self._needs_nonce, token=token
            )
        except OAuthProblem as problem:
            raise OAuthProblem(problem.error, problem.description, 401, problem.headers) from None
        if thumbprint != bound_to:
            raise OAuthProblem("invalid_token", "the access token is bound to another key", 401)

    def _refuse(self, problem: OAuthProblem) -> Answer:
        split = urlsplit(self.resource)
        parameters = {
            "error": problem.error,
            "error_description": problem.description if problem.error else "",
            "scope": " ".join(sorted(self.scopes)),
            "resource_metadata": f"{split.scheme}://{split.netloc}{_WELL_KNOWN}{split.path.rstrip('/')}",
            "algs": " ".join(jose.ALGORITHMS) if self._needs_proof else "",
        }
        told = ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value)
        is_about_keys = self._needs_proof or "dpop" in problem.error
        challenge = f"{'DPoP' if is_about_keys else 'Bearer'} {told}"
        return Answer(problem.status, {"www-authenticate": challenge, **problem.headers})


def _with_headers(send: Send, added: Mapping[str, str]) -> Send:
    """A `send` that adds headers to the head of the answer."""
    if not added:
        return send

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            more = [(name.encode("ascii"), value.encode("latin-1")) for name, value in added.items()]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return send_with
