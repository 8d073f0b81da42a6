"""Who a client is, as the transport has authenticated it, and what it may do.

Owns the value that travels with each request. Refuses to know tokens: none is ever kept here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


def _freeze_scopes(scopes: Collection[str] | None) -> frozenset[str] | None:
    if isinstance(scopes, str):
        raise TypeError(f"scopes must be a collection of names, not the text {scopes!r}")
    return None if scopes is None else frozenset(scopes)


@attrs.frozen
class Principal:
    """Whoever a client acts for.

    Tasks, sessions, subscriptions and request state belong to `name`, which is the same for each token of one
    principal, and unique across the issuers of tokens. `scopes` are what this request's token allows; None
    limits nothing, as for a client that something other than a token has authenticated. `client_id`, `issuer`
    and `subject` are those of the token, `expires_at` is its end in Unix seconds, and `claims` is all
    that it says. The token itself is never kept. `str(principal)` is the name, and two are equal if all of
    this is.

    `ctx.principal` is the one of a request. Raises ValueError for an empty name, and TypeError for scopes
    that are one text.
    """

    name: str
    scopes: frozenset[str] | None = attrs.field(default=None, converter=_freeze_scopes, kw_only=True)
    client_id: str | None = attrs.field(default=None, kw_only=True)
    issuer: str | None = attrs.field(default=None, kw_only=True)
    subject: str | None = attrs.field(default=None, kw_only=True)
    expires_at: float | None = attrs.field(default=None, kw_only=True)
    claims: Mapping[str, Any] = attrs.field(default=NO_CLAIMS, kw_only=True, repr=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError("the name of a principal must be a text that is not empty")

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)
