"""Tokens that are written down in the program or its settings: for development, and for nothing else.

Owns their comparison. It keeps no token, only the SHA-256 of each.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Final

from trio_mcp.authorization.token_cache import digest_token
from trio_mcp.authorization.verifier import InvalidToken
from trio_mcp.session.principal import Principal

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, 2.1."""


class StaticTokens:
    """Accepts the tokens of a mapping, each for the principal, or the name of one, that it is mapped to.

    A verifier for `Bearer` in development: such tokens never expire, cannot be withdrawn, and are as safe as
    the file that they are written in. A name alone makes a principal that no scope limits. Raises ValueError
    for a token that no client could send and if there is none, and TypeError for anything but a mapping to
    principals and names.
    """

    is_for_development: Final = True

    def __init__(self, tokens: Mapping[str, Principal | str]) -> None:
        if not isinstance(tokens, Mapping):
            raise TypeError(
                f"tokens must be a mapping of tokens to principals, not of type {type(tokens).__name__}"
            )
        self._known: list[tuple[bytes, Principal]] = []
        for number, (token, principal) in enumerate(tokens.items(), start=1):
            if not isinstance(token, str) or not _TOKEN.fullmatch(token):
                raise ValueError(
                    f"token {number} is none that a client can send: letters, digits and -._~+/ can be in one"
                )
            owner = Principal(principal) if isinstance(principal, str) else principal
            if not isinstance(owner, Principal):
                raise TypeError(f"token {number} must be mapped to a Principal or to its name")
            self._known.append((digest_token(token), owner))
        if not self._known:
            raise ValueError("without tokens nobody would be let in")

    def __repr__(self) -> str:
        return f"<StaticTokens: {len(self._known)} tokens, for development only>"

    async def verify(self, token: str) -> Principal:
        """Return whoever `token` belongs to; never checkpoints. Raises InvalidToken.

        It takes as long for each token, known or not.
        """
        digest = digest_token(token)
        found = None
        for known, principal in self._known:
            if hmac.compare_digest(known, digest):
                found = principal
        if found is None:
            raise InvalidToken("the access token is not known")
        return found
