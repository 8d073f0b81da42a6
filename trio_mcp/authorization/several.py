"""Several verifiers in turn: for a server that takes the tokens of more than one issuer.

Owns what it means if they disagree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trio_mcp.authorization.verifier import InvalidToken, Verifier, VerifierUnavailable
from trio_mcp.session.principal import Principal


class AnyOf:
    """Asks each of `verifiers`, in their order, until one accepts the token; a verifier for `Bearer`.

    A token is invalid only if all say so. If none accepts it and one of them cannot say, nobody can:
    VerifierUnavailable. An `Introspection` sends each token that no verifier before it accepts to its
    endpoint, so those of other issuers come first. Raises ValueError without verifiers, and TypeError for
    what is none.
    """

    def __init__(self, *verifiers: Verifier | Callable[[str], Awaitable[Principal]]) -> None:
        if not verifiers:
            raise ValueError("at least one verifier is needed")
        self._verifiers = verifiers
        self._verify = [_find_verify(verifier) for verifier in verifiers]

    def __repr__(self) -> str:
        return f"<AnyOf {', '.join(map(repr, self._verifiers))}>"

    @property
    def issuers(self) -> tuple[str, ...]:
        """Whose tokens are accepted, for the metadata of the server."""
        told = (issuer for verifier in self._verifiers for issuer in getattr(verifier, "issuers", ()))
        return tuple(dict.fromkeys(told))

    @property
    def is_for_development(self) -> bool:
        """Whether one of the verifiers is for development only."""
        return any(getattr(verifier, "is_for_development", False) for verifier in self._verifiers)

    async def verify(self, token: str) -> Principal:
        """Return whoever `token` was issued for; checkpoints if a verifier does.

        Raises InvalidToken with the reasons of all, or VerifierUnavailable.
        """
        reasons: list[str] = []
        outages: list[VerifierUnavailable] = []
        for verify in self._verify:
            try:
                return await verify(token)
            except InvalidToken as refusal:
                reasons.append(refusal.reason)
            except VerifierUnavailable as outage:
                outages.append(outage)
        if outages:
            raise VerifierUnavailable(
                "; ".join(outage.reason for outage in outages),
                retry_after=min(outage.retry_after for outage in outages),
            )
        raise InvalidToken("; ".join(dict.fromkeys(reasons)))


def _find_verify(
    verifier: Verifier | Callable[[str], Awaitable[Principal]],
) -> Callable[[str], Awaitable[Principal]]:
    verify = getattr(verifier, "verify", verifier)
    if not callable(verify):
        raise TypeError(f"{verifier!r} is no verifier: it has no method verify, and it cannot be called")
    return verify
