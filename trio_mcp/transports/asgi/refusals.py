"""Every refusal of an endpoint: its status, its words, and how often it was given.

Owns the count by kind of reason. Refuses to know why a request is refused.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

from trio_mcp.transports.asgi.guard import Denial
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.wire.codec import encode_messages, make_error
from trio_mcp.wire.eras import ERAS
from trio_mcp.wire.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    UNSUPPORTED_PROTOCOL_VERSION,
    ProtocolError,
)
from trio_mcp.wire.frames import ErrorResponse, Malformed, RequestId

logger = logging.getLogger("trio_mcp.transports")

NOT_SERVING: Final = (
    "the MCP server is not running: run the ASGI application with lifespan support, "
    "or open the server with open_server and mount asgi_app(running)"
)


class Refusals:
    """Refuses requests, and counts them; each method sends the whole response and checkpoints."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    async def refuse(
        self,
        reply: Reply,
        kind: str,
        status: int,
        reason: str,
        code: int = INVALID_REQUEST,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse a request for a reason of `kind`."""
        self.counts[kind] += 1
        logger.debug("refused with %d: %s", status, reason)
        await reply.refuse(status, code, reason, headers=headers)

    async def deny(self, reply: Reply, denial: Denial) -> None:
        """Refuse a request as a guard says."""
        await self.refuse(reply, denial.kind, denial.status, denial.reason, denial.code, denial.headers)

    async def refuse_malformed(self, reply: Reply, frame: Malformed) -> None:
        """Refuse a body that is no message."""
        self.counts["malformed"] += 1
        await reply.refuse(400, frame.code, frame.reason, ident=frame.id)

    async def refuse_headers(self, reply: Reply, error: ProtocolError, ident: RequestId) -> None:
        """Refuse a request whose headers differ from its body."""
        self.counts["headers"] += 1
        await reply.refuse(400, error.code, error.message, ident=ident)

    async def refuse_version(self, reply: Reply, version: str) -> None:
        """Refuse a protocol version that no era has."""
        self.counts["version"] += 1
        data = {"supported": list(ERAS), "requested": version}
        error = ProtocolError(UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", data)
        await reply.answer(400, encode_messages([ErrorResponse(make_error(error))])[0])

    async def refuse_unserved(self, reply: Reply) -> None:
        """Refuse a request while there is no server."""
        await self.refuse(reply, "not serving", 503, NOT_SERVING, INTERNAL_ERROR)

    async def refuse_overload(self, reply: Reply, kind: str, reason: str) -> None:
        """Refuse a request beyond one of the caps."""
        await self.refuse(reply, kind, 503, f"overloaded: {reason}", INTERNAL_ERROR, {"retry-after": "1"})
