"""Work that many tasks want at once, and one of them does.

Owns who does it, also if that task is cancelled. Knows nothing of the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import attrs
import trio

Subject = TypeVar("Subject", bound=Hashable)
Result = TypeVar("Result")


@attrs.define(eq=False)
class _Job(Generic[Result]):
    turn: trio.Lock = attrs.field(factory=trio.Lock)
    wanted: int = 0
    results: list[Result] = attrs.field(factory=list)  # one, if the work is done


class SharedWork(Generic[Subject, Result]):
    """Does the work on each subject once for all who ask for it while it goes on.

    If the task that does it is cancelled or fails, the next of those who wait does it.
    """

    def __init__(self) -> None:
        self._jobs: dict[Subject, _Job[Result]] = {}

    def is_doing(self, subject: Subject) -> bool:
        """Whether somebody works on `subject` now."""
        return subject in self._jobs

    async def do(self, subject: Subject, work: Callable[[], Awaitable[Result]]) -> Result:
        """The result of `work`, or of the same work of another task; checkpoints."""
        job = self._jobs.setdefault(subject, _Job())
        job.wanted += 1
        try:
            async with job.turn:
                if not job.results:
                    job.results.append(await work())
                    self._forget(subject, job)
                return job.results[0]
        finally:
            job.wanted -= 1
            if not job.wanted:
                self._forget(subject, job)

    def _forget(self, subject: Subject, job: _Job[Result]) -> None:
        if self._jobs.get(subject) is job:
            del self._jobs[subject]
