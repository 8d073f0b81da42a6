"""Runs of tasks that this process has claimed from the store.

Owns how a stored task becomes one that runs here: with its call, its progress, its checkpoint, and its
questions and their answers. What runs is a `TaskRun` as any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
import trio

from trio_mcp.errors import ProtocolError, ReturnError
from trio_mcp.server.attempts import begin_attempt
from trio_mcp.server.error_results import ErrorResults
from trio_mcp.server.task_run import RunState, TaskRun
from trio_mcp.server.task_work import make_detached, read_gathered
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.settings import ServerSettings
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.question_replay import QuestionReplay
from trio_mcp.tasks.record import Outcome
from trio_mcp.tasks.rendering import related_meta
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.tasks.stored_task import StoredTask, TaskWork
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.wire.codec import make_error
from trio_mcp.wire.eras import ERAS
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.messages import CallToolResult

Handler: TypeAlias = Callable[[TaskRun], Awaitable[CallToolResult]]
MakeHandler: TypeAlias = Callable[[ServerRequest, ToolDefinition, msgspec.Raw | None], Handler]


def make_stored_run(
    task: StoredTask,
    tool: ToolDefinition | None,
    supervisor: Supervisor,
    settings: ServerSettings,
    errors: ErrorResults,
    make_handler: MakeHandler,
) -> TaskRun | None:
    """Make the run of a task that was claimed; None if it cannot be run, and fails. Does not wait."""
    work = task.work
    era = None if work is None else ERAS.get(work.era)
    live = supervisor.handover.adopt(task, keeps_history=era is not None and era.tasks == "extension")
    if work is None or tool is None or era is None:
        supervisor.start(live, _fail(_find_flaw(task, tool, work)), _describe)
        return None
    config = tool.task or TaskConfig()
    try:
        gathered = read_gathered(work, config.gather)
    except ReturnError as error:
        supervisor.start(live, _fail(str(error)), _describe)
        return None
    answers = {key: msgspec.json.decode(answer) for key, answer in task.answers.items()}
    waiting = {key: one for key, one in task.record.inputs.items() if key not in answers}
    live.resume_questions(QuestionReplay(answers, waiting))
    request = make_detached(task, work, era, settings)
    request.task = live
    live.related_meta = None if era.modern else related_meta(live.id)
    begin_attempt(request, live)
    handler = make_handler(request, tool, work.arguments)
    run = TaskRun(supervisor, live, request, config, handler, None, errors, RunState.TASK)
    run.gathered = gathered
    run.is_resumed = True
    return run


def _find_flaw(task: StoredTask, tool: ToolDefinition | None, work: TaskWork | None) -> str:
    if work is None:
        return "the call of the task was not stored"
    if tool is None:
        return f"the server has no tool {task.record.tool!r} any more"
    return f"the server does not know protocol {work.era!r}, by which the task was called"


def _fail(reason: str) -> Callable[[LiveTask], Awaitable[Outcome]]:
    async def work(live: LiveTask) -> Outcome:
        await trio.lowlevel.checkpoint()
        raise ProtocolError(INTERNAL_ERROR, f"the task cannot be run again: {reason}")

    return work


def _describe(failure: BaseException) -> Outcome:
    assert isinstance(failure, ProtocolError)
    return Outcome("protocol_error", error=make_error(failure))
