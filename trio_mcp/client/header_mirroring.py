"""The parameters that a modern HTTP client mirrors into headers (MCP 2026-07-28, `x-mcp-header`).

Owns which listed tools can be called over HTTP. Refuses to know how the headers are sent: that is
the transport's work.
"""

from __future__ import annotations

import logging

from trio_mcp.outgoing.transport import MirroringTransport
from trio_mcp.wire.http import read_parameter_headers
from trio_mcp.wire.messages import Tool

logger = logging.getLogger("trio_mcp.client")


def mirror_tools(tools: list[Tool], transport: MirroringTransport) -> list[Tool]:
    """Let `transport` mirror the parameters of `tools` from now on; return those with valid annotations."""
    valid: list[Tool] = []
    paths = {}
    for tool in tools:
        try:
            mirrored = read_parameter_headers(tool.input_schema)
        except ValueError as error:
            logger.warning("tool %r is left out: %s", tool.name, error)
            continue
        valid.append(tool)
        if mirrored:
            paths[tool.name] = mirrored
    transport.parameter_headers.clear()
    transport.parameter_headers.update(paths)
    return valid
