"""The parameters and results of each method, as they stand on the wire.

Owns field names and shapes (schema/<revision>/schema.ts). Which era has which
method is in `eras`. Results are mutable until they are sent, because an era
stamps them on their way out.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType, field

from trio_mcp.wire.content import ContentBlock, Icon
from trio_mcp.wire.frames import RequestId

LoggingLevel: TypeAlias = Literal[
    "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"
]
LOGGING_LEVELS: Final[tuple[LoggingLevel, ...]] = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)

META_PROGRESS_TOKEN: Final = "progressToken"
META_PROTOCOL_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
META_CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
META_CLIENT_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
META_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
META_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
META_SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"
META_WANTS_TASK: Final = "io.github.trio-mcp/task"
"""Asks a server that decides by itself (modern tasks) to make a task of this call at once."""
META_HISTORY: Final = "io.github.trio-mcp/history"
"""Asks subscriptions/listen for the reports so far that nobody has taken; the acknowledgement says so too."""
META_REPORTS: Final = "io.github.trio-mcp/reports"
"""How reports that wait for the wire together are joined into one notifications/tasks.

In subscriptions/listen "all", with the reports in between, or "newest", without; in its
acknowledgement the same, and then the state of the task follows. In notifications/tasks the
reports since the one before: microseconds since 1970, current, total, message.
"""
META_DEADLINE: Final = "io.github.trio-mcp/deadline"
"""How many seconds the client will wait, from when it sends the request; marks the error that ends it."""
META_WRAPPED: Final = "io.github.trio-mcp/wrapped"
"""Marks a structured result whose value stands alone under "result"."""


class Implementation(Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """Name and version of a client or server; self-reported, for display only."""

    name: str
    version: str
    title: str | None = None
    description: str | None = None
    website_url: str | None = None
    icons: list[Icon] | None = None


class Params(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What all parameters have: `_meta`."""

    meta: dict[str, Any] | UnsetType = field(name="_meta", default=UNSET)


class InitializeParams(Params, kw_only=True):
    protocol_version: str
    capabilities: dict[str, Any]
    client_info: Implementation


class ListParams(Params, kw_only=True):
    cursor: str | None = None


class TaskParams(Struct, rename="camel", omit_defaults=True):
    """Asks for a task (legacy tasks); `ttl` in milliseconds."""

    ttl: int | float | None = None


class CallToolParams(Params, kw_only=True):
    name: str
    arguments: Raw | UnsetType = UNSET
    task: Raw | UnsetType = UNSET
    input_responses: dict[str, Any] | UnsetType = UNSET
    request_state: str | UnsetType = UNSET


class TaskIdParams(Params, kw_only=True):
    task_id: str


class UpdateTaskParams(TaskIdParams, kw_only=True):
    input_responses: dict[str, Any]


class SubscriptionFilter(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What a client wants to be told of (MCP subscriptions)."""

    task_ids: list[str] | None = None


class ListenParams(Params, kw_only=True):
    notifications: SubscriptionFilter


class SetLevelParams(Params, kw_only=True):
    level: LoggingLevel


class CancelledParams(Params, kw_only=True):
    request_id: RequestId
    reason: str | None = None


class LogParams(Params, kw_only=True):
    level: LoggingLevel
    data: Raw
    logger: str | None = None


class Result(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What all results have: `_meta`, and `resultType` on the modern wire."""

    result_type: str | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class EmptyResult(Result, kw_only=True):
    pass


class CacheableResult(Result, kw_only=True):
    """A result that the modern wire lets clients cache; `ttl_ms` in milliseconds."""

    ttl_ms: int | None = None
    cache_scope: Literal["public", "private"] | None = None


class InitializeResult(Result, kw_only=True):
    protocol_version: str
    capabilities: dict[str, Any]
    server_info: Implementation
    instructions: str | None = None


class DiscoverResult(CacheableResult, kw_only=True):
    supported_versions: list[str]
    capabilities: dict[str, Any]
    instructions: str | None = None


class ToolExecution(Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """How a tool may be run (2025-11-25); `task_support` is forbidden, optional or required."""

    task_support: Literal["forbidden", "optional", "required"] | None = None


class ToolAnnotations(Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """Hints about a tool's behaviour; a client must not trust them (MCP tools)."""

    title: str | None = None
    read_only_hint: bool | None = None
    destructive_hint: bool | None = None
    idempotent_hint: bool | None = None
    open_world_hint: bool | None = None


class Tool(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A tool as it is listed; schemas are JSON Schema 2020-12 objects."""

    name: str
    title: str | None = None
    description: str | None = None
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    annotations: ToolAnnotations | None = None
    execution: ToolExecution | None = None
    icons: list[Icon] | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class ListToolsResult(CacheableResult, kw_only=True):
    tools: list[Tool]
    next_cursor: str | None = None


class CallToolResult(Result, kw_only=True):
    content: list[ContentBlock]
    structured_content: Any = UNSET
    is_error: bool = False


class InputRequiredResult(Result, kw_only=True):
    """Asks the client to send the request again with answers (MCP multi round-trip requests)."""

    input_requests: dict[str, Any] | None = None
    request_state: str | None = None
