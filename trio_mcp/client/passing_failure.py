"""Which failure of a request says nothing about what was asked for, so that it may succeed later.

Owns that one decision. Refuses to know when and how often the request is repeated.
"""

from __future__ import annotations

from typing import Final

from trio_mcp.client.session import ClientSession
from trio_mcp.errors import ConnectionLost, MCPError, ProtocolError

PASSING_STATUSES: Final = frozenset({408, 425, 429})
"""What HTTP answers, beside the errors of servers and gateways, to a request that may succeed later."""


def may_pass(error: MCPError, session: ClientSession) -> bool:
    """Whether the same request may succeed later over the same connection."""
    if isinstance(error, ConnectionLost):  # over HTTP a single answer can be lost
        return not session.is_lost
    data = error.data if isinstance(error, ProtocolError) else None
    status = data.get("status") if isinstance(data, dict) else None
    return isinstance(status, int) and (status in PASSING_STATUSES or status >= 500)
