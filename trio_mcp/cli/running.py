"""How a command runs: on Trio, with Ctrl-C, and with an exit status for every end.

Owns signals and the map from exceptions to statuses. Knows nothing of what the
command does.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from trio_mcp.cli.output import give_up_stdout, print_error, print_note
from trio_mcp.cli.status import FAILED, INTERRUPTED, PIPE_BROKEN, TIMED_OUT, CommandError
from trio_mcp.errors import CallTimeout, MCPError

Work: TypeAlias = Callable[[], Awaitable[int]]
"""What a command does; it returns the exit status."""

PATIENCE: Final = 1.0
"""After so many seconds of leaving in order, say how to end at once."""


def run_work(work: Work) -> int:
    """Run `work` on Trio and return its exit status, or that of how it failed.

    The first Ctrl-C cancels it, so that it leaves in order; the second ends it at
    once.
    """
    status = INTERRUPTED
    try:
        status = trio.run(_run_interruptible, work)
    except* KeyboardInterrupt:
        print_note("Cancelled.")
    return status


async def _run_interruptible(work: Work) -> int:
    status = INTERRUPTED
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_interrupt, scope)
        with scope:
            status = await _run_reporting(work)
        nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        print_note("Cancelled.")
    return status


@trio.lowlevel.enable_ki_protection
async def _watch_interrupt(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        await anext(signals)
        scope.cancel()
        with trio.move_on_after(PATIENCE) as patience:
            await anext(signals)
        if patience.cancelled_caught:
            print_note("Waiting for the server to end; Ctrl-C again does not wait.")
            await anext(signals)
    # As this function is protected, Trio raises KeyboardInterrupt in the main task, which waits for
    # the server and then kills it, and not in whatever task happens to run.
    signal.raise_signal(signal.SIGINT)


async def _run_reporting(work: Work) -> int:
    try:
        return await work()
    except CommandError as error:
        print_error(str(error))
        return error.status
    except CallTimeout as error:
        print_error(str(error))
        return TIMED_OUT
    except BrokenPipeError:
        give_up_stdout()
        return PIPE_BROKEN
    except MCPError as error:
        print_error(str(error))
    except OSError as error:
        print_error(error.strerror or str(error))
    return FAILED
