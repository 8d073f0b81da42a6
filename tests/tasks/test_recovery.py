"""What becomes of the task of a process that has died."""

from __future__ import annotations

from tests.tasks.store_cases import NOW, SECOND, WORK, make_record
from trio_mcp.tasks.record import TaskStatus as Status
from trio_mcp.tasks.recovery import MAX_CLAIMS, recovered
from trio_mcp.tasks.stored_task import StoredTask


def held(attempt: int, claim: int) -> StoredTask:
    """A task whose tool does not want it to be run again."""
    assert WORK.recover == "fail"
    return StoredTask(record=make_record(attempt=attempt), work=WORK, holder="dead", claim=claim)


def test_a_task_that_was_claimed_and_not_begun_waits_for_the_next() -> None:
    """Where a claim and the count of its attempt are two steps, a process may die between them."""
    task = recovered(held(attempt=0, claim=1), NOW + SECOND)
    assert (task.record.status, task.record.attempt, task.holder) == (Status.WORKING, 0, None)
    assert task.work == WORK


def test_a_task_that_has_begun_fails() -> None:
    assert recovered(held(attempt=1, claim=1), NOW + SECOND).record.status is Status.FAILED


def test_a_task_that_is_never_begun_is_not_claimed_for_ever() -> None:
    assert recovered(held(attempt=0, claim=MAX_CLAIMS), NOW + SECOND).record.status is Status.FAILED
