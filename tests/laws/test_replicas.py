"""What holds for a task although its process loses it, or its client changes the replica."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.replicas import add_steps, open_fleet
from trio_mcp import ProtocolError


async def test_a_process_that_lost_its_lease_cancels_its_tasks_and_stores_nothing(wire, autojump_clock):
    """Who follows them there hears from the store what has become of them."""
    async with open_fleet() as fleet, fleet.a.open(wire) as one:
        task = await one.call_tool("wait", task=True)
        await fleet.reached.wait()
        await trio.sleep(1)
        fleet.a.store.puts.clear()
        fleet.a.store.lose_lease()
        await wait_all_tasks_blocked()
        assert fleet.ends == ["cancelled", "finally"]
        assert (await fleet.b.running.fetch_task(task.id)).status == "working", "until it is recovered"
        with trio.fail_after(1000), pytest.raises(ProtocolError, match="interrupted"):
            await task.result()
        assert fleet.a.store.puts == []
        record = await fleet.a.running.fetch_task(task.id)
        assert record.progress is not None
        assert record.progress.current == 1, "the last progress is kept"
        again = await one.call_tool("count", {"n": 2}, task=True)
        assert (await again.result()).data == "counted 2", "it goes on as another holder"


async def test_who_changes_replicas_sees_no_unknown_task_and_no_step_back(wire, autojump_clock):
    async with open_fleet(add_steps) as fleet, fleet.a.open(wire) as one, fleet.b.open(wire) as other:
        task = await one.call_tool("steps", {"n": 20}, task=True)
        seen: list[float] = []
        status = "working"
        while status == "working":
            for client in (one, other):
                snapshot = await client.fetch_task(task.id)
                status = snapshot.status
                if snapshot.current is not None:
                    seen.append(snapshot.current)
            await trio.sleep(0.11)
        assert seen == sorted(seen)
        assert len(set(seen)) > 10
