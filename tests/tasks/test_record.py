"""The record of a task: its transition table, its changes, ids and owners."""

from __future__ import annotations

import base64
import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from trio_mcp.tasks.record import (
    BEARER,
    MOVES,
    Outcome,
    Owner,
    TaskProgress,
    TaskRecord,
    TaskStatus,
    new_task_id,
    utc_now,
)
from trio_mcp.wire.errors import LocalProtocolError

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
WORKING, INPUT_REQUIRED, COMPLETED, FAILED, CANCELLED = TaskStatus
LEGAL = {
    (WORKING, INPUT_REQUIRED),
    (WORKING, COMPLETED),
    (WORKING, FAILED),
    (WORKING, CANCELLED),
    (INPUT_REQUIRED, WORKING),
    (INPUT_REQUIRED, COMPLETED),
    (INPUT_REQUIRED, FAILED),
    (INPUT_REQUIRED, CANCELLED),
}
"""MCP tasks (2025-11-25), "Task Status Lifecycle"."""


def make_record(**values: Any) -> TaskRecord:
    defaults = {"id": "t", "tool": "tool", "owner": BEARER, "created_at": NOW, "last_updated_at": NOW}
    return TaskRecord(**{**defaults, **values})


@pytest.mark.parametrize(("source", "target"), list(itertools.product(TaskStatus, repeat=2)))
def test_every_move(source: TaskStatus, target: TaskStatus) -> None:
    record = make_record(status=source, version=3)
    if (source, target) in LEGAL or (source is target and not source.is_final):
        moved = record.moved(target, LATER)
        assert (moved.status, moved.version, moved.last_updated_at) == (target, 4, LATER)
    else:
        with pytest.raises(
            LocalProtocolError, match=f"task t cannot move from {source.value} to {target.value}"
        ):
            record.moved(target, LATER)
    assert record == make_record(status=source, version=3), "a record is a value"


def test_the_table_is_the_one_of_the_specification() -> None:
    assert {(source, target) for source, targets in MOVES.items() for target in targets} == LEGAL
    assert set(MOVES) == set(TaskStatus)


def test_every_status_can_be_reached_from_one_that_is_not_final() -> None:
    """Stores rely on it: they may never see a version between two, so a final status is all they check."""
    for source, target in itertools.product(TaskStatus, repeat=2):
        assert source.is_final or source is target or target in MOVES[source]


def test_an_illegal_move_says_what_would_have_been_legal() -> None:
    with pytest.raises(LocalProtocolError, match="legal is nothing: it has ended"):
        make_record(status=FAILED).moved(WORKING, NOW)


def test_statuses_are_spelled_as_on_the_wire() -> None:
    assert [status.value for status in TaskStatus] == [
        "working",
        "input_required",
        "completed",
        "failed",
        "cancelled",
    ]
    assert [status.value for status in TaskStatus if status.is_final] == ["completed", "failed", "cancelled"]
    assert [make_record(status=status).is_final for status in TaskStatus] == [False, False, True, True, True]


def test_a_move_takes_other_values_along() -> None:
    outcome = Outcome("result", result=Raw(b"{}"))
    moved = make_record().moved(COMPLETED, LATER, outcome=outcome, status_message="done")
    assert (moved.outcome, moved.status_message) == (outcome, "done")


def test_a_change_makes_the_next_version() -> None:
    record = make_record(status_message="before", version=7)
    changed = record.changed(LATER, status_message="after")
    assert changed == replace(record, version=8, last_updated_at=LATER, status_message="after")
    assert record.status_message == "before"
    assert record.changed(LATER).version == 8, "even if nothing else is new"


def test_a_record_cannot_be_assigned_to() -> None:
    with pytest.raises(AttributeError):
        make_record().version = 1  # type: ignore[misc]


def reported(*currents: float | None) -> list[float | None]:
    """What is stored after each report."""
    record, stored = make_record(), []
    for current in currents:
        record = record.reported(LATER, current, None, None)
        assert record.progress is not None
        stored.append(record.progress.current)
    return stored


@pytest.mark.parametrize(
    ("currents", "stored"),
    [
        ([5, 3, 6], [5, 5, 6]),
        ([5, 5], [5, 5]),
        ([0.25], [0.25]),
        ([1e-9, 2e-9, 1e-9], [1e-9, 2e-9, 2e-9]),
        ([2**53, 2**53 + 1, 2**53], [2**53, 2**53 + 1, 2**53 + 1]),
        ([None, 0, None], [None, 0, 0]),
        ([-2, -3, -1], [-2, -2, -1]),
    ],
)
def test_a_report_never_goes_back(currents: list[float | None], stored: list[float | None]) -> None:
    assert reported(*currents) == stored


@given(st.lists(st.none() | st.integers() | st.floats(allow_nan=False), max_size=20))
def test_what_is_stored_is_the_largest_so_far(currents: list[float | None]) -> None:
    numbers = [[value for value in currents[: i + 1] if value is not None] for i in range(len(currents))]
    assert reported(*currents) == [max(seen, default=None) for seen in numbers]


def test_a_quarter_of_one_is_stored_as_such() -> None:
    record = make_record().reported(LATER, 0.25, 1.0, "a quarter")
    assert record.progress == TaskProgress(0.25, 1.0, "a quarter", LATER)
    assert (record.version, record.last_updated_at, record.status) == (1, LATER, WORKING)


def test_a_report_that_goes_back_still_brings_its_total_and_message() -> None:
    record = make_record().reported(NOW, 5, 10, "five").reported(LATER, 3, 20, "three")
    assert record.progress == TaskProgress(5, 20, "three", LATER)
    assert record.version == 2


def test_a_report_replaces_total_and_message_with_nothing() -> None:
    record = make_record().reported(NOW, 5, 10, "five").reported(LATER, 6, None, None)
    assert record.progress == TaskProgress(6, None, None, LATER)


def test_ids_are_unique_and_cannot_be_guessed() -> None:
    """MCP tasks (2025-11-25), "Task ID Requirements"; the extension makes them a bearer secret."""
    ids = [new_task_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for task_id in ids:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", task_id), "safe in a URL and in a header"
        raw = base64.urlsafe_b64decode(task_id + "=" * (-len(task_id) % 4))
        assert len(raw) * 8 >= 128
    assert {task_id[i] for task_id in ids for i in (0, -1)} > set("AZaz09_-"), "random from end to end"


@pytest.mark.parametrize(
    ("owner", "asking", "admitted"),
    [
        (BEARER, BEARER, True),
        (BEARER, Owner("principal", "alice"), True),
        (BEARER, Owner("session", "s"), True),
        (Owner("principal", "alice"), Owner("principal", "alice"), True),
        (Owner("principal", "alice"), Owner("principal", "bob"), False),
        (Owner("principal", "alice"), Owner("principal", "Alice"), False),
        (Owner("principal", "alice"), Owner("session", "alice"), False),
        (Owner("principal", "alice"), BEARER, False),
        (Owner("session", "s"), Owner("session", "s"), True),
        (Owner("session", "s"), Owner("session", "t"), False),
        (Owner("session", "s"), Owner("principal", "s"), False),
        (Owner("session", "s"), BEARER, False),
    ],
    ids=str,
)
def test_who_may_see_a_task(owner: Owner, asking: Owner, admitted: bool) -> None:
    assert owner.admits(asking) is admitted


@pytest.mark.parametrize(
    ("ttl", "expires_at"),
    [
        (None, None),
        (0, NOW),
        (60, NOW + timedelta(minutes=1)),
        (0.25, NOW + timedelta(milliseconds=250)),
        (86400 * 365, NOW + timedelta(days=365)),
    ],
)
def test_expiry_counts_from_creation(ttl: float | None, expires_at: datetime | None) -> None:
    record = make_record(ttl=ttl)
    assert record.expires_at == expires_at
    assert record.changed(LATER).expires_at == expires_at, "a change does not put it off"


def test_now_is_aware_and_utc() -> None:
    now = utc_now()
    assert now.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)
