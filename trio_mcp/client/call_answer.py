"""The three answers that a server can give to tools/call: a result, a background task, or questions.

Owns the reading of such an answer. `tool_call.py` decides what to do next.
"""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from msgspec import UNSET, UnsetType

from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.task_snapshot import TaskSnapshot, read_snapshot
from trio_mcp.errors import RemoteProtocolError
from trio_mcp.wire.frames import StageState


@attrs.frozen
class Answered:
    """The server answered the call at once; `raw` is the tool's result, still encoded."""

    raw: msgspec.Raw


@attrs.frozen
class TaskStarted:
    """The server made a task of the call, or the task was found by its id.

    `token_call` is the request whose progress token the task continues to use (2025-11-25), and
    `has_token` says whether that request asked for progress. `reported` is the last progress of the
    call that the handler has seen (current, total, message); `stages` are the stages that were open then.
    `offset` is that of the newest report that was delivered in another process.
    """

    snapshot: TaskSnapshot
    token_call: PendingCall | None = None
    has_token: bool = False
    reported: tuple[Any, ...] | None = None
    stages: tuple[StageState, ...] | None = None
    offset: int = 0


class Question(msgspec.Struct):
    """One question of a server, for example an elicitation, which must be answered before the call is."""

    method: str
    params: dict[str, Any] | None = None


class Questions(msgspec.Struct, rename="camel"):
    """An answer that asks for input (MCP multi round-trip requests)."""

    result_type: str | None = None
    input_requests: dict[str, Question] | None = None
    request_state: str | None = None


class _Created(msgspec.Struct, rename="camel"):
    result_type: str | None = None
    task: msgspec.Raw | UnsetType = UNSET


def read_created(raw: msgspec.Raw) -> TaskSnapshot | None:
    """Return the task that a server made of a call, or None if it answered directly.

    Raises RemoteProtocolError for a malformed task.
    """
    if b'"task"' not in bytes(raw):
        return None
    try:
        created = msgspec.json.decode(raw, type=_Created)
    except (msgspec.MsgspecError, RecursionError):
        return None  # no task; the error is raised where results are read
    if created.result_type == "task":
        return read_snapshot(raw)
    return None if isinstance(created.task, UnsetType) else read_snapshot(created.task)


def read_questions(raw: msgspec.Raw) -> Questions | None:
    """Return the questions that a server asks instead of answering, or None if it answered.

    Raises RemoteProtocolError for malformed questions.
    """
    if b'"input_required"' not in bytes(raw):
        return None
    try:
        questions = msgspec.json.decode(raw, type=Questions)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RemoteProtocolError(f"the server sent malformed questions: {error}") from None
    if questions.result_type != "input_required":
        return None
    if not questions.input_requests and questions.request_state is None:
        raise RemoteProtocolError("the server asks for input and says not for what")
    return questions
