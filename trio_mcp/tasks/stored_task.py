"""What a store keeps of a task beside its record.

Owns what is needed to run a task again in another process: its call, its checkpoint, the answers of its
client, and who holds it. Knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Raw, Struct

from trio_mcp.tasks.record import Owner, TaskRecord

Recovery: TypeAlias = Literal["fail", "restart"]
"""What becomes of a task whose process has died: it fails with "interrupted", or it is run again."""

DEFAULT_REPORTS: Final = 256
"""Reports that our stores keep of each task for whoever reads them later."""

CLAIM_BITS: Final = 32
"""Offsets of one claim stand below those of the next, which begin at `claim << CLAIM_BITS`."""


class StoredReport(NamedTuple):
    """One report of a task, as a store keeps it.

    `offset` grows from report to report of one task, also from one claim of it to the next, but may skip
    numbers. `reported_at` is in microseconds since 1970.
    """

    offset: int
    current: float | None
    total: float | None
    message: str | None
    reported_at: int


class TaskWork(Struct, frozen=True, kw_only=True):
    """The call of which a task was made, as another process needs it to run it.

    `arguments` are those of the tool, as JSON. `era` is the revision of the protocol and
    `client_capabilities` what the client has declared, on which depends what the handler may ask.
    `payer` is for whom the task counts. If the process that runs the task dies, `recover` says what then, and
    `attempts` how often the task is begun at most. `gathered` is what the tool's `gather` has returned, as
    JSON. `is_listed` is False for the record of a call that no client sees as a task. `scopes` are what the
    client might use, None for everything. `trace` is the W3C context of the call, by its keys.
    """

    arguments: Raw | None = None
    era: str = ""
    client_capabilities: Mapping[str, Any] = {}
    payer: Owner | None = None
    recover: Recovery = "fail"
    attempts: int = 1
    gathered: Raw | None = None
    is_listed: bool = True
    scopes: frozenset[str] | None = None
    trace: Mapping[str, str] = {}


class StoredTask(Struct, frozen=True, kw_only=True):
    """All that a store keeps of one task.

    `holder` is the id of the process that runs it: None if it has ended, or waits in the queue until
    `ready_at` (UTC, None for at once). `claim` counts how often the task was claimed; a store refuses what
    comes under an older claim. `checkpoint` is the value that the handler kept last, as JSON, and `answers`
    what the client has answered so far, as JSON by the keys of the questions. `offset` is that of the newest
    report that is stored, 0 if there is none.
    """

    record: TaskRecord
    work: TaskWork | None = None
    holder: str | None = None
    claim: int = 0
    ready_at: datetime | None = None
    checkpoint: Raw | None = None
    answers: Mapping[str, Raw] = {}
    offset: int = 0
