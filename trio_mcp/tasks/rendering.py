"""Task records as each era sends them.

Owns the mapping from the era-neutral record and outcome to the messages of 2025-11-25 and of
the tasks extension, including the progress that both carry in `_meta`. Knows no store and no client.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from trio_mcp.errors import ProtocolError
from trio_mcp.tasks.record import Outcome, TaskProgress, TaskRecord
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.messages import CallToolResult
from trio_mcp.wire.progress_codec import META_RELATED_TASK, PROGRESS_META, STAGES_META
from trio_mcp.wire.tasks import (
    EXTENSION_ENDS,
    LEGACY_ENDS,
    ExtensionTaskResult,
    LegacyTask,
    LegacyTaskResult,
    WireStatus,
)

MILLISECONDS: Final = 1000

_RESULT_START: Final = (b'{"content":', b'{"_meta":')


def related_meta(task_id: str) -> dict[str, Any]:
    """The `_meta` of every message that belongs to a task (MCP tasks 2025-11-25)."""
    return {META_RELATED_TASK: {"taskId": task_id}}


def progress_meta(progress: TaskProgress) -> dict[str, Any]:
    """The `_meta` that carries a task's progress; absent values are left out."""
    values = {
        "current": progress.current,
        "total": progress.total,
        "message": progress.message,
        # Finer than the protocol's own times, so that a client can tell reports of one millisecond apart.
        "reportedAt": timestamp(progress.reported_at, "microseconds"),
        "rate": _rounded(progress.rate),
        "eta": _rounded(progress.eta),
    }
    return {PROGRESS_META: {key: value for key, value in values.items() if value is not None}}


def _rounded(estimate: float | None) -> float | None:
    """An estimate with the digits that may be right, so that messages stay short."""
    return None if estimate is None else float(f"{estimate:.4g}")


def timestamp(moment: datetime, precision: str = "milliseconds") -> str:
    """ISO 8601 in UTC, as both eras write times."""
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def status_message(record: TaskRecord) -> str | None:
    """The text for a person: the record's own message, else its progress, as in "Fetched data (1/3)"."""
    if record.status_message is not None or record.progress is None:
        return record.status_message
    progress = record.progress
    count = "" if progress.current is None else _number(progress.current)
    if count and progress.total is not None:
        count += f"/{_number(progress.total)}"
    if progress.message is None:
        return count or None
    return f"{progress.message} ({count})" if count else progress.message


def _number(value: float) -> str:
    """As a person writes it: an integer whole, a float with the digits that are exact."""
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def _status(record: TaskRecord, ends: Any) -> WireStatus:
    return record.status.value if record.outcome is None else ends[record.outcome.kind]


def _meta(record: TaskRecord) -> dict[str, Any] | None:
    """The progress and the open stages; an empty list of stages says that none is open any more."""
    if record.progress is None:
        return None
    meta = progress_meta(record.progress)
    if record.progress.stages is not None:
        meta[STAGES_META] = record.progress.stages
    return meta


def _common(record: TaskRecord, ends: Any) -> dict[str, Any]:
    message = status_message(record)
    return {
        "task_id": record.id,
        "status": _status(record, ends),
        "status_message": msgspec.UNSET if message is None else message,
        "created_at": timestamp(record.created_at),
        "last_updated_at": timestamp(record.last_updated_at),
    }


def _legacy_times(record: TaskRecord) -> dict[str, Any]:
    return {
        "ttl": None if record.ttl is None else _milliseconds(record.ttl),
        "poll_interval": _milliseconds(record.poll_interval),
    }


def legacy_task(record: TaskRecord) -> LegacyTask:
    """The task in a list or in CreateTaskResult: without stages, because a list has many tasks."""
    meta = msgspec.UNSET if record.progress is None else progress_meta(record.progress)
    return LegacyTask(**_common(record, LEGACY_ENDS), **_legacy_times(record), meta=meta)


def legacy_change(record: TaskRecord) -> LegacyTask:
    """The task in a status notification."""
    task = legacy_task(record)
    task.meta = _meta(record) or msgspec.UNSET
    return task


def legacy_result(record: TaskRecord) -> LegacyTaskResult:
    """The task as the result of tasks/get and tasks/cancel."""
    return LegacyTaskResult(**_common(record, LEGACY_ENDS), **_legacy_times(record), meta=_meta(record))


def extension_created(record: TaskRecord) -> ExtensionTaskResult:
    """The task in the answer to the call that made it."""
    result = extension_task(record)
    result.result_type = "task"
    return result


def extension_task(record: TaskRecord) -> ExtensionTaskResult:
    """The task in tasks/get and notifications/tasks: with its result, its error or its questions."""
    task = ExtensionTaskResult(
        **_common(record, EXTENSION_ENDS),
        ttl_ms=None if record.ttl is None else _milliseconds(record.ttl),
        poll_interval_ms=_milliseconds(record.poll_interval),
        meta=_meta(record),
    )
    outcome = record.outcome
    if outcome is not None and outcome.result is not None:
        task.result = _complete(outcome.result)
    elif outcome is not None and outcome.error is not None:
        task.error = outcome.error
    elif record.inputs:
        task.input_requests = {
            key: {"method": request.method, "params": dict(request.params)}
            for key, request in record.inputs.items()
        }
    return task


def _complete(result: msgspec.Raw) -> msgspec.Raw:
    """The result of a task with the type that the extension requires; most often it is not decoded."""
    raw = bytes(result)
    if raw.startswith(_RESULT_START):  # as this side encodes it, without a result type
        return msgspec.Raw(b'{"resultType":"complete",' + raw[1:])
    inner = msgspec.json.decode(raw, type=CallToolResult)
    inner.result_type = "complete"
    return encode_value(inner)


def outcome_result(outcome: Outcome) -> CallToolResult:
    """The result of the underlying call; raises ProtocolError if there is none."""
    if outcome.result is not None:
        try:
            return msgspec.json.decode(outcome.result, type=CallToolResult)
        except msgspec.ValidationError:
            # Content that another server has made, of a type that is not known here.
            from trio_mcp.wire.faithful import read_faithfully

            return read_faithfully(outcome.result, CallToolResult, "the result of a task")
    if outcome.error is not None:
        error = outcome.error
        data = None if isinstance(error.data, msgspec.UnsetType) else msgspec.json.decode(error.data)
        raise ProtocolError(error.code, error.message, data)
    raise ProtocolError(INTERNAL_ERROR, "the task was cancelled")


def _milliseconds(seconds: float) -> int:
    return round(seconds * MILLISECONDS)
