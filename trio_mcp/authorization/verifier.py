"""What verifies an access token: the interface, and the two ways in which it may fail.

Owns what every verifier agrees with `Bearer`. Refuses to know HTTP and how a token is verified.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from trio_mcp.errors import MCPError
from trio_mcp.session.principal import Principal


class InvalidToken(MCPError):  # noqa: N818  # the field's name, as `CallTimeout`
    """A token is not valid here: unknown, expired, malformed, or meant for another server.

    The client is answered 401 (RFC 6750, 3.1). `reason` is told to it, so it must hold nothing of the token.
    """

    def __init__(self, reason: str = "the access token is not valid") -> None:
        super().__init__(reason)
        self.reason = reason


class VerifierUnavailable(MCPError):  # noqa: N818  # as above
    """Whether a token is valid cannot be said now, because something that the verifier needs is away.

    The client is answered 503, and told to come back after `retry_after` seconds. `reason` is for the log of
    the server.
    """

    def __init__(self, reason: str, *, retry_after: float = 5.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Verifier(Protocol):
    """An object that verifies access tokens."""

    async def verify(self, token: str) -> Principal:
        """Return whoever `token` was issued for; checkpoints if it has to ask somebody.

        Raises InvalidToken, or VerifierUnavailable if that cannot be said now.
        """


Verify: TypeAlias = Callable[[str], Awaitable[Principal]]
"""A function that does what `Verifier.verify` does."""
