"""The errors of the protocol itself: JSON-RPC codes, and who broke which rule.

Owns the error codes of JSON-RPC 2.0 and of every MCP revision. Knows nothing
of Trio; `trio_mcp.errors` exports again what callers can see.
"""

from __future__ import annotations

from typing import Any, Final

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
DEADLINE_PASSED: Final = -32001
"""No code of MCP's: the official TypeScript SDK uses it for a request that timed out."""
RESOURCE_NOT_FOUND: Final = -32002
"""The legacy revisions only; the modern one has INVALID_PARAMS for it."""
URL_ELICITATION_REQUIRED: Final = -32042
"""Revision 2025-11-25 only."""
INSUFFICIENT_SCOPE: Final = -32043
"""No code of MCP's, whose answer over HTTP is the status 403; `data` has the scopes that are needed."""
REQUIRED_SCOPES: Final = "requiredScopes"
"""The member of that `data`: a list of names."""
OVERLOADED: Final = -32000
"""No code of MCP's: the server takes no such request now. `data` has an HTTP status, 429 or 503, as `status`.

With the member `RETRY_AFTER` it says when the same request may be sent again.
"""
RETRY_AFTER: Final = "retryAfter"
"""The member of that `data`: a number of seconds."""
HEADER_MISMATCH: Final = -32020
MISSING_CLIENT_CAPABILITY: Final = -32021
UNSUPPORTED_PROTOCOL_VERSION: Final = -32022


class MCPError(Exception):
    """The base class of every exception that trio_mcp defines."""


class ProtocolError(MCPError):
    """A JSON-RPC error: the answer of a peer, or the answer that a handler wants to give.

    `code` is the JSON-RPC code (an integer), `message` one sentence, `data` any
    JSON value or None. A client raises it when the server answers with an error;
    a handler that raises it answers with exactly that error (MCP base protocol,
    "Error Responses").
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class LocalProtocolError(MCPError):
    """This side tried something that the protocol does not allow in this state."""


class RemoteProtocolError(MCPError):
    """The peer sent something that the protocol does not allow in this state."""
