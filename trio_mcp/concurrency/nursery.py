"""A nursery for context managers whose body's exception must come out alone.

Owns that unwrapping and nothing else: an exception of the body leaves as itself, not in a group, unless
another task has failed too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_mcp.concurrency.failures import leaves


@asynccontextmanager
async def open_unwrapping_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery; an exception raised alone in the body comes out alone. Checkpoints."""
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                raised = error
                raise
    except BaseExceptionGroup as group:
        # By their leaves: if the nursery was cancelled, a group that the body raised arrives as a copy.
        if raised is None or not _hold_the_same(group, raised):
            raise
    else:
        return  # also if the nursery's own cancellation has ended the body
    raise raised


def _hold_the_same(one: BaseException, other: BaseException) -> bool:
    return [id(leaf) for leaf in leaves(one)] == [id(leaf) for leaf in leaves(other)]
