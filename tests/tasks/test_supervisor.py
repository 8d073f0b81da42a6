"""The statistics of a supervisor, and the end of a task that has expired."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.durable_store import DurableMemoryStore
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.memory_store import MemoryTaskStore
from trio_mcp.tasks.question_replay import QuestionReplay
from trio_mcp.tasks.record import BEARER, InputRequest, Outcome
from trio_mcp.tasks.settings import TaskSettings
from trio_mcp.tasks.supervisor import Supervisor, SupervisorStatistics, open_supervisor


async def add(supervisor: Supervisor, work: Any) -> LiveTask:
    live = supervisor.prepare("work", BEARER, ttl=None, poll_interval=None, keeps_history=True)
    await supervisor.commit(live)
    supervisor.start(live, work, lambda failure: Outcome("cancelled"))
    await wait_all_tasks_blocked()
    return live


async def test_a_supervisor_has_statistics(autojump_clock):
    go_on = trio.Event()

    async def work(live: LiveTask) -> Outcome:
        live.report(1, None, None)
        await go_on.wait()
        return Outcome("result")

    async with open_supervisor(MemoryTaskStore(), TaskSettings(max_running=2, max_queued=2)) as supervisor:
        assert supervisor.statistics() == SupervisorStatistics(
            running=0, queued=0, live=0, kept_reports=0, free_places=4
        )
        for _ in range(3):
            await add(supervisor, work)
        assert supervisor.statistics() == SupervisorStatistics(
            running=2, queued=1, live=3, kept_reports=0, free_places=1
        )
        assert repr(supervisor) == "<Supervisor: 2 running, 1 queued, 0 reports kept>"
        go_on.set()
        await wait_all_tasks_blocked()
        assert supervisor.statistics() == SupervisorStatistics(
            running=0, queued=0, live=0, kept_reports=3, free_places=4
        )


async def test_followers_of_an_expired_task_are_notified_when_its_handler_is_done(autojump_clock):
    """Its record is gone, but who follows it learns all the same how it ended."""
    seen: list[str] = []

    class Follower:
        def follow(self, record: Any) -> None:
            seen.append(record.status.value)

        def follow_report(self, task: Any, report: Any, replaced: Any = None) -> None:
            raise AssertionError("nothing is reported")

    async def work(live: LiveTask) -> Outcome:
        live.add_follower(Follower())
        await trio.sleep_forever()
        raise AssertionError("never reached")

    async with open_supervisor(MemoryTaskStore(), TaskSettings(ttl=5)) as supervisor:
        live = await add(supervisor, work)
        await trio.sleep(6)
        assert supervisor.find(live.id) is None
        assert supervisor.statistics().live == 0
        assert seen == ["cancelled"]
        await live.wait_ended()


@pytest.mark.parametrize("asks_again", [False, True])
async def test_a_question_leaves_the_record_unless_it_is_asked_again_at_once(autojump_clock, asks_again):
    go_on = trio.Event()

    async def work(live: LiveTask) -> Outcome:
        await go_on.wait()
        return Outcome("result")

    async with open_supervisor(DurableMemoryStore(), TaskSettings()) as supervisor:
        live = await add(supervisor, work)
        live.replay = replay = QuestionReplay()
        question = InputRequest("elicitation/create", {"message": "Who?"})
        key = live.put_question(question)
        supervisor.handover.drop_question(live, key)
        replay.begin_attempt()
        if asks_again:
            assert live.put_question(question) == key
        await wait_all_tasks_blocked()
        assert list(live.record.inputs) == [key] * asks_again
        assert live.answer(key, {"action": "decline"}) is asks_again
        go_on.set()
