"""The errors of a tool's definition and of the values that cross it.

Owns what is raised when a signature cannot become a tool, when arguments do not
fit it, and when a result is not what was promised. Knows nothing of schemas.
"""

from __future__ import annotations

from trio_mcp.wire.errors import MCPError


class ToolDefinitionError(MCPError, TypeError):
    """A function cannot become a tool; the message names the function and the parameter."""


class ArgumentError(MCPError):
    """The arguments of a call do not fit the tool; the message lists every problem with its path."""


class ReturnError(MCPError):
    """A tool returned what its annotation or JSON does not allow; the message names the path."""


class UnsupportedFormError(Exception):
    """An annotation has no JSON form. Stays inside this package: it becomes a ToolDefinitionError."""
