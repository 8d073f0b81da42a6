"""Every exception that a caller of trio_mcp can see.

Owns those that need Trio or are no matter of the protocol; those of the protocol are defined in
`trio_mcp.wire.errors`, which must not know Trio, and are exported again here. All are `MCPError`s.
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
    "AuthorizationDenied",
    "AuthorizationError",
    "CallCancelled",
    "CallTimeout",
    "ConnectionLost",
    "CursorError",
    "DefinitionError",
    "DiscoveryError",
    "InsufficientScope",
    "LocalProtocolError",
    "MCPError",
    "NotSupportedByEra",
    "NotSupportedByServer",
    "ProgressOverflow",
    "PromptDefinitionError",
    "ProtocolError",
    "RemoteProtocolError",
    "RequestCancelled",
    "ResourceDefinitionError",
    "ResourceError",
    "ResourceNotFound",
    "ReturnError",
    "ServerLookupError",
    "ServerUnavailable",
    "SubscriptionRefused",
    "TaskCancelled",
    "TaskFailed",
    "TaskNotFound",
    "TaskOverload",
    "TaskTooLarge",
    "TokenStorageError",
    "ToolDefinitionError",
    "ToolError",
]


class DefinitionError(MCPError, TypeError):
    """A server cannot offer what it was given, or not under that name; the message names it."""


class ToolDefinitionError(DefinitionError):
    """A function cannot be made a tool; the message names it, and the parameter."""


class PromptDefinitionError(DefinitionError):
    """A function cannot be made a prompt, or cannot complete an argument; the message names it."""


class ResourceDefinitionError(DefinitionError):
    """A function cannot be made a resource, or cannot complete a variable; the message names it."""


class ArgumentError(MCPError):
    """The arguments of a call do not fit the tool; the message names the path of each that does not."""


class ReturnError(MCPError):
    """A tool returned a value that its annotation or JSON does not allow; the message names the path."""


class ToolError(MCPError):
    """A tool failed, and its `message` is meant for the client.

    A tool raises it to answer with an error result (`isError`, MCP tools, "Error Handling").
    At the client `call_tool` raises it for such a result, which is then in `result`; at the
    server `result` is None.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.result = result


class ResourceError(MCPError):
    """A resource cannot be read, and the message is meant for the client.

    A resource raises it to answer with a JSON-RPC error (MCP resources, "Error Handling"); the client
    gets a ProtocolError.
    """


class ResourceNotFound(ResourceError):
    """There is no such resource; a resource raises it if its URI names nothing that exists."""

    def __init__(self, message: str = "Resource not found") -> None:
        super().__init__(message)


class ConnectionLost(MCPError):
    """The connection ended, or the answer was lost, before the answer came.

    `outcome_unknown` says whether the request was sent, so that the server may have done what it asks for.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class ServerUnavailable(ConnectionLost):
    """A server of a `ClientGroup` is not connected, or its connection was lost during the call.

    `server` is its name in the group.
    """

    def __init__(self, server: str, reason: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(f"server {server!r} {reason}", outcome_unknown=outcome_unknown)
        self.server = server


class ServerLookupError(MCPError, LookupError):
    """It cannot be told which server of a `ClientGroup` is meant; the message names those that there are."""


class CallTimeout(MCPError, trio.TooSlowError):
    """A call took longer than its `idle_timeout` or `max_timeout`; it was cancelled."""


class CallCancelled(MCPError):
    """A call of `Client.start_call` was cancelled, or its block was left, before it had a result."""


class ProgressOverflow(MCPError):
    """A client with the `Lossless` policy received progress faster than its handler took it."""


class NotSupportedByEra(MCPError):
    """The protocol revision of this connection does not have what was asked for."""


class NotSupportedByServer(MCPError):
    """The server does not declare what was asked for, and asking anyway would promise what does not hold."""


class AuthorizationError(MCPError):
    """A client could not get a token for a server, or the server does not accept it; the message says why.

    `error` is the code of OAuth, such as "invalid_grant" (RFC 6749, 5.2), if a server sent one, and `issuer`
    the authorization server, if it is known. No message holds a token, a code or another secret.
    """

    def __init__(self, message: str, *, error: str | None = None, issuer: str | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.issuer = issuer


class AuthorizationDenied(AuthorizationError):
    """The user, or the authorization server on its own, has refused what was asked for."""


class InsufficientScope(AuthorizationError):
    """An operation needs scopes that no token was got for; `required` are those that the server named.

    They were asked for in vain, or could not be: over WebSocket a token holds for the whole connection.
    """

    def __init__(self, message: str, required: frozenset[str], *, issuer: str | None = None) -> None:
        super().__init__(message, error="insufficient_scope", issuer=issuer)
        self.required = required


class DiscoveryError(AuthorizationError):
    """It cannot be found out which authorization server is responsible, or what it says is not trusted."""


class SubscriptionRefused(MCPError):
    """The server tells of nothing that was to be listened for; the message names it."""


class CursorError(MCPError, ValueError):
    """A cursor was not given out to this owner, or is malformed."""


class TaskNotFound(MCPError):
    """There is no such task, it has expired, or it belongs to somebody else; a caller cannot tell which."""


class TaskOverload(MCPError):
    """A cap on background tasks is reached; the message names it."""


class TaskStoreError(MCPError):
    """A task store cannot be opened or used; the message says why."""


class TokenStorageError(MCPError):
    """Stored tokens cannot be read or kept; the message says why, and holds none of them."""


class TaskTooLarge(TaskOverload):
    """The record of a task is larger than its store takes; the message names the cap."""


class TaskCancelled(MCPError):
    """The task was cancelled, so it has no result."""


class TaskFailed(MCPError):
    """The task is gone, and it gave no result."""


class RequestCancelled(MCPError):
    """A thread or process that Trio cannot cancel used a request that was cancelled or has ended.

    It takes the place of `trio.Cancelled` in a thread that Trio did not start, and in another process.
    """
