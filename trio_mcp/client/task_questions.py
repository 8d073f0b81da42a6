"""Answering the questions of a background task (status `input_required`).

Owns that each question is answered once, by a task of its own, that one without a handler is left open, and
the boundary at which a failure of the handler ends. Refuses to know how the questions arrive.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import trio

from trio_mcp.client.link import Link
from trio_mcp.client.server_requests import MAX_REQUESTS
from trio_mcp.client.timeouts import CallTimer, paused
from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.errors import MCPError
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.messages import UpdateTaskParams

logger = logging.getLogger("trio_mcp.client")


class TaskQuestions:
    """The questions that one task has asked so far."""

    def __init__(self, link: Link, task_id: str, timer: CallTimer | None = None) -> None:
        self._link = link
        self._task_id = task_id
        # Of the call that waits for the task; it stands still while a question is open.
        self._timer = timer
        self._scopes: dict[str, trio.CancelScope] = {}  # by the key of the question, also of answered ones
        self._asked: set[str] = set()  # the keys of those whose handler runs, or is about to

    def answer(self, questions: Mapping[str, Any], nursery: trio.Nursery) -> None:
        """Start a task in `nursery` for each question that is new, if the client has a handler for it.

        Any other stays open: another client may answer it. Beyond `MAX_REQUESTS` at once they wait for a
        later snapshot, of which there is one when others have been answered.
        """
        for key, question in questions.items():
            if key in self._scopes:
                continue
            if len(self._asked) >= MAX_REQUESTS:
                return
            scope = self._scopes[key] = trio.CancelScope()
            if self._link.answering.can_answer(question):
                self._asked.add(key)
                nursery.start_soon(self._answer, key, question, scope)
            else:
                method = question.get("method") if isinstance(question, dict) else None
                logger.info("this client does not answer %s: the question %r stays open", method, key)

    def close_others(self, questions: Mapping[str, Any]) -> None:
        """Cancel the handlers of questions that are not among `questions`: another client has answered."""
        for key in self._asked - questions.keys():
            self._scopes[key].cancel()

    def cancel(self) -> None:
        """Cancel the answering of all questions."""
        for scope in self._scopes.values():
            scope.cancel()

    async def _answer(self, key: str, question: Any, scope: trio.CancelScope) -> None:
        with paused(self._timer), scope:
            try:
                answer = await self._find_answer(question)
            finally:
                self._asked.discard(key)
            if answer is not None:
                await self._send(key, answer)

    async def _find_answer(self, question: Any) -> dict[str, Any] | None:
        """Ask the client's handler; return None if it fails and the protocol has no answer for that."""
        method = question.get("method") if isinstance(question, dict) else None
        params = question.get("params") if isinstance(question, dict) else None
        try:
            answer = await self._link.answering.answer(str(method), params)
            encode_json(answer)  # raises ValueError for what is not JSON
        except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything; see contain_failure
            contain_failure(error, f"the handler of {method}", logger)
        else:
            return answer
        return {"action": "cancel"} if method == "elicitation/create" else None

    async def _send(self, key: str, answer: dict[str, Any]) -> None:
        update = UpdateTaskParams(task_id=self._task_id, input_responses={key: answer})
        try:
            await self._link.request("tasks/update", update)
        except MCPError as error:
            logger.warning("the answer to question %r of task %s was refused: %s", key, self._task_id, error)
