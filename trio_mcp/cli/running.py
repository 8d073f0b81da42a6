"""Runs a command on Trio, handles Ctrl-C, and turns every end into an exit status.

Owns SIGINT and the map from exceptions to statuses. Refuses to know what the
command does.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import attrs
import trio

from trio_mcp.cli.output import give_up_stdout, print_error, print_note
from trio_mcp.cli.status import FAILED, INTERRUPTED, PIPE_BROKEN, TIMED_OUT, TOOL_FAILED, CommandError
from trio_mcp.errors import CallTimeout, MCPError, TaskCancelled, TaskFailed

Work: TypeAlias = Callable[[], Awaitable[int]]
"""The work of a command; it returns the exit status."""


@attrs.define
class Interrupt:
    """What the first Ctrl-C cancels: the whole command, or the block that is confined."""

    whole: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _block: trio.CancelScope | None = None

    def cancel(self) -> None:
        """Handle the first Ctrl-C."""
        (self._block or self.whole).cancel()

    @contextmanager
    def confined(self) -> Iterator[None]:
        """During the block Ctrl-C cancels only the block, so that its caller can clean up before the end."""
        with trio.CancelScope() as self._block:
            try:
                yield
            finally:
                self._block = None

    async def pass_on(self) -> None:
        """Cancel the rest of the command, and checkpoint: this never returns."""
        self.whole.cancel()
        await trio.lowlevel.checkpoint()


PATIENCE_SECONDS: Final = 1.0
"""How long the first Ctrl-C may take before a note says that a second one does not wait."""


def run_work(work: Work, *, interrupt: Interrupt | None = None, farewell: str = "Cancelled.") -> int:
    """Run `work` on Trio and return its exit status, or the status for how it failed.

    The first Ctrl-C cancels what `interrupt` says, by default all of the work, so that it
    cleans up; the second ends it at once. `farewell` is printed in either case.
    """
    status = INTERRUPTED
    try:
        status = trio.run(_run_interruptible, work, interrupt or Interrupt(), farewell)
    except* KeyboardInterrupt:
        print_note(farewell)
    return status


def run_serving(work: Work, *, farewell: str) -> int:
    """Run `work`, which handles signals itself, as `run_work` does otherwise.

    The farewell is printed here only if Ctrl-C comes before `work` has begun, or after its end. A handler
    that does not end cannot hold up the process: the second signal is not an exception of a task.
    """
    status = INTERRUPTED
    try:
        status = trio.run(run_reporting, work)
    except* KeyboardInterrupt:
        print_note(farewell)
    return status


async def _run_interruptible(work: Work, interrupt: Interrupt, farewell: str) -> int:
    status = INTERRUPTED
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_interrupt, interrupt)
        with interrupt.whole:
            status = await run_reporting(work)
        nursery.cancel_scope.cancel()
    if interrupt.whole.cancelled_caught:
        print_note(farewell)
    return status


@trio.lowlevel.enable_ki_protection
async def _watch_interrupt(interrupt: Interrupt) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        await anext(signals)
        interrupt.cancel()
        with trio.move_on_after(PATIENCE_SECONDS) as patience:
            await anext(signals)
        if patience.cancelled_caught:
            print_note("Waiting for the server to end; Ctrl-C again does not wait.")
            await anext(signals)
    # Because this function is protected, Trio raises KeyboardInterrupt not in the task that happens to
    # run but in the main task, which waits for the server and then kills it.
    signal.raise_signal(signal.SIGINT)


async def run_reporting(work: Work) -> int:
    """Do `work` and return its exit status; what it raises becomes a line on stderr. Checkpoints."""
    try:
        return await work()
    except CommandError as error:
        print_error(str(error))
        return error.status
    except CallTimeout as error:
        print_error(str(error))
        return TIMED_OUT
    except (TaskCancelled, TaskFailed) as error:
        print_error(str(error))
        return TOOL_FAILED
    except BrokenPipeError:
        give_up_stdout()
        return PIPE_BROKEN
    except (
        MCPError,
        ImportError,
    ) as error:  # an import fails if an extra is missing, which the message names
        print_error(str(error))
    except OSError as error:
        print_error(error.strerror or str(error))
    return FAILED
