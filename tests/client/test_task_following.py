"""The pace at which a client that follows a task asks for its state."""

from __future__ import annotations

from collections import Counter

import trio

from trio_mcp import Server, TaskConfig, open_client
from trio_mcp.testing import WireRecorder

MAX_STEPS = 50_000
"""So many steps of tasks are far more than 200 s of following take, and few for a loop that never waits."""


class StepLimit(trio.abc.Instrument):
    """Cancels a scope if the tasks of the run take too many steps: the clock of a test would not see that."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            self._scope.cancel()


async def test_a_task_that_says_nothing_is_polled_seldom_whatever_the_clock_shows(autojump_clock):
    """A sum of times is rounded: what is subtracted again may come out below where it began."""
    server = Server("silent")

    @server.tool(task=TaskConfig(promote_after=0, poll_interval=0.3))
    async def rest() -> str:
        await trio.sleep(200)
        return "rested"

    autojump_clock.jump(0.01)
    recorder = WireRecorder(server)
    with trio.CancelScope() as scope:
        trio.lowlevel.add_instrument(StepLimit(scope))
        async with open_client(recorder) as client:
            task = await client.call_tool("rest", task=True)
            assert (await task.result()).data == "rested"
    assert not scope.cancelled_caught, "the client spins"
    methods = Counter(message["method"] for message in recorder.sent_messages() if "method" in message)
    assert 60 <= methods["tasks/get"] <= 70
