"""The parameters and results of each method, as JSON objects.

Owns field names and types (schema/<revision>/schema.ts): snake_case in Python, camelCase in
JSON. Refuses to know which era has which method: that is in `eras`. Results are mutable
until they are sent, because `Era.stamp` adds members to them.
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
"""Asks a server, which decides by itself in the modern era, to make this call a task at once."""
META_HISTORY: Final = "io.github.trio-mcp/history"
"""Asks subscriptions/listen for the reports that no client has received; the acknowledgement repeats it."""
META_REPORTS: Final = "io.github.trio-mcp/reports"
"""How reports that are sent together are joined into one notifications/tasks.

In subscriptions/listen it is "all", to get every report, or "newest", to get the last one. The
acknowledgement repeats it, and the state of the task follows. In notifications/tasks it holds the
reports since the notification before, each as microseconds since 1970, current, total, message.
"""
META_SINCE: Final = "io.github.trio-mcp/since"
"""In subscriptions/listen: an object of offsets by the ids of tasks, to get the reports behind these.

With it, a report in `META_REPORTS` ends with its offset, and the state of a task has `META_OFFSET`.
"""
META_OFFSET: Final = "io.github.trio-mcp/offset"
"""The number of the newest report that the state of a task includes; numbers of a task only grow."""
META_IDEMPOTENCY_KEY: Final = "io.github.trio-mcp/idempotency-key"
"""Names a tools/call, so that it is carried out once however often it is sent.

A server that knows it declares it among its experimental capabilities.
"""
META_DEADLINE: Final = "io.github.trio-mcp/deadline"
"""How many seconds the client waits for an answer to the request; marks the error that ends one."""
META_TRACE: Final = ("traceparent", "tracestate", "baggage")
"""The W3C context of a request, for whoever traces it (MCP base protocol 2026-07-28, "_meta")."""
META_ASKING: Final = "io.github.trio-mcp/request"
"""In a question of a server (legacy): the id of the request that needs its answer."""
META_WRAPPED: Final = "io.github.trio-mcp/wrapped"
"""Marks a structured result that is not an object, and was put into one under "result"."""


class Implementation(Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """The name and version of a client or server, by its own account; for display only."""

    name: str
    version: str
    title: str | None = None
    description: str | None = None
    website_url: str | None = None
    icons: list[Icon] | None = None


class Params(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The member that all parameters have: `_meta`."""

    meta: dict[str, Any] | UnsetType = field(name="_meta", default=UNSET)


class InitializeParams(Params, kw_only=True):
    """The client's side of the handshake (MCP lifecycle)."""

    protocol_version: str
    capabilities: dict[str, Any] | None = None
    client_info: Implementation | None = None


class ListParams(Params, kw_only=True):
    """Asks for one page of a list; `cursor` is the `next_cursor` of the page before (MCP pagination)."""

    cursor: str | None = None


class TaskParams(Struct, rename="camel", omit_defaults=True):
    """The wish for a task (legacy tasks); `ttl` is in milliseconds."""

    ttl: int | float | None = None


class CallToolParams(Params, kw_only=True):
    """A tools/call; `input_responses` and `request_state` continue one that asked for input."""

    name: str
    arguments: Raw | UnsetType = UNSET
    task: Raw | UnsetType = UNSET
    input_responses: dict[str, Any] | UnsetType = UNSET
    request_state: str | UnsetType = UNSET


class GetPromptParams(Params, kw_only=True):
    """A prompts/get; the values of `arguments` are texts (MCP prompts).

    `input_responses` and `request_state` continue one that asked for input.
    """

    name: str
    arguments: dict[str, Any] | None = None
    input_responses: dict[str, Any] | UnsetType = UNSET
    request_state: str | UnsetType = UNSET


class PromptReference(
    Struct, rename="camel", omit_defaults=True, kw_only=True, tag_field="type", tag="ref/prompt"
):
    """Names the prompt whose argument is completed (MCP completion)."""

    name: str
    title: str | None = None


class ResourceTemplateReference(Struct, tag_field="type", tag="ref/resource"):
    """Names the resource template whose variable is completed: its URI template (MCP completion)."""

    uri: str


class CompletionArgument(Struct):
    """The argument that is completed, and what has been typed of its value."""

    name: str
    value: str


class CompletionContext(Struct, omit_defaults=True):
    """The arguments that have their value already."""

    arguments: dict[str, str] | None = None


class CompleteParams(Params, kw_only=True):
    """A completion/complete (MCP completion)."""

    ref: PromptReference | ResourceTemplateReference
    argument: CompletionArgument
    context: CompletionContext | None = None


class ReadResourceParams(Params, kw_only=True):
    """A resources/read; `input_responses` and `request_state` continue one that asked for input."""

    uri: str
    input_responses: dict[str, Any] | UnsetType = UNSET
    request_state: str | UnsetType = UNSET


class TaskIdParams(Params, kw_only=True):
    """Names a task."""

    task_id: str


class UpdateTaskParams(TaskIdParams, kw_only=True):
    """Answers the questions of a task (tasks/update)."""

    input_responses: dict[str, Any]


class SubscriptionFilter(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The notifications that a client wants (MCP subscriptions); `resource_subscriptions` are URIs."""

    tools_list_changed: bool | None = None
    prompts_list_changed: bool | None = None
    resources_list_changed: bool | None = None
    resource_subscriptions: list[str] | None = None
    task_ids: list[str] | None = None


class ListenParams(Params, kw_only=True):
    """A subscriptions/listen."""

    notifications: SubscriptionFilter


class SubscribeParams(Params, kw_only=True):
    """A resources/subscribe or resources/unsubscribe (legacy)."""

    uri: str


class SetLevelParams(Params, kw_only=True):
    """A logging/setLevel: the lowest level that the session wants."""

    level: LoggingLevel


class CancelledParams(Params, kw_only=True):
    """A notifications/cancelled: the sender of the request no longer wants an answer."""

    request_id: RequestId
    reason: str | None = None


class LogParams(Params, kw_only=True):
    """A notifications/message: one log entry; `data` is any JSON value (MCP logging)."""

    level: LoggingLevel
    data: Raw
    logger: str | None = None


class Result(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The members that all results have: `_meta`, and in the modern era `resultType`."""

    result_type: str | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class EmptyResult(Result, kw_only=True):
    """The result of a method that returns nothing."""


class CacheableResult(Result, kw_only=True):
    """A result that clients of the modern era may cache; `ttl_ms` is in milliseconds."""

    ttl_ms: int | None = None
    cache_scope: Literal["public", "private"] | None = None


class InitializeResult(Result, kw_only=True):
    """The server's side of the handshake (MCP lifecycle)."""

    protocol_version: str
    capabilities: dict[str, Any] | None = None
    server_info: Implementation | None = None
    instructions: str | None = None


class DiscoverResult(CacheableResult, kw_only=True):
    """The result of server/discover, which takes the place of the handshake in the modern era."""

    supported_versions: list[str]
    capabilities: dict[str, Any] | None = None
    instructions: str | None = None


class ToolExecution(Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """Whether a tool can run as a task (2025-11-25)."""

    task_support: Literal["forbidden", "optional", "required"] | None = None


class ToolAnnotations(Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """Hints about a tool's behaviour; a client must not trust them (MCP tools)."""

    title: str | None = None
    read_only_hint: bool | None = None
    destructive_hint: bool | None = None
    idempotent_hint: bool | None = None
    open_world_hint: bool | None = None


class Tool(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A tool as tools/list shows it; the schemas are JSON Schema 2020-12 objects."""

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
    """One page of tools; without `next_cursor` it is the last."""

    tools: list[Tool]
    next_cursor: str | None = None


class CallToolResult(Result, kw_only=True):
    """The result of a tool; `is_error` says that the tool failed (MCP tools, "Error Handling")."""

    content: list[ContentBlock]
    structured_content: Any = UNSET
    is_error: bool = False


class InputRequiredResult(Result, kw_only=True):
    """Asks the client to send the request again with answers (MCP multi round-trip requests)."""

    input_requests: dict[str, Any] | None = None
    request_state: str | None = None
