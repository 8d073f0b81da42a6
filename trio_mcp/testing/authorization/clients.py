"""The clients that the authorization server knows.

Owns their records and what a redirect URI must match. Refuses to know how a client became known.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import attrs

from trio_mcp.testing.authorization.jose import KeySet
from trio_mcp.wire.origin import is_loopback_host

AUTH_METHODS: Final = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")
"""How a client may authenticate at the token endpoint (RFC 7591, section 2)."""

CODE: Final = "authorization_code"
REFRESH: Final = "refresh_token"
CLIENT_CREDENTIALS: Final = "client_credentials"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANT_TYPES: Final = (CODE, REFRESH, CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE)


@attrs.frozen(kw_only=True)
class OAuthClient:
    """A client as it was registered; `scopes` None: any that the server supports."""

    client_id: str
    secret: str | None = attrs.field(default=None, repr=False)
    auth_method: str = "none"
    redirect_uris: tuple[str, ...] = ()
    grant_types: tuple[str, ...] = (CODE, REFRESH)
    name: str = ""
    keys: KeySet | None = attrs.field(default=None, repr=False)
    scopes: frozenset[str] | None = None

    @property
    def is_public(self) -> bool:
        """Whether the client has no credentials."""
        return self.auth_method == "none"


def matches_redirect(registered: str, given: str) -> bool:
    """Whether a redirect URI is the registered one; the port of a loopback address may differ.

    A native client asks its system for a free port, so it cannot know the port when it registers
    (RFC 8252, section 7.3). Otherwise the texts are equal (OAuth 2.1, section 2.3.1).
    """
    if registered == given:
        return True
    try:
        ours, theirs = urlsplit(registered), urlsplit(given)
        _ = theirs.port
    except ValueError:
        return False
    return (
        ours.scheme == theirs.scheme == "http"
        and ours.hostname is not None
        and ours.hostname == theirs.hostname
        and is_loopback_host(ours.hostname)
        and (theirs.username, theirs.password, theirs.fragment) == (None, None, "")
        and (ours.path, ours.query) == (theirs.path, theirs.query)
    )


def find_redirect_flaw(uri: str, application_type: str) -> str | None:
    """Why `uri` cannot be a redirect URI of a client of this type, or None.

    A web application needs https and a host of its own, a native one a loopback address, https or a scheme of
    its own (OpenID Connect Dynamic Client Registration 1.0, section 2).
    """
    if not (uri.isascii() and uri.isprintable()) or " " in uri:
        return "it is not percent-encoded"
    try:
        split = urlsplit(uri)
        host = split.hostname
    except ValueError:
        return "it is no URI"
    if not split.scheme or (split.scheme in ("http", "https") and not host):
        return "it is no absolute URI"
    if "#" in uri:
        return "it has a fragment"
    if split.scheme in ("javascript", "data", "file", "vbscript", "about", "blob"):
        return "its scheme is dangerous"
    is_local = host is not None and is_loopback_host(host)
    if application_type == "web" and (split.scheme != "https" or is_local):
        return "a web application needs https and a host that is not this machine"
    if split.scheme == "http" and not is_local:
        return "http is only for loopback addresses"
    return None
