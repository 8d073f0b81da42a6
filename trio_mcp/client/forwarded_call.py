"""Requests that are made for somebody else's client: a call of a tool, and other requests that may ask.

Owns that parameters and results stay as they are, encoded, and that the questions of a round may be handed on
instead of being answered. Refuses to know who makes the request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from msgspec import Raw

from trio_mcp.client.call_answer import Answered, Questions
from trio_mcp.client.link import Link
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.progress_request import ProgressRequest
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.client.timeouts import CallDeadline, CallTimer
from trio_mcp.client.tool_call import ToolCall
from trio_mcp.handlers.sink import Handler, ProgressSink, open_handler
from trio_mcp.wire.messages import CallToolParams, CompleteParams, GetPromptParams, ReadResourceParams

QuestionHandler: TypeAlias = Callable[[Questions], Awaitable[None]]
"""Is handed the questions of a round. If it returns, the answering of the link answers them."""

TaskListener: TypeAlias = Callable[[TaskSnapshot], Awaitable[None]]
"""Is told of the task that the server has made of the call."""


BeginListener: TypeAlias = Callable[[PendingCall], None]
"""Is told of each request that is sent, with what has arrived for it."""


class ForwardedCall(ToolCall):
    """A call of a tool with parameters that somebody else has made."""

    __slots__ = ("_on_begin", "_on_questions", "_on_task")

    def __init__(
        self,
        link: Link,
        params: CallToolParams,
        handler: ProgressSink | None,
        *,
        on_begin: BeginListener,
        on_questions: QuestionHandler,
        on_task: TaskListener,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(
            link,
            params.name,
            None,
            handler,
            None,
            None,
            raise_on_error=False,
            result_type=None,
            idempotency_key=idempotency_key,
        )
        self._params = params
        self._on_begin = on_begin
        self._on_questions = on_questions
        self._on_task = on_task

    async def forward(self, *, as_task: bool = False, ttl: float | None = None) -> Raw:
        """Make the call and return its encoded result, also if that is an error; checkpoints.

        With `as_task` the server is asked for a background task, to be kept for `ttl` seconds; whether it
        makes one or not, the result is waited for. A task is cancelled if this call is. Raises as
        `Client.call_tool`.
        """
        self._as_task, self._ttl = as_task, ttl
        async with open_handler(self._handler, self.name) as handler:
            return await self._within(self._forward, handler)

    async def _forward(self, handler: Handler | None, timer: CallTimer | None) -> Raw:
        start = await self._start(handler, timer)
        if isinstance(start, Answered):
            return start.raw
        handle = TaskHandle(self._link, self.name, start, handler)
        try:
            await self._on_task(start.snapshot)
            return await handle.wait(handler, timer)
        finally:
            handle.abandon()

    def _begin(
        self,
        handler: Handler | None,
        timer: CallTimer | None,
        deadline: CallDeadline,
        *,
        wants_progress: bool,
    ) -> PendingCall:
        call = super()._begin(handler, timer, deadline, wants_progress=wants_progress)
        self._on_begin(call)
        return call

    async def _answer(self, questions: Questions) -> None:
        await self._on_questions(questions)
        await super()._answer(questions)


class ForwardedRequest(ProgressRequest):
    """Another request that may ask, with parameters that somebody else has made."""

    __slots__ = ("_on_begin", "_on_questions")

    def __init__(
        self,
        link: Link,
        method: str,
        params: CompleteParams | GetPromptParams | ReadResourceParams,
        what: str,
        handler: ProgressSink | None,
        *,
        on_begin: BeginListener,
        on_questions: QuestionHandler,
    ) -> None:
        super().__init__(link, method, params, what, handler, None, None)
        self._on_begin = on_begin
        self._on_questions = on_questions

    def _begin(
        self, handler: Handler | None, timer: CallTimer | None, *, wants_progress: bool
    ) -> PendingCall:
        call = super()._begin(handler, timer, wants_progress=wants_progress)
        self._on_begin(call)
        return call

    async def _answer(self, questions: Questions, params: GetPromptParams | ReadResourceParams) -> None:
        await self._on_questions(questions)
        await super()._answer(questions, params)
