"""A client goes on through another replica, whatever becomes of the first, and of the server of the store."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

import pytest
import trio

from tests.durability.campaign import FAR, Call, Campaign, describe
from tests.durability.fleet import SHORT_LEASE, Fleet, Note, open_fleet
from tests.durability.program import expected_text
from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import RedisServer, run_redis_server
from trio_mcp import CallResult, Client, ConnectionLost, ElicitRequest, ProtocolError, open_client
from trio_mcp.tasks.stored_codec import encode_record
from trio_mcp.wire.errors import INTERNAL_ERROR

FROZEN_SECONDS: Final = 5.0

Outage: TypeAlias = Callable[[RedisServer], Awaitable[None]]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with run_redis_server(appendonly=True) as running:
        yield running


@asynccontextmanager
async def open_pair(
    directory: Path, redis: RedisServer, lease: float = SHORT_LEASE
) -> AsyncIterator[Campaign]:
    """Two replicas, a and b."""
    async with open_fleet(directory, redis.url, lease) as fleet:
        await fleet.start("a", "b")
        yield Campaign(fleet)


async def begin(campaign: Campaign, name: str, tool: str = "restarting", until: int = 1) -> list[Call]:
    """Make ten calls of one replica, and wait until each has kept something."""
    fleet = campaign.fleet
    calls = []
    async with open_client(fleet.members[name].url) as client:
        for _ in range(10):
            calls.append(await campaign.call_one(client, tool, until))
    for call in calls:
        await fleet.wait_note("kept", call=call.name)
    return calls


async def await_result(
    fleet: Fleet, name: str, call: Call, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> CallResult:
    """Wait for the result of a task through a replica, and check it; has started when it sees progress."""
    seen: list[float] = []

    def see(progress: float, total: float | None, message: str | None) -> None:
        if not seen:
            task_status.started()
        seen.append(progress)

    async with open_client(fleet.members[name].url) as client:
        result = await client.await_task(call.task_id, progress_handler=see)
    assert seen == sorted(seen), f"{call}: progress went back at {name}: {seen}; {notes_of(fleet, call)}"
    assert result.data.split(" ")[2] == expected_text(call.name)
    return result


def notes_of(fleet: Fleet, call: Call) -> list[Note]:
    return [note for note in fleet.notes if note.call == call.name]


async def poll(
    fleet: Fleet, names: str, call: Call, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Ask replicas in turn for the state of a task until it has ended; it is there, and goes on."""
    current = 0.0
    clients: dict[str, Client] = {}
    async with open_client(fleet.members[names[-1]].url) as last:
        clients[names[-1]] = last
        async with open_client(fleet.members[names[0]].url) as first:
            clients[names[0]] = first
            turn, has_started = 0, False
            while True:
                turn += 1
                await trio.sleep(0.02)
                try:
                    # Raises TaskNotFound for an unknown id.
                    snapshot = await clients[names[turn % len(names)]].fetch_task(call.task_id)
                except ConnectionLost:
                    continue  # that replica was killed
                except ProtocolError as error:
                    if error.code != INTERNAL_ERROR:
                        raise
                    continue  # the store is away
                if not has_started:
                    task_status.started()
                    has_started = True
                assert (snapshot.current or 0.0) >= current, f"{call} went back from {current}: {snapshot}"
                current = snapshot.current or 0.0
                if snapshot.is_final:
                    return


async def test_a_client_watches_answers_cancels_and_gets_its_result_through_another_replica(
    redis: RedisServer, tmp_path: Path
) -> None:
    async def answer(request: ElicitRequest) -> dict[str, Any]:
        return {"name": "Ann"}

    async def leave_open(request: ElicitRequest) -> NoReturn:
        raise AssertionError("who only makes a call is not asked")

    async with open_pair(tmp_path, redis, HANG_SECONDS) as campaign:
        fleet = campaign.fleet
        a, b = fleet.members["a"], fleet.members["b"]
        with trio.fail_after(HANG_SECONDS):
            async with (
                open_client(a.url, elicitation_handler=leave_open) as client,
                open_client(b.url, elicitation_handler=answer) as other,
            ):
                watched = await campaign.call_one(client, "restarting", 1)
                async with other.watch_task(watched.task_id) as snapshots:
                    async for snapshot in snapshots:
                        if (snapshot.current or 0) >= 4:
                            break
                fleet.generation = 1
                result = await other.await_task(watched.task_id)
                assert result.data == f"1 {a.id} {expected_text(watched.name)}"

                asking = await client.call_tool("greet", {"call": "asking"}, task=True)
                assert asking.id is not None
                assert (await other.await_task(asking.id)).data == "Hello, Ann!"

                endless = await campaign.call_one(client, "restarting", FAR)
                await fleet.wait_note("begun", call=endless.name)
                await other.cancel_task(endless.task_id)
                stopped = await fleet.wait_note("stopped", call=endless.name)
                assert stopped.process == a.id
                for each in (client, other):
                    assert (await each.fetch_task(endless.task_id)).status == "cancelled"


async def test_a_killed_replica_hands_its_tasks_over(redis: RedisServer, tmp_path: Path) -> None:
    async with open_pair(tmp_path, redis) as campaign:
        fleet = campaign.fleet
        calls = await begin(campaign, "a")
        with trio.fail_after(HANG_SECONDS):
            async with trio.open_nursery() as nursery:
                for call in calls:
                    await nursery.start(partial(poll, fleet, "ab", call))
                    await nursery.start(await_result, fleet, "b", call)
                before = await fleet.read_store()
                fleet.members["a"].kill()
                for call in calls:
                    await fleet.wait_note("begun", call=call.name, process=fleet.members["b"].id)
                fleet.generation = 1
        after = await fleet.read_store()
        campaign.require_kept(before, after)
        campaign.require_ended(after)
        for task in after.values():
            assert task.record.attempt >= 2, describe(task)


async def test_a_question_of_a_killed_replica_is_answered_through_another(
    redis: RedisServer, tmp_path: Path
) -> None:
    asked: list[str] = []

    async def answer(request: ElicitRequest) -> dict[str, Any]:
        asked.append(request.message)
        return {"name": "Ann"}

    async with open_pair(tmp_path, redis) as campaign:
        fleet = campaign.fleet
        with trio.fail_after(HANG_SECONDS):
            async with open_client(fleet.members["a"].url, elicitation_handler=answer) as client:
                handle = await client.call_tool("greet", {"call": "asking"}, task=True)
                assert handle.id is not None
                while (await client.fetch_task(handle.id)).status != "input_required":
                    await fleet.wait_note("begun", call="asking")
            fleet.members["a"].kill()
            async with open_client(fleet.members["b"].url, elicitation_handler=answer) as other:
                assert (await other.fetch_task(handle.id)).status == "input_required"
                assert (await other.await_task(handle.id)).data == "Hello, Ann!"
        assert asked == ["Who are you?"]
        (task,) = (await fleet.read_store()).values()
        assert task.record.attempt >= 2, describe(task)


async def test_a_frozen_replica_hands_its_tasks_over_and_changes_nothing_when_it_is_thawed(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with open_pair(tmp_path, redis) as campaign:
        fleet = campaign.fleet
        a, b = fleet.members["a"], fleet.members["b"]
        calls = await begin(campaign, "a")
        with trio.fail_after(HANG_SECONDS):
            async with trio.open_nursery() as nursery:
                # Whoever waits for a result at the frozen replica gets it when that is thawed.
                for call in calls[:2]:
                    await nursery.start(await_result, fleet, "a", call)
                for call in calls:
                    await nursery.start(partial(poll, fleet, "b", call))
                a.freeze()
                # All of them, unless this machine is so slow that the other one has some already.
                own = [call for call in calls if notes_of(fleet, call)[-1].process == a.id]
                for call in calls:
                    await fleet.wait_note("begun", call=call.name, process=fleet.members["b"].id)
                fleet.generation = 1
                for call in calls:
                    result = await await_result(fleet, "b", call)
                    assert result.data.split(" ")[1] == str(b.id)
                ended = await fleet.read_store()
                seen = len(fleet.notes)
                a.thaw()
                for call in own:
                    await fleet.wait_note("stopped", "done", start=seen, call=call.name, process=a.id)
            # It tells what the other has done, and works on.
            for call in calls:
                assert (await await_result(fleet, "a", call)).data.split(" ")[1] == str(b.id)
            async with open_client(a.url) as client:
                later = await campaign.call_one(client, "restarting", 0)
                await await_result(fleet, "a", later)
        after = await fleet.read_store()
        campaign.require_ended(after)
        for task_id, task in ended.items():
            assert encode_record(after[task_id].record) == encode_record(task.record), describe(task)
        kept = [note for note in fleet.notes[seen:] if (note.process, note.what) == (a.id, "kept")]
        assert {note.call for note in kept} <= {later.name}, "what a fenced handler keeps is not kept"


async def test_a_client_that_polls_any_replica_never_meets_an_unknown_id(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with open_pair(tmp_path, redis, HANG_SECONDS) as campaign:
        fleet = campaign.fleet
        with trio.fail_after(HANG_SECONDS):
            async with open_client(fleet.members["a"].url) as client, trio.open_nursery() as nursery:
                for number in range(30):
                    call = await campaign.call_one(client, "restarting", number % 2)
                    nursery.start_soon(poll, fleet, "ab"[:: 1 if number % 3 else -1], call)
                fleet.generation = 1
        campaign.require_ended(await fleet.read_store())


async def restart(redis: RedisServer) -> None:
    await trio.to_thread.run_sync(redis.stop, signal.SIGKILL)
    await trio.to_thread.run_sync(redis.start)


async def stand_still(redis: RedisServer) -> None:
    redis.freeze()
    await trio.sleep(FROZEN_SECONDS)
    redis.thaw()


@pytest.mark.parametrize(
    ("outage", "lease"),
    [
        pytest.param(restart, SHORT_LEASE, id="restarted"),
        pytest.param(restart, HANG_SECONDS, id="restarted-lease-kept", marks=pytest.mark.slow),
        pytest.param(stand_still, SHORT_LEASE, id="frozen-lease-lost", marks=pytest.mark.slow),
        pytest.param(stand_still, HANG_SECONDS, id="frozen"),
    ],
)
async def test_nothing_is_lost_if_the_server_of_the_store_is_away(
    redis: RedisServer, tmp_path: Path, outage: Outage, lease: float
) -> None:
    async with open_pair(tmp_path, redis, lease) as campaign:
        fleet = campaign.fleet
        tool = "failing" if lease == HANG_SECONDS else "restarting"
        calls = [*await begin(campaign, "a", tool), *await begin(campaign, "b", tool)]
        with trio.fail_after(HANG_SECONDS):
            async with trio.open_nursery() as nursery:
                for call in calls:
                    await nursery.start(partial(poll, fleet, "ab", call))
                    await nursery.start(await_result, fleet, campaign.random.choice("ab"), call)
                before = await fleet.read_store()
                await outage(redis)
                seen = len(fleet.notes)
                for call in calls:
                    await fleet.wait_note("kept", start=seen, call=call.name)
                fleet.generation = 1
        after = await fleet.read_store()
        campaign.require_kept(before, after)
        campaign.require_ended(after)
