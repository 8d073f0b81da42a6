"""The progress of a call of an upstream server, reported again to the client of the proxy.

Owns that every update is reported once and in order, with the stages that were open. The report waits if the
client is slow, and so does the upstream server then.
"""

from __future__ import annotations

from collections.abc import Awaitable

from trio_mcp.handlers.sink import Progress
from trio_mcp.proxy.downstream import Downstream
from trio_mcp.wire.frames import StageState


class RelayedProgress:
    """Reports the updates of one call to `downstream`; it is what describes the open stages there."""

    __slots__ = ("_downstream", "_open")

    def __init__(self, downstream: Downstream) -> None:
        self._downstream = downstream
        self._open: tuple[StageState, ...] = ()

    def describe(self) -> tuple[StageState, ...]:
        """The stages that are open now."""
        return self._open

    def receive(self, update: Progress) -> Awaitable[None]:
        """Report an update."""
        if update.stages is not self._open:
            self._note_stages(update.stages)
        return self._downstream.context.report_progress(update.progress, update.total, update.message)

    def _note_stages(self, stages: tuple[StageState, ...]) -> None:
        if not self._open:
            reporter = self._downstream.reporter
            if reporter is None:
                return
            reporter.begin_stages(self)
        self._open = stages
