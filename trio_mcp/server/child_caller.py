"""How a handler calls other tools of its server, as its Context sees it: a protocol.

`child_calls.py` implements it. It is imported only for type checking, so that a server starts without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import trio

from trio_mcp.server.progress_helper import ProgressHelper
from trio_mcp.server.question_route import QuestionPlace
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest


class ChildCaller(QuestionPlace, Protocol):
    """How a handler calls other tools of its server, in its own task, and from where it asks its client.

    `gathered` is what the handler's `gather` function returned, if another
    tool called it. `server` is the handler's server, as its program wrote it. `limiter` bounds its threads.
    """

    gathered: Any
    server: Any
    limiter: trio.CapacityLimiter

    async def call(
        self,
        request: ServerRequest,
        run: TaskRun | None,
        name: str,
        arguments: Mapping[str, Any],
        progress: ProgressHelper | None,
    ) -> msgspec.Raw:
        """The encoded result, also if it is an error; see `Context.call_tool`."""
