"""The record of one background task, and how its status may move.

Owns the record, the transition table and the era-neutral outcome. Knows no
wire, no store and no nursery.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from msgspec import Raw, Struct
from msgspec.structs import replace

from trio_mcp.wire.errors import LocalProtocolError
from trio_mcp.wire.frames import ErrorObject, StageState


class TaskStatus(enum.StrEnum):
    """The status of a task, in the words of the wire (MCP tasks, "Task Status")."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether a task in this status never changes again."""
        return not MOVES[self]


_W, _I, _C, _F, _X = TaskStatus
MOVES: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = {
    _W: frozenset({_I, _C, _F, _X}),
    _I: frozenset({_W, _C, _F, _X}),
    _C: frozenset(),
    _F: frozenset(),
    _X: frozenset(),
}
"""From each status, the statuses that a task may move to."""

OwnerKind: TypeAlias = Literal["principal", "session", "bearer"]


class Owner(Struct, frozen=True, cache_hash=True):
    """Who may see a task: an authenticated principal, a legacy session, or anyone who knows its id.

    The name of a bearer is the legacy session that made the task, or "": it bounds the list, not access.
    """

    kind: OwnerKind
    name: str = ""

    def admits(self, other: Owner) -> bool:
        """Whether `other`, who asks, may see the tasks of this owner."""
        return self.kind == "bearer" or self == other


BEARER: Final = Owner("bearer")


class TaskProgress(Struct, frozen=True):
    """How far a task has come: the values of its last report, and the time of that report (UTC).

    `rate` is the progress per second and `eta` the seconds that were left then, as estimated from
    the reports; both are None if that is unknown, or the task has ended. `stages` are the stages
    that were open then, at most 16, parents first; None for a task that never had any. `offset` is the number
    of that report within the task, or 0 if it is not known.
    """

    current: float | None
    total: float | None
    message: str | None
    reported_at: datetime
    rate: float | None = None
    eta: float | None = None
    stages: tuple[StageState, ...] | None = None
    offset: int = 0

    def ended(self) -> TaskProgress:
        """The same for a task that has ended: without an estimate, and with no stage open."""
        return replace(self, rate=None, eta=None, stages=None if self.stages is None else ())


class Outcome(Struct, frozen=True):
    """How a task ended, before it is rendered for an era.

    `result` is the encoded result of a "result" or a "tool_error", `error` the
    JSON-RPC error of a "protocol_error"; a "cancelled" task has neither.
    """

    kind: Literal["result", "tool_error", "protocol_error", "cancelled"]
    result: Raw | None = None
    error: ErrorObject | None = None


class InputRequest(Struct, frozen=True):
    """What a task asks its client: a method such as elicitation/create, and its parameters."""

    method: str
    params: Mapping[str, Any]


class TaskRecord(Struct, frozen=True, kw_only=True):
    """The state of one task at one moment; a change makes a new record (`msgspec.structs.replace`).

    `ttl` and `poll_interval` are in seconds, `ttl` None for unlimited, counted from
    `created_at`; all times are UTC. `status` is era-neutral: what the wire calls a
    failure depends on `outcome`. `version` grows with every change. `attempt` says how often the task
    was begun, this time included; it is 0 while the task waits for its first time. `arguments_digest` is that
    of the arguments of a call with an idempotency key, so that another call with the key can be told apart.
    """

    id: str
    tool: str
    owner: Owner
    created_at: datetime
    last_updated_at: datetime
    status: TaskStatus = TaskStatus.WORKING
    status_message: str | None = None
    ttl: float | None = None
    poll_interval: float = 1.0
    progress: TaskProgress | None = None
    outcome: Outcome | None = None
    inputs: Mapping[str, InputRequest] = {}  # a new one for each record, as in every Struct
    version: int = 0
    attempt: int = 1
    arguments_digest: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self.status.is_final

    @property
    def expires_at(self) -> datetime | None:
        """When the record may go, or None for never."""
        if self.ttl is None:
            return None
        try:
            return self.created_at + timedelta(seconds=self.ttl)
        except OverflowError:
            return None  # later than any date there is

    def has_expired(self, now: datetime) -> bool:
        """Whether the record may go by `now`."""
        expires_at = self.expires_at
        return expires_at is not None and expires_at <= now

    def moved(self, status: TaskStatus, now: datetime, **changes: Any) -> TaskRecord:
        """The record after a move to `status`; raises LocalProtocolError if the table has no such move."""
        stays = status is self.status and not self.is_final
        if not stays and status not in MOVES[self.status]:
            legal = ", ".join(sorted(MOVES[self.status])) or "nothing: it has ended"
            raise LocalProtocolError(
                f"task {self.id} cannot move from {self.status.value} to {status.value}; legal is {legal}"
            )
        if status.is_final and self.progress is not None:
            changes.setdefault("progress", self.progress.ended())
        return self.changed(now, status=status, **changes)

    def changed(self, now: datetime, **changes: Any) -> TaskRecord:
        """The record with other values and the next version."""
        return replace(self, last_updated_at=now, version=self.version + 1, **changes)

    def reported(
        self, now: datetime, current: float | None, total: float | None, message: str | None
    ) -> TaskRecord:
        """The record after a report; `current` never decreases."""
        before = None if self.progress is None else self.progress.current
        if before is not None and (current is None or current < before):
            current = before
        return self.changed(now, progress=TaskProgress(current, total, message, now))


def new_task_id() -> str:
    """An id that cannot be guessed: 192 random bits, safe in a URL."""
    return secrets.token_urlsafe(24)


def utc_now() -> datetime:
    """The present time, aware and in UTC."""
    return datetime.now(UTC)
