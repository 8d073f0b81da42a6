"""A session that takes frames in the task of whoever has them, past any channel.

Owns in whose context and at whose expense that happens. Knows nothing of where frames come from.
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
    """Who takes frames as they come; made in the reader's own task, which `run` then is.

    `has_room` is False while it takes frames, and where it wants no more before `wait_room`.
    """

    accept: Accept
    _wait_room: WaitRoom
    has_room: bool = True
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    # What the reader starts belongs to it, not to whoever happens to send.
    _context: Context = attrs.field(factory=copy_context)
    _failure: BaseException | None = None

    def take(self, frames: Sequence[InFrame]) -> None:
        """Let the reader have `frames`; never waits. What the reader raises ends its own task."""
        self.has_room = False  # nor has it while it takes these, if that makes somebody send more
        try:
            self.has_room = not self._context.run(self.accept, frames)
        except BaseException as error:  # noqa: ASYNC103  # it is the reader's, and raised there
            self._failure = error
            self._scope.cancel()

    async def wait_room(self) -> None:
        """Wait until the reader wants more; checkpoints."""
        await self._wait_room()
        self.has_room = True

    async def run(self, wait_end: Callable[[], Awaitable[object]]) -> None:
        """Be there until `wait_end` is over; raises what the reader has raised."""
        with self._scope:
            await wait_end()
        if self._failure is not None:
            raise self._failure
