"""The error results of tools that failed.

Owns which exceptions a client reads, and which stay in the server's log (`show_errors`).
"""

from __future__ import annotations

import logging

from trio_mcp.concurrency.failures import leaves
from trio_mcp.errors import ArgumentError, NotSupportedByEra, ProtocolError, ReturnError, ToolError
from trio_mcp.wire.content import TextContent
from trio_mcp.wire.messages import CallToolResult

logger = logging.getLogger("trio_mcp")


def describe_failure(tool: str, failure: BaseException, *, show_errors: bool) -> CallToolResult:
    """The error result that a client sees (MCP tools, "Error Handling").

    Raises `failure` itself if it is a ProtocolError: then the call has no result.
    """
    if isinstance(failure, ProtocolError):
        raise failure
    found = list(leaves(failure))
    for leaf in found:
        if isinstance(leaf, NotSupportedByEra):  # the message says all: where it was raised helps nobody
            logger.warning("tool %r failed: %s", tool, leaf)
    if all(isinstance(leaf, (ToolError, ArgumentError, ReturnError, NotSupportedByEra)) for leaf in found):
        return _error_result("\n".join(str(leaf) for leaf in found))
    for leaf in found:
        logger.error("tool %r failed", tool, exc_info=leaf)
    text = f"Error in tool {tool!r}"
    if show_errors:
        text += ": " + "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in found)
    return _error_result(text)


def _error_result(text: str) -> CallToolResult:
    # A lone surrogate cannot be encoded, and the rest of the message should still arrive.
    text = text.encode(errors="backslashreplace").decode()
    return CallToolResult(content=[TextContent(text=text)], is_error=True)
