"""Where a client tells of what its server did wrong, if no call can be told.

Owns the two places: the log of this package, and the `on_error` hook of the client. Refuses to know
what was wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.errors import MCPError

logger = logging.getLogger("trio_mcp.client")

ErrorHandler: TypeAlias = Callable[[MCPError], None]
"""Called with each fault of a server that belongs to no call; not async."""


class FaultReport:
    """Tells of faults; never waits and never raises what a handler raises."""

    def __init__(self, on_error: ErrorHandler | None) -> None:
        self._on_error = on_error

    def tell(self, fault: MCPError) -> None:
        """Log `fault`, and hand it to the hook of the client."""
        logger.warning("%s", fault)
        if self._on_error is not None:
            try:
                self._on_error(fault)
            except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything
                contain_failure(error, "an on_error handler", logger)
