"""Nurseries for context managers: a body's exception comes out alone, and what serves a body outlives it.

Owns that unwrapping (an exception of the body leaves as itself, not in a group, unless another task has
failed too), and the shield of tasks that serve the body. Refuses to know what the tasks do.
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


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose tasks go on while the body is being cancelled, as it needs them; checkpoints.

    When the body has ended, the tasks lose their shield, and the exit waits for them. An exception raised
    alone in the body comes out alone.
    """
    shield, opened, left = trio.CancelScope(shield=True), trio.Event(), trio.Event()
    services: trio.Nursery | None = None

    async def hold() -> None:
        nonlocal services
        with shield:
            async with trio.open_nursery() as services:
                opened.set()
                await left.wait()

    async with open_unwrapping_nursery() as outer:
        # Not `start`: cancelled at the wrong moment, that would wait for the shielded task for ever.
        outer.start_soon(hold)  # noqa: ASYNC113  # see above
        try:
            await opened.wait()
            assert services is not None, "it was opened"
            yield services
        finally:
            shield.shield = False
            left.set()


def _hold_the_same(one: BaseException, other: BaseException) -> bool:
    return [id(leaf) for leaf in leaves(one)] == [id(leaf) for leaf in leaves(other)]
