"""Proofs that a client holds the key to which its tokens are bound (DPoP, RFC 9449).

Owns the key of one client, its proofs, and the nonces that servers want in them. Refuses to know where tokens
come from.
"""

from __future__ import annotations

import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import attrs
import msgspec

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.requests import OAuthAnswer, post_form
from trio_mcp.oauth.signing_key import SigningKey, read_key
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.transports.http.authorizer import Refusal
from trio_mcp.wire.authorization import AuthorizationServerMetadata, OAuthErrorBody, find_challenge

Rewrite: TypeAlias = Callable[[], Awaitable[tuple[Mapping[str, str], Mapping[str, str]]]]

SCHEME: Final = "dpop"
USE_NONCE: Final = "use_dpop_nonce"

MAX_NONCES: Final = 64
"""Of how many servers the nonce is remembered; a client has one authorization server and one resource."""

_NONCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,1024}")
_HTTP_SCHEMES: Final = {"ws": "http", "wss": "https"}


@attrs.define(eq=False)
class DpopProver:
    """Makes the proofs of one client; `now` is the time in Unix seconds.

    Every proof is for one request. Nothing here checkpoints but `post_form`.
    """

    key: SigningKey
    _now: Callable[[], float] = attrs.field(default=time.time, repr=False)
    _nonces: OrderedDict[tuple[str, bool], str] = attrs.field(factory=OrderedDict, init=False, repr=False)

    def use_key(self, dumped: Mapping[str, Any]) -> None:
        """Prove with the key that `SigningKey.dump` has made from now on; raises ValueError if it is none."""
        if self.key.public_jwk["x"] != dumped.get("x"):
            self.key = read_key(dumped)

    def require_supported(self, metadata: AuthorizationServerMetadata) -> None:
        """Raise AuthorizationError if the authorization server says that it takes no proofs by this key."""
        accepted, algorithm = metadata.dpop_signing_alg_values_supported, self.key.algorithms[0]
        if accepted is not None and algorithm not in accepted:
            raise AuthorizationError(
                f"the authorization server takes no DPoP proofs that are signed with {algorithm}",
                issuer=metadata.issuer,
            )

    def present(self, method: str, url: str, token: str) -> dict[str, str]:
        """The headers of a request to a resource that present `token` with a proof (RFC 9449, 7.1)."""
        return {"authorization": f"DPoP {token}", "dpop": self.prove(method, url, token)}

    def prove(self, method: str, url: str, token: str | None = None) -> str:
        """A proof for a request to `url` (RFC 9449, 4.2), which is one to a resource if it has a `token`."""
        claims: dict[str, str | int] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": _target(url),
            "iat": int(self._now()),
        }
        if token is not None:
            claims["ath"] = urlsafe_b64encode(sha256(token.encode("ascii")).digest()).rstrip(b"=").decode()
        if nonce := self._nonces.get((_origin(url), token is not None)):
            claims["nonce"] = nonce
        return self.key.sign({"typ": "dpop+jwt", "jwk": self.key.public_jwk}, claims)

    def note_nonce(self, url: str, headers: Mapping[str, str], *, is_resource: bool) -> bool:
        """Remember the nonce that the answer of a server has for the next proof (RFC 9449, 8.2).

        True if it has one. `headers` have lower-case names.
        """
        nonce = headers.get("dpop-nonce")
        if nonce is None or not _NONCE.fullmatch(nonce):
            return False
        place = (_origin(url), is_resource)
        self._nonces[place] = nonce
        self._nonces.move_to_end(place)
        if len(self._nonces) > MAX_NONCES:
            self._nonces.popitem(last=False)
        return True

    def is_nonce_wanted(self, refusal: Refusal) -> bool:
        """Whether the resource refused a proof for want of its nonce, which is known now (RFC 9449, 9)."""
        has_nonce = self.note_nonce(refusal.url, refusal.headers, is_resource=True)
        challenge = find_challenge(refusal.headers.get("www-authenticate"), SCHEME)
        return has_nonce and challenge is not None and challenge.parameters.get("error") == USE_NONCE

    async def post_form(
        self,
        url: str,
        fields: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        policy: UrlPolicy,
        what: str = "the token endpoint",
        rewrite: Rewrite | None = None,
    ) -> OAuthAnswer:
        """As `requests.post_form`, with a proof; once more if the endpoint wants a nonce (RFC 9449, 8).

        `rewrite` makes fields and headers for the second time, if an assertion among them is good once.
        """
        answer = await self._post_once(url, fields, headers, policy, what)
        has_nonce = self.note_nonce(url, answer.headers, is_resource=False)
        if has_nonce and not answer.is_success and _error_of(answer) == USE_NONCE:
            if rewrite is not None:
                fields, headers = await rewrite()
            answer = await self._post_once(url, fields, headers, policy, what)
            self.note_nonce(url, answer.headers, is_resource=False)
        return answer

    async def _post_once(
        self,
        url: str,
        fields: Mapping[str, str],
        headers: Mapping[str, str] | None,
        policy: UrlPolicy,
        what: str,
    ) -> OAuthAnswer:
        proven = {**(headers or {}), "dpop": self.prove("POST", url)}
        return await post_form(url, fields, headers=proven, policy=policy, what=what)


def _target(url: str) -> str:
    """The URL as a proof names it: without query and fragment."""
    parts = urlsplit(url)
    return urlunsplit(
        (_HTTP_SCHEMES.get(parts.scheme, parts.scheme), parts.netloc, parts.path or "/", "", "")
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{_HTTP_SCHEMES.get(parts.scheme, parts.scheme)}://{parts.netloc.lower()}"


def _error_of(answer: OAuthAnswer) -> str | None:
    try:
        return msgspec.json.decode(answer.body, type=OAuthErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
