"""The tokens of one grant: read from an answer, presented to a server, and kept as text.

Owns their form. Fetches nothing, and shows no token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from typing import Any, Final

import attrs
import msgspec

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.requests import OAuthAnswer, read_refusal
from trio_mcp.wire.authorization import TokenResponse, read_document

EXPIRY_LEEWAY: Final = 10.0
"""How many seconds before its end a token is renewed, so that it does not expire on its way."""

_SENDABLE: Final = re.compile(r"[\x21-\x7e]+")
_LIFE: Final = re.compile(r"[0-9]{1,12}")


@attrs.frozen
class TokenSet:
    """An access token with what belongs to it; `expires_at` is in Unix seconds, None if it is not known.

    `scopes` are those that were granted, None if that is not known.
    """

    access_token: str = attrs.field(repr=False)
    token_type: str = "Bearer"
    expires_at: float | None = None
    refresh_token: str | None = attrs.field(default=None, repr=False)
    scopes: frozenset[str] | None = None

    def is_expired(self, now: float) -> bool:
        """Whether it is to be renewed at the time `now`, in Unix seconds."""
        return self.expires_at is not None and now >= self.expires_at - EXPIRY_LEEWAY

    def dump(self) -> dict[str, Any]:
        """The values, secrets included, as a storage keeps them."""
        return {
            "access_token": self.access_token,
            "token_type": self.token_type,
            "expires_at": self.expires_at,
            "refresh_token": self.refresh_token,
            "scopes": None if self.scopes is None else sorted(self.scopes),
        }


def load_tokens(values: object) -> TokenSet:
    """What `TokenSet.dump` has made; raises ValueError for anything else."""
    try:
        return msgspec.convert(values, TokenSet)
    except msgspec.ValidationError as error:
        raise ValueError(f"these are no tokens: {error}") from None


def read_scopes(scope: str | None) -> frozenset[str] | None:
    """The scopes in a `scope` parameter; None if there is none."""
    return None if scope is None else frozenset(scope.split())


def write_scopes(scopes: Iterable[str]) -> str:
    """The value of a `scope` parameter, the same for equal sets."""
    return " ".join(sorted(scopes))


def read_tokens(
    answer: OAuthAnswer,
    *,
    now: float,
    asked: Collection[str] | None = None,
    what: str = "the token endpoint",
    issuer: str | None = None,
    token_types: Collection[str] = ("bearer",),
) -> TokenSet:
    """The tokens in the answer of a token endpoint (RFC 6749, 5.1); `asked` are the scopes it was asked for.

    Raises AuthorizationError if it refuses, or answers with what cannot be used.
    """
    if not answer.is_success:
        raise read_refusal(answer, what, issuer)
    try:
        response = read_document(answer.body, TokenResponse, f"the answer of {what}")
    except ValueError as error:
        raise AuthorizationError(str(error), issuer=issuer) from None
    if response.token_type.lower() not in token_types:
        raise AuthorizationError(f"{what} gave a token of a type that is not served here", issuer=issuer)
    if not _SENDABLE.fullmatch(response.access_token):
        raise AuthorizationError(f"{what} gave a token that no header can hold", issuer=issuer)
    life = _read_life(response.expires_in)
    scopes = read_scopes(response.scope)
    if scopes is None and asked is not None:
        scopes = frozenset(asked)  # as much as was asked for (RFC 6749, 5.1)
    return TokenSet(
        response.access_token,
        response.token_type,
        None if life is None else now + life,
        response.refresh_token or None,
        scopes,
    )


def _read_life(seconds: float | str | None) -> float | None:
    if isinstance(seconds, str):
        return float(seconds) if _LIFE.fullmatch(seconds) else None
    return seconds if seconds is not None and 0 <= seconds < math.inf else None
