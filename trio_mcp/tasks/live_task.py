"""A task that runs in this process: its live record and who is told of it.

Owns the values that change with every report, and the questions that the task
has put to its client. Every change is on the record before anyone is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import attrs
import trio

from trio_mcp.progress.estimator import Estimator
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.history import Estimate, History, TaskReport
from trio_mcp.tasks.record import InputRequest, Outcome, TaskProgress, TaskRecord, TaskStatus
from trio_mcp.wire.frames import StageState


class Follower(Protocol):
    """Is told of every change of a task, at once and in order; must not wait."""

    def follow(self, record: TaskRecord) -> None:
        """Take note of `record`, in which more than the progress may be new."""

    def follow_report(self, task: LiveTask, report: TaskReport) -> None:
        """Take note of a report, which is on the record of `task`; to make that costs more than a report."""


class LiveTask:
    """One running task. `record` is its state now; `ended` is set once it is final and stored.

    `decided` is set as soon as waiting for a direct answer is over: the handler is
    done, or it needs a task. `committed` is set once the task can be found.
    `history_limit` is how many reports `keep_history` keeps, 0 for none. `active_at` is when the task
    last did something that can be seen from outside, on Trio's clock. `stages` tells which stages of the
    handler are open, once there were any; a report does not look at it. `min_interval` is that of the
    policy of the call, for those who follow the task over a wire.
    """

    def __init__(self, record: TaskRecord, clock: TaskClock, history_limit: int = 0) -> None:
        self._record = record
        self._clock = clock
        self._report: TaskReport | None = None
        self._reports = 0
        self._estimator = Estimator()
        self._history_limit = history_limit
        self._history: History | None = None
        self._followers: list[Follower] = []
        self.stored_version = 0
        self._questions: dict[str, _Question] = {}
        self._asked = 0
        self.active_at = trio.current_time()
        self.is_ending = False
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.outcome: Outcome | None = None
        self.handler_done = trio.Event()
        self.decided = trio.Event()
        self.committed = trio.Event()
        self.committed_or_refused = trio.Event()
        self.related_meta: dict[str, Any] | None = None
        self.stages: Callable[[], tuple[StageState, ...]] | None = None
        self.min_interval: float = 0

    @property
    def id(self) -> str:
        """The task's id."""
        return self._record.id

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self._record.is_final

    @property
    def record(self) -> TaskRecord:
        """The state now, with the last report in it."""
        if self._report is not None:
            current, total, message, seconds = self._report
            moment = self._clock.at(seconds)
            estimate = self.estimate(self._report)
            # A report costs no record; all since the last look are one change with as many versions.
            self._record = attrs.evolve(
                self._record,
                last_updated_at=moment,
                version=self._record.version + self._reports,
                progress=TaskProgress(current, total, message, moment, *estimate, self.open_stages),
            )
            self._report, self._reports = None, 0
        return self._record

    @property
    def open_stages(self) -> tuple[StageState, ...] | None:
        """The stages that are open now; None where there never were any."""
        if self.stages is None:
            return None
        return () if self._record.is_final else self.stages()

    def report(self, current: float | None, total: float | None, message: str | None) -> None:
        """Keep one report of the handler; a final task keeps none."""
        if self.is_ending:
            return
        self.active_at = now = trio.current_time()
        self._report = report = (current, total, message, now)
        self._reports += 1
        if now >= self._estimator.due and current is not None:  # few reports are, and the rest cost nothing
            self._estimator.update(now, current, total)
        if self._history is not None:
            self._history.add(report)
        for follower in self._followers:
            follower.follow_report(self, report)

    def estimate(self, report: TaskReport) -> Estimate:
        """The rate and the time left as of a report, with what is known by now."""
        current, total, _, seconds = report
        if current is not None:
            self._estimator.update(seconds, current, total)
        return self._estimator.rate, self._estimator.eta

    def note_activity(self) -> None:
        """Note that the task does something, though it does not report."""
        self.active_at = trio.current_time()

    def move(self, status: TaskStatus, **changes: Any) -> TaskRecord:
        """Change the status; raises LocalProtocolError where the table has no such move."""
        self._record = self.record.moved(status, self._clock.now(), **changes)
        return self._record

    def settle(self, record: TaskRecord) -> None:
        """Take the final record; later reports change nothing."""
        self._report = None
        self._record = record

    def tell(self) -> None:
        """Tell the followers of the state now."""
        for follower in list(self._followers):
            follower.follow(self.record)

    def keep_history(self, reports: Iterable[TaskReport] = ()) -> None:
        """Keep the reports from now on, behind `reports`, until `take_history`."""
        if self._history_limit:
            self._history = History(self._history_limit, reports)

    def take_history(self) -> tuple[TaskReport, ...] | None:
        """The reports since `keep_history`, and keep no more; None where none are kept."""
        history, self._history = self._history, None
        return None if history is None else history.reports

    def add_follower(self, follower: Follower) -> None:
        """Tell `follower` of every change from now on."""
        self._followers.append(follower)

    def remove_follower(self, follower: Follower) -> None:
        """Tell `follower` no more."""
        if follower in self._followers:
            self._followers.remove(follower)

    def put_question(self, request: InputRequest) -> str:
        """Note what the client is asked; returns the key, which is never used again."""
        self._asked += 1
        key = f"input-{self._asked}"
        self._questions[key] = _Question(request)
        self._update_inputs()
        return key

    def answer(self, key: str, value: Any) -> bool:
        """Take an answer; False where nothing is asked under `key`, or it is answered already."""
        question = self._questions.get(key)
        if question is None or question.answered.is_set():
            return False
        question.value = value
        question.answered.set()
        return True

    async def wait_answer(self, key: str) -> Any:
        """Wait for the answer to a question; checkpoints."""
        question = self._questions[key]
        await question.answered.wait()
        return question.value

    def drop_question(self, key: str) -> None:
        """Forget a question, answered or not."""
        del self._questions[key]
        self._update_inputs()

    @property
    def inputs(self) -> Mapping[str, InputRequest]:
        """What is asked and not answered yet."""
        return {k: q.request for k, q in self._questions.items() if not q.answered.is_set()}

    def _update_inputs(self) -> None:
        self.note_activity()
        if self.is_ending:
            return
        inputs = self.inputs
        status = TaskStatus.INPUT_REQUIRED if inputs else TaskStatus.WORKING
        self.move(status, inputs=inputs)


class _Question:
    __slots__ = ("answered", "request", "value")

    def __init__(self, request: InputRequest) -> None:
        self.request = request
        self.answered = trio.Event()
        self.value: Any = None
