"""Counts what a server sends for each call, as frames arrive.

Owns the judgement of order, losses and late updates. It counts below the client, because
the client drops updates that come after an answer, and hands over the values that a server
reported where they differ from those on the wire.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import attrs
import msgspec

from trio_mcp.cli.bench.histogram import DurationHistogram
from trio_mcp.wire.frames import (
    Batch,
    ErrorResponse,
    InFrame,
    Lost,
    Notification,
    OutFrame,
    ProgressRun,
    ProgressToken,
    Request,
    RequestId,
    Response,
    Update,
)
from trio_mcp.wire.messages import CancelledParams

MAX_EXCUSED: Final = 4096
"""How many calls whose late updates are no fault are remembered; more than ever run at once."""


class _Answer(msgspec.Struct, rename="camel"):
    is_error: bool = False
    result_type: str | None = None
    task: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


@attrs.define(eq=False)
class ProgressFlow:
    """The updates of one request that have come so far."""

    received: int = 0
    is_broken: bool = False
    _first: float = 0.0
    _last: float = 0.0
    _last_time: float = 0.0
    _total: float | None = None
    _total_varies: bool = False
    _ones: int = 0
    _skipped: float = 0.0
    _is_fractional: bool = False
    _went_back: bool = False

    def add(self, updates: Sequence[Update], now: float, gaps: DurationHistogram) -> tuple[int, int]:
        """Add updates that came together; returns how many repeat a value and how many go back."""
        total = updates[-1][1]
        gaps.add_zeros(len(updates) - 1)
        following = updates
        if self.received:
            gaps.add(now - self._last_time)
            self._total_varies |= total != self._total
        else:
            self._first = self._last = updates[0][0]
            self._is_fractional = self._first % 1 != 0
            following = updates[1:]
        last = self._last
        repeated = back = 0
        for update in following:
            step = update[0] - last
            if step == 1:
                self._ones += 1
            elif step > 0:
                self._skipped += step - 1
            elif step == 0:
                repeated += 1
                continue
            else:
                back += 1
            last = update[0]
            if last % 1:
                self._is_fractional = True
        self._went_back |= back > 0
        self._last, self._last_time, self._total = last, now, total
        self.received += len(updates)
        return repeated, back

    def missing_numbers(self) -> tuple[int, int] | None:
        """How many of the numbers up to the total never came, and the total.

        None if that cannot be known because the progress does not count up by ones.
        """
        total = self._total
        if self._is_fractional or self._went_back or self._total_varies or total is None or total % 1:
            return None
        # A server that reports every tenth of 100 counts as well, and loses nothing.
        is_count = self._first >= 0 and self._last <= total and 2 * self._ones >= self.received - 1
        if not is_count or (self.received == 1 and total > 1):
            return None
        return int(max(self._first - 1, 0) + self._skipped + total - self._last), int(total)


@attrs.define(eq=False)
class WireCount:
    """The counts of all calls; `expected` is how many updates each of them must send."""

    expected: int | None = None
    received: int = 0
    calls_with_progress: int = 0
    gaps: DurationHistogram = attrs.field(factory=DurationHistogram)
    repeated: int = 0
    back: int = 0
    broken_calls: int = 0
    late: int = 0
    stray: int = 0
    tasks: int = 0
    judged_calls: int = 0
    """How many calls could be judged for losses."""
    awaited: int = 0
    missing: int = 0
    surplus: int = 0
    lossy_calls: int = 0
    _flows: dict[RequestId, ProgressFlow] = attrs.field(factory=dict)
    _excused: OrderedDict[RequestId, None] = attrs.field(factory=OrderedDict)
    _newest: int = 0

    def note_sent(self, frames: Sequence[OutFrame]) -> None:
        """Note the calls and cancellations that the client is about to send."""
        for frame in frames:
            if isinstance(frame, Request):
                if frame.method == "tools/call":
                    self._flows[frame.id] = ProgressFlow()
                if isinstance(frame.id, int):
                    # Our client's ids count up, and are its progress tokens as well.
                    self._newest = max(self._newest, frame.id)
            elif (
                isinstance(frame, Notification)
                and frame.method == "notifications/cancelled"
                and isinstance(frame.params, msgspec.Raw)
            ):
                self._excuse(msgspec.json.decode(frame.params, type=CancelledParams).request_id)

    def note_received(self, frames: Sequence[InFrame], now: float) -> None:
        """Count frames that came together at the time `now`, in seconds."""
        for frame in frames:
            if isinstance(frame, ProgressRun):
                self._count_progress(frame, now)
            elif isinstance(frame, (Response, ErrorResponse)):
                self._judge_answer(frame)
            elif isinstance(frame, Lost):
                for ident in frame.ids:
                    self._excuse(ident)
            elif isinstance(frame, Batch):
                self.note_received(frame.frames, now)

    def _count_progress(self, frame: ProgressRun, now: float) -> None:
        flow = self._flows.get(frame.token)
        if flow is None:
            self._count_unawaited(frame.token, len(frame.updates))
            return
        self.calls_with_progress += not flow.received
        self.received += len(frame.updates)
        repeated, back = flow.add(frame.updates, now, self.gaps)
        if repeated or back:
            self.repeated += repeated
            self.back += back
            self.broken_calls += not flow.is_broken
            flow.is_broken = True

    def _count_unawaited(self, token: ProgressToken, count: int) -> None:
        if token in self._excused:
            return
        if type(token) is int and 0 < token <= self._newest:
            self.late += count
        else:
            self.stray += count

    def _judge_answer(self, frame: Response | ErrorResponse) -> None:
        flow = None if isinstance(frame.id, msgspec.UnsetType | None) else self._flows.pop(frame.id, None)
        if flow is None or isinstance(frame, ErrorResponse):
            return
        try:
            answer = msgspec.json.decode(frame.result, type=_Answer)
        except (msgspec.MsgspecError, RecursionError):
            return  # the call fails, and `load.py` counts it
        if answer.task is not msgspec.UNSET or answer.result_type == "task":
            self.tasks += 1
            self._excuse(frame.id)  # a task may go on using its token (MCP tasks 2025-11-25)
        elif not answer.is_error and answer.result_type in (None, "complete"):
            self._judge_losses(flow)

    def _judge_losses(self, flow: ProgressFlow) -> None:
        if self.expected is not None:
            awaited = self.expected
            missing = max(awaited - flow.received, 0)
            self.surplus += max(flow.received - awaited, 0)
        elif flow.received and (found := flow.missing_numbers()) is not None:
            missing, awaited = found
        else:
            return
        self.judged_calls += 1
        self.awaited += awaited
        self.missing += missing
        self.lossy_calls += missing > 0

    def _excuse(self, ident: RequestId) -> None:
        """Count later updates of a call as no fault: they may have crossed a cancellation on the way."""
        self._flows.pop(ident, None)
        self._excused[ident] = None
        while len(self._excused) > MAX_EXCUSED:
            self._excused.popitem(last=False)
