"""Work that many tasks want at once."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_mcp.authorization.shared_work import SharedWork


async def test_work_is_done_again_once_it_is_done() -> None:
    shared: SharedWork[str, int] = SharedWork()
    done = []

    async def work() -> int:
        await trio.lowlevel.checkpoint()
        done.append(None)
        return len(done)

    assert [await shared.do("a", work), await shared.do("a", work)] == [1, 2]
    assert not shared.is_doing("a")


async def test_work_on_different_subjects_goes_on_at_the_same_time() -> None:
    shared: SharedWork[str, None] = SharedWork()
    going, end = [], trio.Event()

    async def work() -> None:
        going.append(None)
        await end.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shared.do, "a", work)
        nursery.start_soon(shared.do, "b", work)
        await trio.testing.wait_all_tasks_blocked()
        assert len(going) == 2
        assert shared.is_doing("a")
        assert shared.is_doing("b")
        end.set()
    assert not shared.is_doing("a")
    assert not shared.is_doing("b")


async def test_if_the_work_crashes_the_next_does_it() -> None:
    shared: SharedWork[str, str] = SharedWork()
    begun, go_on = trio.Event(), trio.Event()

    async def crash() -> str:
        begun.set()
        await go_on.wait()
        raise ZeroDivisionError

    async def work() -> str:
        await trio.lowlevel.checkpoint()
        return "done"

    async def meet_the_crash() -> None:
        with pytest.raises(ZeroDivisionError):
            await shared.do("a", crash)

    results = []

    async def follow() -> None:
        results.append(await shared.do("a", work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meet_the_crash)
        await begun.wait()
        nursery.start_soon(follow)
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert results == ["done", "done"]
    assert not shared.is_doing("a")


async def test_nothing_is_kept_of_who_has_left() -> None:
    shared: SharedWork[str, None] = SharedWork()
    with trio.move_on_after(0):
        await shared.do("a", trio.sleep_forever)
    assert not shared.is_doing("a")
