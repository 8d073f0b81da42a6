"""A reader of frames that is called by the task that has them, without a channel in between.

Owns the context in which the reader runs, and where its exceptions are raised. Refuses to know
where frames come from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context

import attrs
import trio

from trio_mcp.outgoing.transport import Accept, WaitRoom
from trio_mcp.wire.frames import InFrame


@attrs.define(eq=False)
class DirectReader:
    """Calls `accept` with frames, in the task that has them.

    It is made in the reader's own task, which then awaits `run`. `has_room` is False while `accept`
    runs, and if the reader wants no more frames before `wait_room`.
    """

    accept: Accept
    _wait_room: WaitRoom
    has_room: bool = True
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    # What the reader starts runs in its own context, not in that of the task that sends.
    _context: Context = attrs.field(factory=copy_context)
    _failure: BaseException | None = None

    def take(self, frames: Sequence[InFrame]) -> None:
        """Hand `frames` to the reader; never waits. An exception of the reader ends its own task."""
        self.has_room = False  # what `accept` does may make the peer send more at once
        try:
            self.has_room = not self._context.run(self.accept, frames)
        except BaseException as error:  # noqa: ASYNC103  # the reader's own; `run` raises it again
            self._failure = error
            self._scope.cancel()

    async def wait_room(self) -> None:
        """Wait until the reader wants more; checkpoints."""
        await self._wait_room()
        self.has_room = True

    async def run(self, wait_end: Callable[[], Awaitable[object]]) -> None:
        """Wait until `wait_end` is over; raises what the reader has raised. Checkpoints."""
        with self._scope:
            await wait_end()
        if self._failure is not None:
            raise self._failure
