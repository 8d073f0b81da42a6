"""Tasks on the wire, in both of their protocols.

Owns the shapes of 2025-11-25 ("legacy", MCP tasks) and of the extension
`io.modelcontextprotocol/tasks` (SEP-2663), and the status that each gives to a task
that has ended. The tasks themselves are in `trio_mcp.tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType, field

from trio_mcp.wire.frames import ErrorObject
from trio_mcp.wire.messages import Result

EXTENSION: Final = "io.modelcontextprotocol/tasks"

WireStatus: TypeAlias = Literal["working", "input_required", "completed", "failed", "cancelled"]

LEGACY_ENDS: Final[Mapping[str, WireStatus]] = {
    "result": "completed",
    "tool_error": "failed",
    "protocol_error": "failed",
    "cancelled": "cancelled",
}
EXTENSION_ENDS: Final[Mapping[str, WireStatus]] = {
    "result": "completed",
    "tool_error": "completed",
    "protocol_error": "failed",
    "cancelled": "cancelled",
}
"""The status of a task that has ended, by the kind of its outcome, for each protocol."""


class LegacyTask(Struct, rename="camel", kw_only=True):
    """A task of 2025-11-25; `ttl` and `poll_interval` in milliseconds, times in ISO 8601."""

    task_id: str
    status: WireStatus
    status_message: str | UnsetType = UNSET
    created_at: str
    last_updated_at: str
    ttl: int | float | None = None
    poll_interval: int | float | UnsetType = UNSET
    meta: dict[str, Any] | UnsetType = field(name="_meta", default=UNSET)


class LegacyCreateTaskResult(Result, kw_only=True):
    task: LegacyTask


class LegacyTaskResult(Result, kw_only=True):
    """A task as the result of tasks/get and tasks/cancel."""

    task_id: str
    status: WireStatus
    status_message: str | UnsetType = UNSET
    created_at: str
    last_updated_at: str
    ttl: int | float | UnsetType | None = UNSET
    poll_interval: int | float | UnsetType = UNSET


class ListTasksResult(Result, kw_only=True):
    tasks: list[LegacyTask]
    next_cursor: str | None = None


class ExtensionTaskResult(Result, kw_only=True):
    """A task of the extension: the result of its creation and of tasks/get, and a notification."""

    task_id: str
    status: WireStatus
    status_message: str | UnsetType = UNSET
    created_at: str
    last_updated_at: str
    ttl_ms: int | float | UnsetType | None = UNSET
    poll_interval_ms: int | float | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET
    input_requests: dict[str, Any] | UnsetType = UNSET
