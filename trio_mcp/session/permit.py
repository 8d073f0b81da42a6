"""With what a request was let in: whom it acts for, what it may use, and until when.

Owns the rules that follow from a principal. Refuses to know how somebody was authenticated, and tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection

import attrs
import trio

from trio_mcp.session.principal import Principal
from trio_mcp.wire.errors import INSUFFICIENT_SCOPE, REQUIRED_SCOPES, ProtocolError


@attrs.frozen
class Permit:
    """What a transport has found out about a client; a client without one may use everything.

    `principal` is None for a client that is nobody in particular. `scopes` are what it may use, None for
    everything: those of the principal, and those that these imply. `ends_at` is when the permit ends, on
    Trio's clock. Ownership compares `owner` only, the name of the principal.
    """

    principal: Principal | None
    scopes: frozenset[str] | None = None
    ends_at: float = math.inf

    @property
    def owner(self) -> str | None:
        """To whom tasks, sessions and request state belong: the name of the principal, or None."""
        return None if self.principal is None else self.principal.name

    def lacks(self, scopes: Collection[str]) -> bool:
        """Whether something that needs all `scopes` may not be used."""
        return self.scopes is not None and not self.scopes.issuperset(scopes)

    def require(self, scopes: Collection[str]) -> None:
        """Raise ProtocolError with all `scopes`, which something needs, if any is missing."""
        if self.lacks(scopes):
            needed = sorted(scopes)
            text = f"this needs the scope{'s' if len(needed) > 1 else ''} {', '.join(needed)}"
            raise ProtocolError(INSUFFICIENT_SCOPE, text, {REQUIRED_SCOPES: needed})


def make_permit(
    who: Principal | str | None, *, leeway: float = 0.0, now: Callable[[], float] = time.time
) -> Permit | None:
    """The permit of a principal, or of one that is only a name; None for None.

    It ends `leeway` seconds after the principal's `expires_at`, by the clock `now`, in Unix seconds. Raises
    TypeError for anything else.
    """
    if who is None:
        return None
    if isinstance(who, str):
        return Permit(Principal(who))
    if not isinstance(who, Principal):
        raise TypeError(f"a principal must be a Principal, its name or None, not {type(who).__name__}")
    if who.expires_at is None:
        return Permit(who, who.scopes)
    return Permit(who, who.scopes, trio.current_time() + who.expires_at + leeway - now())
