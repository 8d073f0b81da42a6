"""Every exception that a caller of trio_mcp can see.

Those of the protocol are defined in `trio_mcp.wire.errors`, which must not know
Trio, and stand here again.
"""

from __future__ import annotations

from typing import Any

import trio

from trio_mcp.wire.errors import (
    LocalProtocolError,
    MCPError,
    ProtocolError,
    RemoteProtocolError,
)

__all__ = [
    "ArgumentError",
    "CallTimeout",
    "ConnectionLost",
    "CursorError",
    "LocalProtocolError",
    "MCPError",
    "NotSupportedByEra",
    "ProgressOverflow",
    "ProtocolError",
    "RemoteProtocolError",
    "RequestCancelled",
    "ReturnError",
    "TaskCancelled",
    "TaskFailed",
    "TaskNotFound",
    "TaskOverload",
    "ToolDefinitionError",
    "ToolError",
]


class ToolDefinitionError(MCPError, TypeError):
    """A function cannot be a tool; the message names the function and the parameter."""


class ArgumentError(MCPError):
    """The arguments of a call do not fit the tool; the message names every path."""


class ReturnError(MCPError):
    """A tool returned what its annotation or JSON does not allow; the message names the path."""


class ToolError(MCPError):
    """A tool failed, in words that are meant for the client.

    A handler raises it to answer with an error result (`isError`, MCP tools,
    "Error Handling"); a client raises it for such a result, which is then in
    `result`.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.result = result


class ConnectionLost(MCPError):
    """The connection ended before the answer came."""


class CallTimeout(MCPError, trio.TooSlowError):
    """A call took longer than its `idle_timeout` or `max_timeout`; it was cancelled."""


class CallCancelled(MCPError):
    """A call was cancelled, or its block left, before there was a result (`Client.start_call`)."""


class ProgressOverflow(MCPError):
    """A client under the lossless policy got progress faster than its handler took it."""


class NotSupportedByEra(MCPError):
    """The protocol revision of this connection has no such thing."""


class CursorError(MCPError, ValueError):
    """A cursor that was not given out to this owner, or is none at all."""


class TaskNotFound(MCPError):
    """There is no such task, it has expired, or it belongs to somebody else: all look the same."""


class TaskOverload(MCPError):
    """A cap on background tasks is reached; the message names it."""


class TaskCancelled(MCPError):
    """The task whose result was asked for was cancelled."""


class TaskFailed(MCPError):
    """The task whose result was asked for is gone before it gave one."""


class RequestCancelled(MCPError):
    """Somebody whom Trio cannot cancel reports for a request that was cancelled or has ended.

    That is a thread that Trio did not start, or another process.
    """
