"""Which part of an exception passes on, and which part becomes an answer.

Owns that one decision, for the failure boundaries: request dispatch, the task supervisor and the client's
callbacks, and the few places that call foreign code. Refuses to know what an answer looks like.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import trio

logger = logging.getLogger("trio_mcp")


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


def contain_failure(error: BaseException, what: str) -> None:
    """Log the part of `error` that stays here, with the text `what`, and raise the part that passes on."""
    passing, failure = split_failure(error)
    if failure is not None:
        logger.error("%s", what, exc_info=failure)
    if passing is not None:
        raise passing
