"""What the clients of a proxy are told if its upstream server cannot be asked, or gives no answer.

Owns the wording. An error that the upstream server itself answers is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trio_mcp.errors import (
    AuthorizationError,
    ConnectionLost,
    MCPError,
    ProtocolError,
)
from trio_mcp.printable import one_line
from trio_mcp.wire.errors import INTERNAL_ERROR

UNAVAILABLE: Final = 503
"""The status in the error for a server that is away: the same request may succeed later."""


def unavailable(server: str, reason: str) -> ProtocolError:
    """The error for a request that was not sent, because there is no connection to `server`."""
    return ProtocolError(INTERNAL_ERROR, f"{_name(server)} {reason}", {"status": UNAVAILABLE})


@contextmanager
def explained(server: str) -> Iterator[None]:
    """While the block lasts, what fails on the way to `server` becomes an error for the proxy's client."""
    try:
        yield
    except AuthorizationError as error:  # also one that is a ProtocolError: the token is that of the proxy
        text = f"{_name(server)} does not let this proxy in: {error}"
        raise ProtocolError(INTERNAL_ERROR, text) from error
    except ProtocolError:
        raise
    except ConnectionLost as error:
        data = None if error.outcome_unknown else {"status": UNAVAILABLE}
        raise ProtocolError(INTERNAL_ERROR, f"{_name(server)} was lost: {error}", data) from error
    except MCPError as error:
        raise ProtocolError(INTERNAL_ERROR, f"{_name(server)}: {error}") from error


def _name(server: str) -> str:
    return f"the upstream server {one_line(repr(server))}"
