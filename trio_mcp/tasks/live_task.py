"""A task that runs in this process: its record, its state, its followers and its questions.

Owns the values that change with every report, and the questions that the task
has put to its client. Every change is on the record before a follower is told of it.
Knows no store, no nursery and no wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio
from msgspec import Raw
from msgspec.structs import replace

from trio_mcp.progress.estimator import Estimator
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.history import Estimate, History, TaskReport
from trio_mcp.tasks.live_state import (
    COMMITTED,
    ENDED,
    ENDING,
    EXPIRED,
    GONE,
    LOST,
    MOVES,
    UNDECIDED,
    LiveEvent,
    LiveState,
)
from trio_mcp.tasks.places import OwnerShare
from trio_mcp.tasks.record import InputRequest, Outcome, TaskProgress, TaskRecord, TaskStatus
from trio_mcp.tasks.stored_task import CLAIM_BITS, TaskWork
from trio_mcp.wire.errors import LocalProtocolError
from trio_mcp.wire.frames import StageState

if TYPE_CHECKING:  # few tasks are begun more than once
    from trio_mcp.tasks.question_replay import QuestionReplay

_FOUND: Final = frozenset({COMMITTED, ENDING, ENDED, EXPIRED, GONE, LOST})
_OVER: Final = frozenset({ENDING, ENDED, GONE, LOST})


class ReportSource(Protocol):
    """The task whose reports a follower is told, wherever it runs."""

    @property
    def record(self) -> TaskRecord:
        """The state now, with the last report in it."""

    @property
    def open_stages(self) -> tuple[StageState, ...] | None:
        """The stages that are open now; None if there never were any."""

    def estimate(self, report: TaskReport) -> Estimate:
        """The rate and the time left after a report, by everything that is known now."""


class Follower(Protocol):
    """Notified of every change of a task, at once and in order; must not wait."""

    def follow(self, record: TaskRecord) -> None:
        """Take note of `record`, in which more than the progress may have changed."""

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        """Take note of a report of `task`, whose record includes it; to make that record costs more.

        It takes the place of `replaced`, unless that was sent already.
        """


class LiveTask:
    """One running task. `record` is what clients see of it now, `state` how far its life has come.

    `outcome` is set once the handler is done. `history_limit` is how many reports `keep_history`
    keeps, 0 for none. `active_at` is when the task last did something that can be seen from outside,
    on Trio's clock. `stages` returns the stages of the handler that are open; it is None until there
    was one, and a report does not call it. `min_interval` is that of the policy of the call, for
    clients that follow the task. It counts for `payer`; `share` is what its place is taken out of, while it
    has one, and it `has_turn` while it runs in it. `checkpoint` is what its handler has kept last, as JSON,
    and `work` the call as it is stored, None if it is not. `replay` knows the questions of earlier attempts;
    it is None if there is one attempt only. This process holds it as `holder` and under `claim`, as the store
    has said. `stored` is the record that the store had last, None before there was one; `offset` is the
    number of the newest report.
    """

    def __init__(self, record: TaskRecord, clock: TaskClock, history_limit: int = 0) -> None:
        self._record = record
        self._clock = clock
        self._report: TaskReport | None = None
        self._newest: TaskReport | None = None  # as `_report`, but making the record does not forget it
        self.offset = 1 << CLAIM_BITS
        self._recorded = self.offset  # that of the last report that is in `_record`
        self._estimator = Estimator()
        self._history_limit = history_limit
        self._history: History | None = None
        self._followers: list[Follower] = []
        self.stored: TaskRecord | None = None
        self.holder: str | None = None
        self.claim = 1
        self.has_turn = False
        self.checkpoint: Raw | None = None
        self.work: TaskWork | None = None
        self.replay: QuestionReplay | None = None
        self._questions: dict[str, _Question] = {}
        self._asked = 0
        self._used_keys: set[str] = set()  # a key is unique for the life of the task (SEP-2663)
        self.active_at = trio.current_time()
        self.scope = trio.CancelScope()
        self._state = UNDECIDED
        self._state_changed = trio.lowlevel.ParkingLot()
        self.outcome: Outcome | None = None
        self.related_meta: dict[str, Any] | None = None
        self.stages: Callable[[], tuple[StageState, ...]] | None = None
        self.min_interval: float = 0
        self.payer = record.owner
        self.share: OwnerShare | None = None

    def __repr__(self) -> str:
        status = self._record.status.value
        return f"<LiveTask {self.id} of {self._record.tool!r}: {self._state.value}, {status}>"

    @property
    def task_name(self) -> str:
        """The name of the Trio task in which its handler runs."""
        return f"task {self.id}"

    @property
    def state(self) -> LiveState:
        """How far the life of the task has come."""
        return self._state

    @property
    def is_committed(self) -> bool:
        """Whether the record was stored, even if it has expired since."""
        return self._state in _FOUND

    @property
    def is_ending(self) -> bool:
        """Whether reports and questions change nothing any more."""
        return self._state in _OVER

    async def wait_left(self, *states: LiveState) -> None:
        """Wait until the task is in none of `states`; checkpoints."""
        if self._state not in states:
            await trio.lowlevel.checkpoint()
        while self._state in states:
            await self._state_changed.park()

    async def wait_ended(self) -> None:
        """Wait until a task that was committed has ended, expired or is lost; checkpoints."""
        await self.wait_left(COMMITTED, ENDING)

    def need_task(self) -> None:
        """Note that the handler cannot go on in a call that is answered directly."""
        self._enter("need")

    def refuse(self) -> None:
        """Note that the call cannot become a task any more; one that has become a task stays one."""
        self._enter("refuse")

    def note_done(self, outcome: Outcome) -> None:
        """Note that the handler is done."""
        self.outcome = outcome
        self._enter("handler done")

    def note_committed(self) -> None:
        """Note that the record is stored, and keep the reports from now on."""
        self.keep_history()
        self._enter("commit")

    def begin_end(self) -> None:
        """Take no more reports and questions, because the end is about to be stored."""
        self._enter("end")

    def note_ended(self) -> None:
        """Wake those who wait for the end."""
        self._enter("ended")

    def expire(self) -> None:
        """Cancel the handler, if it runs, because the record was forgotten."""
        self.scope.cancel()
        self._enter("expire")

    def lose(self) -> None:
        """Cancel the handler, if it runs, because this process does not hold the task any more."""
        self.scope.cancel()
        self._enter("lose")

    def _enter(self, event: LiveEvent) -> None:
        legal = MOVES[self._state]
        if event not in legal:
            raise LocalProtocolError(
                f"task {self.id} is {self._state.value}: {event!r} is not among {', '.join(map(repr, legal))}"
            )
        self._state = legal[event]
        self._state_changed.unpark_all()

    @property
    def id(self) -> str:
        """The task's id."""
        return self._record.id

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self._record.is_final

    def hold_under(self, claim: int) -> None:
        """Number the reports from now on as those of `claim`, under which this process holds the task."""
        self.claim = claim
        self._record, self._report = self.record, None
        self.offset = self._recorded = claim << CLAIM_BITS

    def note_ttl(self, ttl: float | None) -> None:
        """Keep the record for `ttl` seconds, if that is less than it would be kept; before it is stored."""
        if ttl is not None and (self._record.ttl is None or ttl < self._record.ttl):
            self._record = replace(self._record, ttl=ttl)

    def note_arguments(self, digest: str) -> None:
        """Keep the digest of the arguments on the record; before it is stored."""
        self._record = replace(self._record, arguments_digest=digest)

    @property
    def record(self) -> TaskRecord:
        """The state now, with the last report in it."""
        if self._report is not None:
            current, total, message, seconds, offset = self._report
            moment = self._clock.at(seconds)
            estimate = self.estimate(self._report)
            # A report makes no record; all since the last record are one change, of as many versions.
            self._record = replace(
                self._record,
                last_updated_at=moment,
                version=self._record.version + offset - self._recorded,
                progress=TaskProgress(current, total, message, moment, *estimate, self.open_stages, offset),
            )
            self._report, self._recorded = None, offset
        return self._record

    @property
    def shown(self) -> TaskRecord:
        """The record as others may see it: without a change of status that is not stored yet."""
        record, stored = self.record, self.stored
        if stored is None or record.is_final:
            return record
        return record if record.status is stored.status and record.inputs == stored.inputs else stored

    @property
    def open_stages(self) -> tuple[StageState, ...] | None:
        """The stages that are open now; None if there never were any."""
        if self.stages is None:
            return None
        return () if self._record.is_final else self.stages()

    def report(
        self, current: float | None, total: float | None, message: str | None, *, replaces: bool = False
    ) -> None:
        """Keep one report of the handler; a final task keeps none.

        If it `replaces` the last one, a follower that was not sent that one sees this one alone.
        """
        if self._state is not COMMITTED and self.is_ending:  # the first is cheaper, and most often enough
            return
        self.active_at = now = trio.current_time()
        replaced = self._newest if replaces else None
        self.offset = offset = self.offset + 1
        self._report = self._newest = report = (current, total, message, now, offset)
        if now >= self._estimator.due and current is not None:  # few reports are due; the others cost nothing
            self._estimator.update(now, current, total)
        if self._history is not None:
            self._history.add(report, replaced)
        for follower in self._followers:
            follower.follow_report(self, report, replaced)

    def estimate(self, report: TaskReport) -> Estimate:
        """The rate and the time left after a report, by everything that is known now."""
        current, total, _, seconds, _ = report
        if current is not None:
            self._estimator.update(seconds, current, total)
        return self._estimator.rate, self._estimator.eta

    def note_activity(self) -> None:
        """Note that the task did something other than report."""
        self.active_at = trio.current_time()

    def move(self, status: TaskStatus, **changes: Any) -> TaskRecord:
        """Change the status; raises LocalProtocolError if the table has no such move."""
        self._record = self.record.moved(status, self._clock.now(), **changes)
        return self._record

    def settle(self, record: TaskRecord) -> None:
        """Set the final record; later reports change nothing."""
        self._report = None
        self._record = record

    def tell(self) -> None:
        """Notify the followers of the record now."""
        for follower in list(self._followers):
            follower.follow(self.record)

    def keep_history(self, reports: Iterable[TaskReport] = ()) -> None:
        """Keep the reports from now on, behind `reports`, until `take_history`."""
        if self._history_limit:
            self._history = History(self._history_limit, reports)

    def take_history(self) -> tuple[TaskReport, ...] | None:
        """Return the reports since `keep_history`, and keep no more; None if none were kept."""
        history, self._history = self._history, None
        return None if history is None else history.reports

    @property
    def followers(self) -> tuple[Follower, ...]:
        """Who is notified of every change."""
        return tuple(self._followers)

    def add_follower(self, follower: Follower) -> None:
        """Notify `follower` of every change from now on."""
        self._followers.append(follower)

    def remove_follower(self, follower: Follower) -> None:
        """Notify `follower` no more."""
        if follower in self._followers:
            self._followers.remove(follower)

    def put_question(self, request: InputRequest, name: str | None = None) -> str:
        """Note what the client is asked; returns the key of the question, which is never used again.

        The key is `name`; if the task has used that, it is `name` with a number behind it. In a task that may
        be begun again, it says what is asked, and an answer of an earlier attempt is the answer.
        """
        if self.replay is not None:
            key = self.replay.name(request, name)
            self._questions[key] = question = _Question(request)
            if key in self.replay.answers:
                question.value = self.replay.answers[key]
                question.answered.set()
            else:
                self.replay.note_asked(key)
                self._update_inputs()
            return key
        if name is None:
            self._asked += 1
            name = f"input-{self._asked}"
        key, number = name, 1
        while key in self._used_keys:
            number += 1
            key = f"{name}-{number}"
        self._used_keys.add(key)
        self._questions[key] = _Question(request)
        self._update_inputs()
        return key

    def answer(self, key: str, value: Any) -> bool:
        """Note an answer; False if `key` is not that of a question without an answer."""
        question = self._questions.get(key)
        if question is None and self.replay is not None and self.replay.answer_waiting(key, value):
            self._update_inputs()
            return True
        if question is None or question.answered.is_set():
            return False
        question.value = value
        question.answered.set()
        return True

    def has_answer(self, key: str) -> bool:
        """Whether a question that was put has an answer."""
        return self._questions[key].answered.is_set()

    async def wait_answer(self, key: str) -> Any:
        """Wait for the answer to a question; checkpoints."""
        question = self._questions[key]
        await question.answered.wait()
        return question.value

    def resume_questions(self, replay: QuestionReplay) -> None:
        """Go on with the questions of an earlier attempt."""
        self.replay = replay
        if self._record.inputs != self.inputs:
            self._update_inputs()

    def drop_question(self, key: str) -> None:
        """Forget a question, answered or not."""
        question = self._questions.pop(key)
        if self.replay is not None and not question.answered.is_set():
            self.replay.dropped[key] = question.request
        self._update_inputs()

    @property
    def inputs(self) -> Mapping[str, InputRequest]:
        """The questions that are not answered yet."""
        asked = {k: q.request for k, q in self._questions.items() if not q.answered.is_set()}
        return asked if self.replay is None else {**self.replay.waiting, **asked}

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
