"""Asking the client for its roots (MCP roots).

Owns the one request. How a question travels is decided in `client_questions.py`.
"""

from __future__ import annotations

from typing import Final

from trio_mcp.server.client_questions import ask, convert_answer, has_capability, missing_capability
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.roots import ListRootsResult, Root

LIST_ROOTS: Final = "roots/list"


async def list_roots(request: ServerRequest, run: TaskRun | None, key: str | None) -> list[Root]:
    """See `Context.list_roots`."""
    if not has_capability(request, "roots"):
        raise missing_capability("roots")
    result: ListRootsResult = convert_answer(await ask(request, run, LIST_ROOTS, {}, key), ListRootsResult)
    return result.roots
