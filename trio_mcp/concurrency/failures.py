"""Which part of an exception passes on, and which part becomes an answer.

Owns that one decision, for the failure boundaries: request dispatch, the task supervisor and the client's
callbacks, and the few places that call foreign code. Refuses to know what an answer looks like.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import trio

from trio_mcp.concurrency.failure_log import FailureLog

_run_log: Final[trio.lowlevel.RunVar[FailureLog | None]] = trio.lowlevel.RunVar("failures of this run", None)


def _is_answerable(error: BaseException) -> bool:
    # A group is split. Of the rest, only what must reach Trio or ends the process passes on.
    return not isinstance(error, (BaseExceptionGroup, trio.Cancelled, KeyboardInterrupt, GeneratorExit))


def split_failure(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split `error` into what must pass on and what becomes the answer; either may be None.

    Cancelled, KeyboardInterrupt and GeneratorExit pass on; everything else becomes the
    answer, also if both arrive in one group.
    """
    if isinstance(error, BaseExceptionGroup):
        answer, passing = error.split(_is_answerable)
        return passing, answer
    return (None, error) if _is_answerable(error) else (error, None)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Every exception inside `error` that is not a group."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from leaves(member)
    else:
        yield error


def contain_failure(
    error: BaseException, subject: str, logger: logging.Logger, ending: str = "failed"
) -> None:
    """Log the part of `error` that stays here, as `log_failure` does, and raise the part that passes on."""
    passing, failure = split_failure(error)
    if failure is not None:
        log_failure(failure, subject, logger, ending)
    if passing is not None:
        raise passing


def log_failure(failure: BaseException, subject: str, logger: logging.Logger, ending: str = "failed") -> None:
    """Log that `subject` has failed: a traceback once, and then how often, as `FailureLog.log` does.

    What is counted belongs to the Trio run, at whose end the last counts are logged.
    """
    find_run_log().log(logger, subject, failure, ending)


def find_run_log() -> FailureLog:
    """The failures of this Trio run."""
    found = _run_log.get()
    if found is None:
        found = FailureLog()
        _run_log.set(found)
        trio.lowlevel.spawn_system_task(_close_at_end, found, name="the end of the failures of this run")
    return found


async def _close_at_end(log: FailureLog) -> None:
    """Log the last counts when the program's own tasks have ended, which cancels this one."""
    try:
        await trio.sleep_forever()
    finally:
        log.close()
