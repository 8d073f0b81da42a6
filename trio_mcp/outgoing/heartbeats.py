"""Signs of life of the calls whose handlers are silent.

Owns when each call shows life, and the one task that waits for these times. Refuses to know what a sign of
life is on the wire: `ProgressSlot.beat` makes it. A server without a `Heartbeat` never imports this module.
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.policy import find_interval
from trio_mcp.outgoing.progress_slot import CallProgress, ProgressSlot

BEATS_PER_TURN: Final = 128
"""How many calls show life before other tasks have a turn."""


class Heartbeats:
    """The signs of life of all calls of one server.

    `nursery` holds the task that waits. It is started with the first call, and ends when it wakes up and no
    call is left; so a call that ends before it has been silent for long costs two entries in a dict.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        # By the interval, and then in the order of time: what moves goes to the end.
        self._dues: dict[float, dict[Heart, float]] = {}
        self._waiting: trio.CancelScope | None = None  # while the task runs, or is about to

    def __repr__(self) -> str:
        calls = sum(map(len, self._dues.values()))
        return f"<Heartbeats of {calls} calls, {'idle' if self._waiting is None else 'waiting'}>"

    def begin(self, call_queue: CallQueue, progress: CallProgress, every: float) -> None:
        """Let the call of `call_queue`, which has a token, show life after `every` silent seconds."""
        every = max(every, find_interval(call_queue.policy))
        dues = self._dues.setdefault(every, {})
        call_queue.heart = heart = Heart(call_queue, progress, every, dues)
        due = dues[heart] = heart.started + every
        if self._waiting is None:
            self._waiting = trio.CancelScope(deadline=due)
            self._nursery.start_soon(self._run)
        elif due < self._waiting.deadline:
            self._waiting.deadline = due

    async def _run(self) -> None:
        try:
            while (due := self._find_next()) is not None:  # noqa: ASYNC913  # each turn sleeps
                with trio.CancelScope(deadline=due) as self._waiting:
                    await trio.sleep_forever()
                self._beat()
        finally:
            self._waiting = None

    def _find_next(self) -> float | None:
        """When the next call is due; None if there are none."""
        for every in [every for every, dues in self._dues.items() if not dues]:
            del self._dues[every]
        return min((next(iter(dues.values())) for dues in self._dues.values()), default=None)

    def _beat(self) -> None:
        """Let those calls show life that are due, as many as may in one turn."""
        now = trio.current_time()
        room = BEATS_PER_TURN
        for dues in self._dues.values():
            while dues and room:
                heart, due = next(iter(dues.items()))
                if due > now:
                    break
                heart.beat(now)
                room -= 1


@attrs.define(eq=False)
class Heart:
    """Shows life of one call, `every` seconds after the last progress that was sent."""

    call_queue: ProgressSlot
    progress: CallProgress
    every: float
    dues: dict[Heart, float]
    started: float = attrs.field(factory=trio.current_time)

    def note_sent(self) -> None:
        """Begin a new silence, because progress is being sent now."""
        del self.dues[self]
        self.dues[self] = trio.current_time() + self.every

    def move_to(self, call_queue: ProgressSlot) -> None:
        """Show life by `call_queue` from now on."""
        self.call_queue = call_queue

    def show(self, progress: CallProgress) -> None:
        """Send the values of `progress` from now on."""
        self.progress = progress

    def stop(self) -> None:
        """Show no life any more."""
        del self.dues[self]
        self.call_queue.heart = None

    def beat(self, now: float) -> None:
        """Send the handler's values, and begin a new silence."""
        self.note_sent()
        progress = self.progress
        elapsed = describe_elapsed(now - self.started)
        message = f"{progress.message} ({elapsed})" if progress.message else f"running for {elapsed}"
        current = progress.current
        self.call_queue.beat(0 if current is None else current, progress.known_total, message)


def describe_elapsed(seconds: float) -> str:
    """Whole seconds as a person reads them: "15 s", "2 min 5 s" or "1 h 30 min"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
