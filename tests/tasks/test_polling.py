"""Polls of a task that fail, and what that means for a client that waits for the task."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio

from tests.support.fake_server import DISCOVERED, FakeServer, error, result
from trio_mcp import ProtocolError, TaskNotFound, open_client
from trio_mcp.client.task_following import RETRY_SECONDS
from trio_mcp.wire.progress_codec import PROGRESS_META

TIME = "2026-01-01T00:00:00Z"
CREATED = {"resultType": "task", "taskId": "t", "createdAt": TIME, "lastUpdatedAt": TIME, "ttlMs": None}
WORKING = result({**CREATED, "status": "working"})
ENDED = result({**CREATED, "resultType": "complete", "status": "completed", "result": {"content": []}})


def make_server(*answers: Any) -> tuple[FakeServer, list[float]]:
    """A server without subscriptions that gives `answers` to tasks/get, and the times of the polls."""
    rest = itertools.chain(answers, itertools.repeat(answers[-1]))
    polls: list[float] = []

    def get(request: Any) -> Any:
        polls.append(trio.current_time())
        return next(rest)(request)

    return FakeServer({"server/discover": result(DISCOVERED), "tools/call": WORKING, "tasks/get": get}), polls


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_poll_that_fails_for_a_moment_is_repeated(status: int, autojump_clock):
    failing = error(-32603, {"status": status})
    server, polls = make_server(WORKING, failing, failing, ENDED)
    async with open_client(server) as client:
        assert (await client.call_tool("any")).content == []
    gaps = [after - before for before, after in itertools.pairwise(polls)]
    assert gaps[1:] == pytest.approx(RETRY_SECONDS[:2])


async def test_a_failure_that_lasts_is_raised_after_the_last_retry(autojump_clock):
    server, polls = make_server(error(-32603, {"status": 502}))
    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match="no"):
            await client.call_tool("any")
    assert len(polls) == len(RETRY_SECONDS) + 1
    assert polls[-1] - polls[0] == pytest.approx(sum(RETRY_SECONDS))


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (error(-32603, {"status": 404}), ProtocolError),
        (error(-32603, {"status": "502"}), ProtocolError),
        (error(-32603), ProtocolError),
        (error(-32602), TaskNotFound),
    ],
)
async def test_an_answer_about_the_task_is_raised_at_once(answer: Any, raised: Any, autojump_clock):
    server, polls = make_server(answer)
    async with open_client(server) as client:
        with pytest.raises(raised):
            await client.call_tool("any")
    assert len(polls) == 1


async def test_progress_does_not_go_back_if_another_process_begins_the_task_again(autojump_clock):
    """The server has told more than was stored, and tells what the new attempt has reached."""

    def working(current: int, second: int) -> Any:
        at = f"2026-01-01T00:00:{second:02}Z"
        progress = {PROGRESS_META: {"current": current, "total": 9, "reportedAt": at}}
        return result({**CREATED, "status": "working", "lastUpdatedAt": at, "_meta": progress})

    server, _ = make_server(working(3, 1), working(6, 2), working(4, 3), working(7, 4), ENDED)
    seen: list[float] = []
    async with open_client(server) as client:
        await client.call_tool("any", progress_handler=lambda current, total, message: seen.append(current))
    assert seen == sorted(seen)
    assert seen[0] == 3
    assert seen[-1] == 7
