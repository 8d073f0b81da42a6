"""How a client gets its id at an authorization server, and proves to be that client.

Owns the dynamic registration and the ways of proof (MCP client registration). A registration belongs to the
one issuer that gave it. Refuses to know grants.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import quote

import attrs
import msgspec

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.discovery import require_endpoint
from trio_mcp.oauth.requests import post_json, read_refusal
from trio_mcp.oauth.token_set import write_scopes
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.transports.http.address import parse_address
from trio_mcp.wire.authorization import AuthorizationServerMetadata, ClientInformation, read_document
from trio_mcp.wire.origin import is_loopback_host

NONE: Final = "none"
BASIC: Final = "client_secret_basic"
POST: Final = "client_secret_post"

_PREFERRED: Final = (BASIC, POST)
_DEFAULT_METHODS: Final = (BASIC,)
"""What a server takes that does not say what it takes (RFC 8414, 2)."""


@attrs.frozen
class ClientRegistration:
    """A client as one authorization server knows it; `method` is how it proves to be that client.

    `redirect_uris` are those that it was registered with, None if that is not known, and `expires_at` is when
    its secret ends, in Unix seconds.
    """

    client_id: str
    client_secret: str | None = attrs.field(default=None, repr=False)
    method: str = NONE
    redirect_uris: tuple[str, ...] | None = None
    expires_at: float | None = None
    is_dynamic: bool = False

    def serves(self, redirect_uri: str, now: float) -> bool:
        """Whether it can be used with `redirect_uri` at the time `now`, in Unix seconds."""
        if self.expires_at is not None and now >= self.expires_at:
            return False
        return self.redirect_uris is None or redirect_uri in self.redirect_uris

    def authenticate(self, fields: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """The fields of a token request and its headers, with what proves the client (RFC 6749, 2.3.1)."""
        if self.method == BASIC:
            pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret or '', safe='')}"
            return dict(fields), {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        proved = {**fields, "client_id": self.client_id}
        if self.method == POST:
            proved["client_secret"] = self.client_secret or ""
        return proved, {}


def load_registration(text: str) -> ClientRegistration | None:
    """A registration as a storage keeps it; None if the text is none."""
    try:
        return msgspec.json.decode(text, type=ClientRegistration)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def dump_registration(registration: ClientRegistration) -> str:
    """The registration as text, secret included, for a storage."""
    return msgspec.json.encode(registration).decode()


def choose_method(metadata: AuthorizationServerMetadata, *, has_secret: bool) -> str:
    """How a client with or without a secret proves itself to `metadata`; raises AuthorizationError."""
    if not has_secret:
        return NONE
    offered = metadata.token_endpoint_auth_methods_supported or _DEFAULT_METHODS
    for method in _PREFERRED:
        if method in offered:
            return method
    raise AuthorizationError(
        f"{metadata.issuer} takes no client secret, only {', '.join(offered)[:200]}", issuer=metadata.issuer
    )


async def register(
    metadata: AuthorizationServerMetadata,
    redirect_uri: str,
    scopes: Collection[str] | None,
    client_name: str,
    policy: UrlPolicy,
) -> ClientRegistration:
    """Register a client dynamically (RFC 7591); checkpoints. Raises AuthorizationError."""
    issuer = metadata.issuer
    url = require_endpoint(metadata.registration_endpoint, "registration endpoint", issuer, policy)
    what = "the registration endpoint"
    offered = metadata.token_endpoint_auth_methods_supported
    wanted = next((one for one in (NONE, *_PREFERRED) if one in (offered or (NONE,))), NONE)
    asked: dict[str, Any] = {
        "client_name": client_name,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "native" if is_loopback_host(parse_address(redirect_uri).host) else "web",
        "token_endpoint_auth_method": wanted,
    }
    if scopes is not None:
        asked["scope"] = write_scopes(scopes)
    answer = await post_json(url, asked, policy=policy, what=what)
    if not answer.is_success:
        raise read_refusal(answer, what, issuer)
    try:
        given = read_document(answer.body, ClientInformation, f"the answer of {what}")
    except ValueError as error:
        raise AuthorizationError(str(error), issuer=issuer) from None
    method = given.token_endpoint_auth_method
    if method not in (NONE, *_PREFERRED):
        # A server that does not say what it takes may mean what it gave a secret for.
        method = wanted if offered else choose_method(metadata, has_secret=bool(given.client_secret))
    if method != NONE and not given.client_secret:
        raise AuthorizationError(
            f"{issuer} registered a client with {method}, but gave no secret", issuer=issuer
        )
    return ClientRegistration(
        given.client_id,
        given.client_secret or None,
        method,
        (redirect_uri,),
        given.client_secret_expires_at or None,
        is_dynamic=True,
    )
