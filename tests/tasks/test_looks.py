"""Looks at a task that fail, and what that means for whoever waits for it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio

from tests.client.test_client import DISCOVERED, FakeServer, error, result
from trio_mcp import ProtocolError, TaskNotFound, open_client
from trio_mcp.client.task_following import RETRY_SECONDS

TIME = "2026-01-01T00:00:00Z"
CREATED = {"resultType": "task", "taskId": "t", "createdAt": TIME, "lastUpdatedAt": TIME, "ttlMs": None}
WORKING = result({**CREATED, "status": "working"})
ENDED = result({**CREATED, "resultType": "complete", "status": "completed", "result": {"content": []}})


def make_server(*answers: Any) -> tuple[FakeServer, list[float]]:
    """A server without subscriptions whose tasks/get answers as told, and the times at which it was asked."""
    rest = itertools.chain(answers, itertools.repeat(answers[-1]))
    looks: list[float] = []

    def get(request: Any) -> Any:
        looks.append(trio.current_time())
        return next(rest)(request)

    return FakeServer({"server/discover": result(DISCOVERED), "tools/call": WORKING, "tasks/get": get}), looks


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_look_that_fails_in_passing_is_tried_again(status: int, autojump_clock):
    failing = error(-32603, {"status": status})
    server, looks = make_server(WORKING, failing, failing, ENDED)
    async with open_client(server) as client:
        assert (await client.call_tool("any")).content == []
    gaps = [after - before for before, after in itertools.pairwise(looks)]
    assert gaps[1:] == pytest.approx(RETRY_SECONDS[:2])


async def test_a_failure_that_does_not_pass_is_raised_after_a_while(autojump_clock):
    server, looks = make_server(error(-32603, {"status": 502}))
    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match="no"):
            await client.call_tool("any")
    assert len(looks) == len(RETRY_SECONDS) + 1
    assert looks[-1] - looks[0] == pytest.approx(sum(RETRY_SECONDS))


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
    server, looks = make_server(answer)
    async with open_client(server) as client:
        with pytest.raises(raised):
            await client.call_tool("any")
    assert len(looks) == 1
