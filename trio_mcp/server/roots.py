"""Asking the client for its roots (MCP roots).

Owns the one request. How a question travels is decided in `question_route.py`.
"""

from __future__ import annotations

from typing import Final

from trio_mcp.server.client_questions import convert_answer
from trio_mcp.server.question_route import QuestionPlace, ask_client
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.roots import ListRootsResult, Root

LIST_ROOTS: Final = "roots/list"


async def list_roots(
    request: ServerRequest, run: TaskRun | None, place: QuestionPlace, key: str | None
) -> list[Root]:
    """See `Context.list_roots`."""
    answer = await ask_client(request, run, place, LIST_ROOTS, {}, key)
    result: ListRootsResult = convert_answer(answer, ListRootsResult)
    return result.roots
