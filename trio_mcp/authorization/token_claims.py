"""What a verified token says about its principal, in a JWT or in the answer of introspection.

Owns how claims become a `Principal`, and what of them makes a token one that is not accepted as a bearer
token. Refuses to know how the claims were verified.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from trio_mcp.authorization.verifier import InvalidToken
from trio_mcp.session.principal import Principal
from trio_mcp.wire.origin import is_loopback_host

SCOPE_CLAIMS: Final = ("scope", "scp")
"""Where scopes are, in this order: RFC 8693, 4.2, and what some identity providers have in its place."""

_CLIENT_CLAIMS: Final = ("client_id", "azp", "cid")


def require_text(name: str, value: object) -> str:
    """Return `value`; raises TypeError or ValueError unless it is a text that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    return value


def require_issuer(issuer: object) -> str:
    """Return `issuer`; raises TypeError or ValueError if it cannot stand before "#" in a principal's name."""
    text = require_text("issuer", issuer)
    if "#" in text:
        raise ValueError(f"the issuer {text!r} has a fragment, which none may have (RFC 8414, 2)")
    return text


def require_texts(name: str, value: str | Collection[str]) -> tuple[str, ...]:
    """The texts of `value`, which is one or several; raises TypeError or ValueError if it is neither."""
    texts = (value,) if isinstance(value, str) else tuple(value)
    if not texts:
        raise ValueError(f"{name} must not be empty")
    return tuple(require_text(name, text) for text in texts)


def require_secure_url(name: str, url: str, *, allow_http: bool) -> str:
    """Return `url`; raises ValueError unless its answers come from whom it names, or from this machine."""
    parts = urlsplit(require_text(name, url))
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError(f"{name} must be an https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{name} must be a URL without credentials")
    if parts.scheme == "http" and not allow_http and not is_loopback_host(parts.hostname):
        raise ValueError(f"{name} must be an https:// URL, as {url!r} is not; allow_http=True accepts it")
    return url


def read_scopes(claims: Mapping[str, Any], names: Sequence[str] = SCOPE_CLAIMS) -> frozenset[str]:
    """The scopes of the first claim of `names` that is there: a text with spaces, or a list; else none."""
    for name in names:
        value = claims.get(name)
        if isinstance(value, str):
            return frozenset(value.split())
        if isinstance(value, list):
            return frozenset(scope for scope in value if isinstance(scope, str) and scope)
    return frozenset()


def require_bearer(claims: Mapping[str, Any]) -> None:
    """Raise InvalidToken if the token is bound to a key of its client, which a bearer does not prove.

    RFC 9449, 7.2, and RFC 8705, 3.
    """
    if claims.get("cnf") is not None:
        raise InvalidToken("the access token is bound to a key, and cannot be used as a bearer token")


def make_principal(
    claims: Mapping[str, Any],
    *,
    issuer: str,
    subject_claim: str,
    scope_claims: Sequence[str],
    known_issuer: str | None = None,
) -> Principal:
    """Whoever the claims are about; `issuer` makes its name unique, and `known_issuer` is told as its issuer.

    Raises InvalidToken if they name nobody.
    """
    subject = claims.get(subject_claim)
    if not isinstance(subject, str) or not subject:
        raise InvalidToken("the access token does not say whom it was issued for")
    clients = (claims.get(name) for name in _CLIENT_CLAIMS)
    return Principal(
        f"{issuer}#{subject}",
        scopes=read_scopes(claims, scope_claims),
        client_id=next((client for client in clients if isinstance(client, str) and client), None),
        issuer=known_issuer,
        subject=subject,
        expires_at=read_time(claims, "exp"),
        claims=MappingProxyType(dict(claims)),
    )


def read_time(claims: Mapping[str, Any], name: str) -> float | None:
    """A time in Unix seconds, or None if the claims have none; raises InvalidToken if it is no number."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if math.isfinite(seconds):
            return seconds
    raise InvalidToken(f"the {name} of the access token is no time")
