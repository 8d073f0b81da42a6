"""The progress of a request of which somebody else is told as well.

Owns that each report is told once, with the values that it leaves behind. A request that nobody observes has
a `ProgressReporter`, which knows nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TypeAlias

from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.progress.reporter import OpenStages, ProgressKeeper, ProgressReporter
from trio_mcp.wire.frames import StageState

Observe: TypeAlias = Callable[[float | None, float | None, str | None], None]
"""Called with progress, total and message; must not wait or raise."""


class _Watch:
    """The keeper of an observed reporter: it tells of each report, then hands it to the real keeper."""

    __slots__ = ("inner", "observe")

    def __init__(self, observe: Observe) -> None:
        self.observe = observe
        self.inner: ProgressKeeper | None = None

    @property
    def stages(self) -> Callable[[], tuple[StageState, ...]] | None:
        """What describes the open stages."""
        return None if self.inner is None else self.inner.stages

    @stages.setter
    def stages(self, stages: Callable[[], tuple[StageState, ...]] | None) -> None:
        if self.inner is not None:
            self.inner.stages = stages

    def report(
        self, current: float | None, total: float | None, message: str | None, *, replaces: bool = False
    ) -> None:
        """Tell of one report, and hand it on; does not wait."""
        self.observe(current, total, message)
        if self.inner is not None:
            self.inner.report(current, total, message, replaces=replaces)


class ObservedReporter(ProgressReporter):
    """A reporter that calls `observe` with each report; otherwise as its base class."""

    __slots__ = ("_watch",)

    def __init__(
        self,
        call_queue: CallQueue | None,
        observe: Observe,
        *,
        strict_yield: bool = False,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        super().__init__(call_queue, strict_yield=strict_yield, clock=clock)
        self._watch = _Watch(observe)
        self._keeper = self._watch

    def begin_stages(self, stages: OpenStages) -> None:
        """As that of the base class."""
        self._keeper = self._watch.inner
        super().begin_stages(stages)
        self._keeper = self._watch

    def record_in(self, task: ProgressKeeper) -> None:
        """As that of the base class; the values that `task` gets now were told before."""
        self._keeper = self._watch.inner
        super().record_in(task)
        self.hand_on_to(task)

    def hand_on_to(self, task: ProgressKeeper) -> None:
        """As that of the base class."""
        self._watch.inner, self._keeper = task, self._watch

    def succeed(self) -> ProgressReporter:
        """As that of the base class; the next attempt is observed as well."""
        observe, self._watch.observe, self._watch.inner = self._watch.observe, _nothing, None
        super().succeed()
        return ObservedReporter(None, observe, strict_yield=self._strict, clock=self._clock)


def _nothing(current: float | None, total: float | None, message: str | None) -> None:
    """Stands for the observer of an attempt that is over."""
