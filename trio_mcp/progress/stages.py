"""Stages: reporters that count for a share of another, up to the request's own.

A stage is divided among stages of its own by the same `Shares` as the request is. A change climbs:

    Stage.increment(...)          the stage's own position moves
      -> its share of the parent is done that much more, and so on up (`Stage._climb`)
      -> RequestStages.publish    the request shows the sum, and the message of whoever spoke last
      -> ProgressReporter         one report of the request, as any other

Owns what a change of a stage means for everything above it. Refuses to know how a report travels: what
leaves for the client is a report of the request, so the laws of progress hold for stages without more.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Final

from trio_mcp.progress.checks import (
    MAX_MESSAGE_LENGTH,
    check_message,
    check_number,
    check_positive,
    check_stage_name,
)
from trio_mcp.progress.exact_sum import ExactSum
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.progress.shares import Share, Shares
from trio_mcp.wire.frames import StageState

logger = logging.getLogger("trio_mcp.progress")

TOLD_STAGES: Final = 16
"""So many open stages are told to the client, since a notification must stay small."""

TOLD_CHARACTERS: Final = 256
"""So much of a stage's name and message is told; the message of the request is not cut so short."""


class RequestStages:
    """The root of a request's stages; made when the first is planned or opened.

    The values of the request stay in its `ProgressReporter`. Reports on the request itself know nothing
    of stages; `notice` finds out what they have changed, whenever a stage moves.
    """

    __slots__ = ("_message", "_position", "_seen", "_seen_message", "progress", "shares")

    def __init__(self, progress: ProgressReporter) -> None:
        self.progress = progress
        self.shares: Shares[Stage] = Shares()
        self._position = ExactSum()
        self._message: str | None = None  # the request's own, not that of a stage
        # The values of the request when a stage moved last.
        self._seen: float | None = None
        self._seen_message: str | None = None

    def __repr__(self) -> str:
        return f"<RequestStages: {self.shares!r}>"

    def count(self, share: Share, done: float) -> None:
        """Count `done` for `share` instead of what was done of it before."""
        self._position.replace(share.done, done)

    def notice(self) -> None:
        """Take in what was reported on the request itself since a stage last moved."""
        progress = self.progress
        if progress.current is not None and progress.current != self._seen:
            self._position = ExactSum(progress.current)
            self._seen = progress.current
        if progress.message is not self._seen_message:
            self._message = self._seen_message = progress.message
            self.shares.note_speaker(None)

    def publish(self) -> None:
        """Set the values of the request to what the stages add up to."""
        progress = self.progress
        current, value = progress.current, self._position.value
        if value and (current is None or value > current):
            current = check_number(value, "progress")
        self._seen, self._seen_message = current, self._find_text()
        progress.set_from_stages(current, self.shares.weights.value or None, self._seen_message)

    def describe(self) -> tuple[StageState, ...]:
        """The first 16 open stages, each before its own, in the order in which they were opened."""
        described: list[StageState] = []
        waiting = list(reversed(self.shares.open))
        while waiting and len(described) < TOLD_STAGES:
            stage = waiting.pop()
            described.append(stage.describe())
            if stage.shares is not None:
                waiting.extend(reversed(stage.shares.open))
        return tuple(described)

    def _find_text(self) -> str | None:
        """The message of whoever spoke last, with the path to it."""
        stage = self.shares.newest_speaker
        if stage is None:
            return self._message
        while stage.shares is not None and (inner := stage.shares.newest_speaker) is not None:
            stage = inner
        return stage.text


class Stage:
    """A reporter that counts for `share` of `parent`; if that is None it counts for nothing.

    `path` are the names from the outermost stage to this one, and `text` is what the request shows while
    this stage has spoken last. After `end` every change is ignored.
    Not thread-safe; no method but the async ones checkpoints.
    """

    __slots__ = (
        "_message",
        "_parent",
        "_position",
        "_root",
        "_share",
        "_total",
        "has_ended",
        "path",
        "shares",
        "text",
    )

    def __init__(
        self, parent: RequestStages | Stage, share: Share | None, name: str, total: float | None
    ) -> None:
        self._parent = parent
        self._root: RequestStages = parent if isinstance(parent, RequestStages) else parent._root
        self._share = share
        self._total = total
        self._position: ExactSum | None = None
        self._message: str | None = None
        self.shares: Shares[Stage] | None = None
        self.has_ended = False
        self.path: tuple[str, ...] = (name,) if isinstance(parent, RequestStages) else (*parent.path, name)
        self.text = self._make_text()

    def __repr__(self) -> str:
        state = "ended" if self.has_ended else "open"
        return f"<Stage {': '.join(self.path)!r}: {self.current!r} of {self.total!r}, {state}>"

    # What the handler reads back.

    @property
    def current(self) -> float | None:
        """How far along the stage is; None until its first increment or report."""
        return None if self._position is None else self._position.value

    @property
    def total(self) -> float | None:
        """What `current` grows towards: what was set, or what its stages add up to; None if unknown."""
        if self._total is None and self.shares is not None:
            return self.shares.weights.value or None
        return self._total

    @property
    def has_total(self) -> bool:
        """Whether a total was set."""
        return self._total is not None

    @property
    def has_stages(self) -> bool:
        """Whether stages make up a total."""
        return self.shares is not None and self.shares.weights.value > 0

    @property
    def message(self) -> str | None:
        """The message of the stage itself, without the path; None at first."""
        return self._message

    # What the handler reports.

    async def report(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Set current value and message, and the total if one is given; see `ProgressReporter.report`."""
        progress = check_number(progress, "progress")
        total = None if total is None else check_positive(total, "total")
        check_message(message)
        request = self._root.progress
        await request.wait_if_full()
        if self._is_open():
            if self._position is None or progress > self._position.value:
                self._position = ExactSum(progress)
            self._total = self._total if total is None else total
            self._message = message
            self.text = self._make_text()
            request.end_notification()
            self.publish()
            request.end_notification()
        await request.take_turn()

    def set_total(self, total: float) -> None:
        """Set the total; see `ProgressHelper.set_total`."""
        number = check_positive(total, "total")
        if self._is_open():
            self._total = number
            self.publish()

    def increment(self, by: float = 1) -> None:
        """Add to the current value; see `ProgressHelper.increment`."""
        number = check_positive(by, "the increment")
        check_number((self.current or 0) + number, "progress")
        if self._is_open():
            if self._position is None:
                self._position = ExactSum()
            self._position.add(number)
            self.publish()

    def reach(self, progress: float) -> None:
        """Raise the current value to `progress`, unless it is as large already; change nothing else."""
        number = check_number(progress, "progress")
        if self._is_open() and (self._position is None or number > self._position.value):
            self._position = ExactSum(number)
            self.publish()

    def set_message(self, message: str | None) -> None:
        """Set the message; see `ProgressHelper.set_message`."""
        check_message(message)
        if self._is_open():
            self._message = message
            self.text = self._make_text()
            self.publish()

    # How a report waits, and what becomes of it: as for the request.

    async def take_turn(self) -> None:
        """See `ProgressReporter.take_turn`."""
        await self._root.progress.take_turn()

    async def wait_if_full(self) -> None:
        """See `ProgressReporter.wait_if_full`."""
        await self._root.progress.wait_if_full()

    async def wait_space(self) -> None:
        """See `ProgressReporter.wait_space`."""
        await self._root.progress.wait_space()

    def end_notification(self) -> None:
        """See `ProgressReporter.end_notification`."""
        self._root.progress.end_notification()

    # From the first message to the last.

    def open_in(self, shares: Shares[Stage]) -> None:
        """Begin to speak, as one of the stages among which the parent is divided by `shares`."""
        self._root.notice()
        shares.open[self] = None
        self.publish()

    def end(self, *, complete: bool) -> None:
        """End the stage: if `complete`, all of its share is done; if not, the share waits for a retry."""
        if self.has_ended:
            return
        self._root.notice()
        share, shares = self._share, self._parent.shares
        assert shares is not None, "the parent has a stage"
        if share is not None:
            if complete:
                self._raise_share(share.weight)
            else:
                shares.give_back(share)
        self.has_ended = True
        shares.forget(self)
        if isinstance(self._parent, RequestStages) or self._parent._climb():
            self._root.publish()

    def _is_open(self) -> bool:
        if self.has_ended:
            logger.debug("progress after the end of stage %r was ignored", self.path)
        return not self.has_ended

    # What everything above makes of it.

    def describe(self) -> StageState:
        """The stage as the client is told of it."""
        path = tuple(name[:TOLD_CHARACTERS] for name in self.path)
        message = None if self._message is None else self._message[:TOLD_CHARACTERS]
        return StageState(path, self.current, self.total, message)

    def publish(self) -> None:
        """Report the request with this stage's change in it, and with its message as the newest."""
        self._root.notice()
        if self.shares is not None:
            self.shares.note_speaker(None)
        if self._climb(speaks=True):
            self._root.publish()

    def count(self, share: Share, done: float) -> None:
        """Count `done` for the `share` of a stage of this one, instead of what was done of it before."""
        if self._position is None:
            self._position = ExactSum()
        self._position.replace(share.done, done)

    def _make_text(self) -> str:
        words = self.path if self._message is None else (*self.path, self._message)
        return ": ".join(words)[:MAX_MESSAGE_LENGTH]

    def _climb(self, *, speaks: bool = False) -> bool:
        """Let everything above count what is done here; False if a stage above has ended."""
        stage = self
        while not stage.has_ended:
            stage._raise_share(stage._find_done())
            parent = stage._parent
            if speaks and parent.shares is not None:
                parent.shares.note_speaker(stage)
            if isinstance(parent, RequestStages):
                return True
            stage = parent
        return False

    def _raise_share(self, done: float) -> None:
        """Let the parent count `done` of the share, unless it has counted as much already."""
        share, shares = self._share, self._parent.shares
        if share is not None and shares is not None and done > share.done:
            shares.done.replace(share.done, done)
            self._parent.count(share, done)
            share.done = done

    def _find_done(self) -> float:
        """How much of the share is done, by this stage's own total or by its stages."""
        share = self._share
        if share is None or self._position is None:
            return 0
        if self._total is not None:
            position, total = self._position.value, self._total
        elif self.shares is not None and (expected := self.shares.expected):
            position, total = self.shares.done.value, expected
        else:
            return 0
        if position >= total:
            return share.weight
        product = share.weight * position
        part = product / total if math.isfinite(product) else share.weight * (position / total)
        return min(part, share.weight)


def plan_stages(reporter: ProgressReporter | Stage, weights: Mapping[str, float]) -> None:
    """Declare stages; raises ValueError for weights that cannot be, RuntimeError after the reporter's end."""
    parent = _find_parent(reporter)
    shares = _find_shares(parent)
    shares.plan(weights)
    if isinstance(parent, Stage):
        parent.publish()
    else:
        parent.progress.expect_stages(shares.weights.value)


def open_stage(
    reporter: ProgressReporter | Stage, name: str, weight: float | None, total: float | None
) -> Stage:
    """Open a stage; raises ValueError if there is no such share, RuntimeError after the reporter's end."""
    parent = _find_parent(reporter)
    shares = _find_shares(parent)
    check_stage_name(name)
    if weight is not None:
        weight = check_positive(weight, "the weight")
    if total is not None:
        total = check_positive(total, "total")
    stage = Stage(parent, shares.claim(name, weight), name, total)
    stage.open_in(shares)
    return stage


def open_spinner(reporter: ProgressReporter | Stage, message: str) -> Stage:
    """Open a stage that counts for nothing; raises RuntimeError after the reporter's end."""
    parent = _find_parent(reporter)
    stage = Stage(parent, None, check_stage_name(message), None)
    stage.open_in(_find_shares(parent))
    return stage


def _find_parent(reporter: ProgressReporter | Stage) -> RequestStages | Stage:
    """The parent of the reporter's next stage: a stage itself, or the root of the request's stages."""
    if isinstance(reporter, ProgressReporter):
        stages = reporter.stages
        if not isinstance(stages, RequestStages):  # this is the first
            stages = RequestStages(reporter)
            reporter.begin_stages(stages)
        return stages
    if reporter.has_ended:
        raise RuntimeError(f"stage {': '.join(reporter.path)!r} has ended: it can have no stages any more")
    return reporter


def _find_shares(parent: RequestStages | Stage) -> Shares[Stage]:
    if parent.shares is None:
        parent.shares = Shares()
    return parent.shares
