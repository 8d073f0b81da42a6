"""The handler that a client has for changes of its server's lists.

Owns that the server is listened to while the client is open, that the handler is called with one change at a
time, and the boundary at which its failure ends. Refuses to know how a server is listened to.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from trio_mcp.client.changes import Change, ChangeChannel, ChangeHandler, make_filter
from trio_mcp.client.link import Link
from trio_mcp.client.listening import LISTS, declared_lists, open_listening
from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ConnectionLost, MCPError

logger = logging.getLogger("trio_mcp.client")


@asynccontextmanager
async def handling_changes(link: Link, handler: ChangeHandler | None) -> AsyncIterator[None]:
    """While the block lasts, call `handler` with each change of a list that the server tells of; checkpoints.

    A modern server that declares no such changes is not asked. One that refuses is logged.
    """
    # A legacy server tells without being asked, whatever it declares.
    lists = declared_lists(link.agreement.capabilities) if link.era.modern else LISTS
    if handler is None or not lists:
        yield
        return
    async with AsyncExitStack() as stack:
        try:
            wanted = make_filter(
                tools="tools" in lists, prompts="prompts" in lists, resources="resources" in lists
            )
            changes = await stack.enter_async_context(open_listening(link, wanted))
        except MCPError as error:
            logger.warning("the server was asked to tell of its changes, and does not: %s", error)
            yield
            return
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(_handle_all, changes, handler)
            yield
            nursery.cancel_scope.cancel()


async def _handle_all(changes: ChangeChannel, handler: ChangeHandler) -> None:
    try:
        async for change in changes:
            await _handle(change, handler)
    except ConnectionLost as error:
        logger.debug("no more changes are told of: %s", error)  # whoever makes a request gets it as well
    except MCPError as error:
        logger.warning("no more changes are told of: %s", error)


async def _handle(change: Change, handler: ChangeHandler) -> None:
    try:
        pending = handler(change)
        if pending is not None and inspect.isawaitable(pending):
            await pending
    except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything; see contain_failure
        contain_failure(error, "a change handler", logger)
    await trio.lowlevel.checkpoint()
