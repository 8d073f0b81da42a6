"""The guard of a server whose clients need an access token (MCP authorization; RFC 6750).

Owns what a request must have in its Authorization header, and every answer that asks for a token or for
another one. Refuses to know how a token is verified.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

import trio

from trio_mcp.authorization.metadata import ResourceDescription
from trio_mcp.authorization.scopes import expand, read_implied, read_names
from trio_mcp.authorization.verifier import InvalidToken, Verifier, VerifierUnavailable, Verify
from trio_mcp.session.permit import Permit, make_permit
from trio_mcp.session.principal import Principal
from trio_mcp.transports.asgi.guard import Denial, GuardedRequest
from trio_mcp.transports.asgi.types import Scope
from trio_mcp.validators import require_interval
from trio_mcp.wire.authorization import render_challenge
from trio_mcp.wire.origin import is_loopback_host

logger = logging.getLogger("trio_mcp.authorization")

LEEWAY: Final = 30.0
"""In seconds: so far the clocks of a server and an issuer may differ."""

WARNING_SECONDS: Final = 60.0
"""An outage is logged no more often."""

_SCHEME: Final = "Bearer"
_MALFORMED: Final = "invalid_request"
_NEEDED: Final = "an access token is needed"
_CREDENTIALS: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_OTHER_SCHEME: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +.*)?", re.DOTALL)
_UNSAYABLE: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")

_NOBODY: Final = Permit(None, frozenset())
"""The permit of a client without a token, if none is needed: it may use what needs no scope."""


class Bearer:
    """Lets in what has a valid access token: `asgi_app(server, auth=Bearer(verify))`.

    It is what `asgi_app`, `serve_http` and `server.run("http")` take as `auth`. A request without a valid
    token is answered 401, one whose token lacks a scope 403, each with a challenge that says where clients
    get a token, and 503 if that cannot be verified now. The metadata that the challenge names are served
    beside the endpoint. (MCP authorization; RFC 6750, RFC 9728.)

    `verify` is a verifier, such as a `JwtVerifier`, or an async function: it gets the token, and returns the
    `Principal` that it was issued for. It raises `InvalidToken`, also if the token was made for another
    server, or `VerifierUnavailable` if it cannot say.

    `resource` is the URL of the server as clients know it, by default the one that a request was sent to;
    behind a proxy it must be given, if that changes the host, the scheme or the path. It is what clients
    compare and ask tokens for, and does not verify anything: the audience is the verifier's business.
    `authorization_servers` are the issuers of tokens, by default those that the verifier names (`issuers`).
    `scopes` are needed for everything, beside those of each tool, resource and prompt. `scopes_supported` and
    `resource_name`, which people may be shown, are for the metadata; by default `scopes` are told. `implies`
    says which scopes another one includes: `{"admin": ["read", "write"]}`. A token is accepted until `leeway`
    seconds after it has expired. `realm` is named in challenges. If tokens are `optional`, a client without
    one may use what needs no scope. `now` is the clock by which tokens expire, in Unix seconds.

    Raises ValueError for a URL that is none, for names that no scope may have, and for `optional` tokens with
    `scopes`; TypeError for a text where a list is needed.
    """

    secret_header: str | None = "authorization"
    """Handlers do not find it in `Context.headers`: a server must not hand on the tokens that it gets."""

    def __init__(
        self,
        verify: Verifier | Verify,
        *,
        resource: str | None = None,
        authorization_servers: Sequence[str] = (),
        scopes: Collection[str] = (),
        scopes_supported: Collection[str] | None = None,
        implies: Mapping[str, Collection[str]] | None = None,
        resource_name: str | None = None,
        leeway: float = LEEWAY,
        realm: str | None = None,
        optional: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        require_interval("leeway", leeway)
        if optional and scopes:
            raise ValueError("a token cannot be optional and its scopes needed for everything")
        self._verify: Verify = verify if callable(verify) else verify.verify
        self._scopes = read_names("scopes", scopes)
        self._implied = read_implied(implies or {})
        told = self._scopes if scopes_supported is None else read_names("scopes_supported", scopes_supported)
        issuers = authorization_servers or getattr(verify, "issuers", ())
        if isinstance(issuers, str):
            raise TypeError("authorization_servers must be a list of URLs, not a single one")
        self._description = ResourceDescription(resource, tuple(issuers), told or None, resource_name)
        self._leeway = leeway
        self._realm = realm
        self._optional = optional
        self._now = now
        self._warns_at = -math.inf
        self._is_unsafe = bool(getattr(verify, "is_for_development", False))

    def __repr__(self) -> str:
        return f"<Bearer for {self._description.resource or 'the host that is asked'}>"

    async def admit(self, request: GuardedRequest) -> Permit | Denial:
        """Let a request in if its token is valid; checkpoints if the verifier does."""
        given = request.headers.get("authorization")
        if request.scope.get("query_string") and _has_query_token(request.scope):
            return self._deny(request, "token", 400, "an access token must not stand in the URL", _MALFORMED)
        if given is None:
            return _NOBODY if self._optional else self._deny(request, "no token", 401, _NEEDED)
        credentials = _CREDENTIALS.fullmatch(given)
        if credentials is None:
            return self._deny_other(request, given)
        if self._is_unsafe:
            self._warn_of_tokens(request)
        try:
            principal = await self._verify(credentials[1])
            return self._permit(request, principal)
        except InvalidToken as error:
            return self._deny(request, "token", 401, error.reason, "invalid_token")
        except VerifierUnavailable as error:
            self._warn(error.reason)
            after = {"retry-after": str(max(1, round(error.retry_after)))}
            return Denial("verifier", 503, "access tokens cannot be verified now: try again later", after)

    def _warn(self, reason: str) -> None:
        """Log why no token can be verified, once a minute: every request would say it."""
        now = trio.current_time()
        if now >= self._warns_at:
            self._warns_at = now + WARNING_SECONDS
            logger.warning("access tokens cannot be verified: %s", reason)

    def _warn_of_tokens(self, request: GuardedRequest) -> None:
        """Log once that tokens for development let somebody in from elsewhere."""
        # Behind a proxy the server itself is on loopback, and the host or `resource` is what clients know.
        host, port = request.scope.get("server") or ("", None)
        url = self._description.find_resource(request) or ""
        at = [host if port else "", urlsplit(url).hostname or ""]
        if any(name and not is_loopback_host(name) for name in at):
            self._is_unsafe = False
            logger.warning(
                "other machines can reach this server, and it takes tokens that are for development only"
            )

    def demand(self, request: GuardedRequest, permit: Permit | None, scopes: Collection[str]) -> Denial:
        """Ask for a token with all `scopes`, and with those that everything needs."""
        needed = [*self._scopes, *(scope for scope in scopes if scope not in self._scopes)]
        if permit is None or permit.principal is None:
            return self._deny(request, "no token", 401, _NEEDED, scopes=needed)
        reason = f"this needs the scopes {' '.join(needed)}"
        return self._deny(request, "scope", 403, reason, "insufficient_scope", scopes=needed)

    def find_metadata(self, scope: Scope, paths: Collection[str]) -> str | None:
        """The one of `paths` whose metadata are at the path of `scope`, or None."""
        return self._description.find_path(scope, paths)

    def describe(self, request: GuardedRequest) -> bytes | Denial:
        """The metadata of the protected resource (RFC 9728, 2)."""
        return self._description.encode(request) or Denial("door", 400, "the Host header names no host")

    def _permit(self, request: GuardedRequest, principal: Principal) -> Permit | Denial:
        permit = make_permit(principal, leeway=self._leeway, now=self._now)
        if not isinstance(principal, Principal) or permit is None:
            raise TypeError(f"a verifier must return a Principal, not {type(principal).__name__}")
        if principal.expires_at is not None and principal.expires_at + self._leeway <= self._now():
            raise InvalidToken("the access token has expired")
        if permit.scopes is not None and self._implied:
            permit = Permit(principal, expand(permit.scopes, self._implied), permit.ends_at)
        return self.demand(request, permit, ()) if permit.lacks(self._scopes) else permit

    def _deny_other(self, request: GuardedRequest, given: str) -> Denial:
        """The denial of a header that is not what RFC 6750, 2.1, wants."""
        scheme = _OTHER_SCHEME.fullmatch(given)
        if scheme is None or scheme[1].lower() == "bearer":
            reason = "the Authorization header is malformed, or there are several: send Bearer and one token"
            return self._deny(request, "token", 400, reason, _MALFORMED)
        return self._deny(request, "no token", 401, "an access token of the scheme Bearer is needed")

    def _deny(
        self,
        request: GuardedRequest,
        kind: str,
        status: int,
        reason: str,
        error: str | None = None,
        *,
        scopes: Sequence[str] | None = None,
    ) -> Denial:
        """A denial with a challenge; without an `error` it only asks for a token (RFC 6750, 3)."""
        wanted = " ".join(self._scopes if scopes is None else scopes)
        parameters = {
            "realm": self._realm,
            "error": error,
            "error_description": None if error is None else _UNSAYABLE.sub("'", reason),
            "scope": wanted if wanted and error != _MALFORMED else None,
            "resource_metadata": self._description.find_metadata_url(request),
        }
        shown = {name: value for name, value in parameters.items() if value is not None}
        return Denial(kind, status, reason, {"www-authenticate": render_challenge(_SCHEME, shown)})


def _has_query_token(scope: Scope) -> bool:
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    return "access_token" in query
