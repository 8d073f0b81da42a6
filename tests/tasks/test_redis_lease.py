"""When a process renews its lease, rests without one, and counts itself lost; a test plays the server."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.redis_lease import Lease, Standing

LEASE = 15.0


class Registry:
    """What a server knows of one process, which holds a task if `holds`."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.known: set[str] = set()
        self.holds = False
        self.losses = 0
        self.is_away = False
        self.may_answer = trio.Event()
        self.may_answer.set()
        self.lease = Lease(
            LEASE, trio.current_time, self.renew, lambda: not self.holds, lambda: self.note_lost()
        )

    async def renew(self, holder: str, is_new: bool, may_rest: bool) -> Standing:
        self.asked.append(trio.current_time())
        await self.may_answer.wait()
        if self.is_away:
            raise TaskStoreError("the server is away")
        if not is_new and holder not in self.known:
            return Standing.DEAD
        if may_rest and not self.holds:
            self.known.discard(holder)
            return Standing.RESTS
        self.known.add(holder)
        return Standing.ALIVE

    def note_lost(self) -> None:
        self.losses += 1

    def serve(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.lease.keep)
        nursery.start_soon(self.lease.watch)


async def test_a_lease_is_renewed_three_times_in_its_length_while_a_task_is_held(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Registry()
    server.holds = True
    holder = await server.lease.hold()
    server.serve(nursery)
    await trio.sleep(10 * LEASE)
    gaps = [later - earlier for earlier, later in zip(server.asked, server.asked[1:], strict=False)]
    assert all(0.8 * LEASE / 3 <= gap <= LEASE / 3 for gap in gaps)
    assert len(gaps) >= 30
    assert (server.known, server.lease.holder, server.losses) == ({holder}, holder, 0)


async def test_a_process_that_holds_nothing_gives_its_lease_back_and_wakes_up_no_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Registry()
    await server.lease.hold()
    server.serve(nursery)
    await trio.sleep(LEASE / 3)
    assert (len(server.asked), server.known) == (2, set())
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline > 1e9
    await trio.sleep(100 * LEASE)
    assert (len(server.asked), server.losses) == (2, 0)


async def test_a_process_that_rests_takes_a_lease_under_its_old_id(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Registry()
    holder = await server.lease.hold()
    server.serve(nursery)
    await trio.sleep(10 * LEASE)
    server.holds = True
    assert await server.lease.hold() == holder
    assert server.known == {holder}
    await trio.sleep(10 * LEASE)
    assert len(server.asked) >= 30, "it is renewed from now on"
    assert (server.known, server.losses) == ({holder}, 0)


async def test_whoever_comes_while_the_process_asks_to_rest_gets_a_lease(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Registry()
    holder = await server.lease.hold()
    server.may_answer = trio.Event()
    server.serve(nursery)
    await trio.sleep(LEASE / 3)
    assert len(server.asked) == 2
    held: list[str] = []

    async def hold() -> None:
        held.append(await server.lease.hold())

    async with trio.open_nursery() as callers:
        for _ in range(5):
            callers.start_soon(hold)
        await wait_all_tasks_blocked()
        assert held == [], "nobody may rely on a lease that is being given back"
        server.may_answer.set()
    assert held == [holder] * 5
    assert server.known == {holder}
    assert len(server.asked) == 3, "one of them asks for all"


async def test_a_lease_that_is_not_renewed_is_lost_after_two_thirds(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Registry()
    server.holds = True
    holder = await server.lease.hold()
    server.serve(nursery)
    server.is_away = True
    begun = trio.current_time()
    await server.lease.wait_lost()
    assert trio.current_time() - begun == 2 * LEASE / 3
    assert server.losses == 1
    asked = len(server.asked)
    assert asked > 4, "it is asked for soon again"
    await trio.sleep(10 * LEASE)
    assert len(server.asked) == asked, "nothing is held any more"
    server.is_away = False
    assert await server.lease.hold() != holder


async def test_a_renewal_without_an_answer_does_not_hide_the_loss(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Registry()
    server.holds = True
    await server.lease.hold()
    server.may_answer = trio.Event()
    server.serve(nursery)
    begun = trio.current_time()
    await server.lease.wait_lost()
    assert trio.current_time() - begun == 2 * LEASE / 3
    server.may_answer.set()
    await wait_all_tasks_blocked()
    assert not server.lease.is_registered, "what is answered late counts for nothing"
