"""A Redis server that cannot be used, goes away, stands still or is full; calls that are cancelled."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

import trio_mcp
from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import PROGRAMS, RedisServer, run_redis_server
from tests.tasks.store_cases import NOW, completed, held, make_record, put, read_until
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.record import TaskRecord, new_task_id, utc_now
from trio_mcp.tasks.redis_link import ServerAwayError
from trio_mcp.tasks.redis_store import RedisTaskStore
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_task import TaskWork
from trio_mcp.wire.errors import LocalProtocolError

TOOLS = {"tool"}
_numbers = count()

NewStore: TypeAlias = Callable[..., RedisTaskStore]


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with run_redis_server(request.param, appendonly=True) as running:
        yield running


@pytest.fixture
def new_store(server: RedisServer) -> Iterator[NewStore]:
    prefix = f"failures-{next(_numbers)}"

    def new(url: str | None = None, **options: Any) -> RedisTaskStore:
        options = {"timeout": HANG_SECONDS, **options}
        return RedisTaskStore(url or server.url, prefix=prefix, **options)

    yield new
    server.thaw()


async def fail_to_open(store: RedisTaskStore) -> str:
    """What the store says when it cannot be opened."""
    with trio.fail_after(HANG_SECONDS), pytest.raises(TaskStoreError) as refusal:
        async with store.open():
            raise AssertionError("it was opened")
    assert "secret" not in str(refusal.value), "no message has the password"
    return str(refusal.value)


# what cannot be used

WRONG_URLS = [
    "",
    "localhost:6379",
    "http://localhost",
    "redis://localhost:x/0",
    "redis://localhost:99999/0",
    "redis://user:secret@localhost/tasks",
    "redis://user:secret@localhost/0?db=1",
]


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(TaskStoreError, match="must look like redis://") as refusal:
        RedisTaskStore(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_a_store_shows_its_server_without_the_password(scheme: str) -> None:
    store = RedisTaskStore(f"{scheme}://user:secret@example.com:1234/5")
    assert repr(store) == f"<RedisTaskStore {scheme}://example.com:1234/5 closed>"
    assert "secret" not in repr(vars(store))


@pytest.mark.parametrize("option", ["lease", "write_behind", "timeout", "max_records", "max_reports"])
@pytest.mark.parametrize("value", [0, -1, None, "9"])
def test_options_are_larger_than_0(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        RedisTaskStore("redis://localhost", **{option: value})


@pytest.mark.parametrize("prefix", ["", "a{b", "}"])
def test_a_prefix_has_no_braces(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        RedisTaskStore("redis://localhost", prefix=prefix)


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    said = await fail_to_open(RedisTaskStore(f"redis://:secret@127.0.0.1:{port}"))
    assert f"redis://127.0.0.1:{port}/0 cannot be used" in said


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"-ERR no\r\n", b"+OK\r\n"])
async def test_a_server_that_is_no_redis(says: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(says)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        said = await fail_to_open(RedisTaskStore(f"redis://localhost:{port}", timeout=0.5))
        assert f"redis://localhost:{port}/0 " in said
        nursery.cancel_scope.cancel()


async def test_a_wrong_password(server: RedisServer) -> None:
    with run_redis_server(password="right") as closed:
        for url in (closed.url.replace("right", "secret"), closed.url.replace(":right@", "")):
            said = await fail_to_open(RedisTaskStore(url))
            assert "refuses the user or password of the URL" in said
        async with RedisTaskStore(closed.url).open():
            pass


async def test_a_database_that_there_is_not(server: RedisServer) -> None:
    said = await fail_to_open(RedisTaskStore(server.url.replace("/0", "/99")))
    assert "has no database 99" in said


async def test_a_read_only_replica(server: RedisServer) -> None:
    with run_redis_server() as replica:
        replica.command("REPLICAOF", "127.0.0.1", str(server.port))
        said = await fail_to_open(RedisTaskStore(replica.url))
        assert "is a read-only replica" in said


async def test_tasks_of_a_newer_version(new_store: NewStore, server: RedisServer) -> None:
    store = new_store()
    async with store.open():
        pass
    server.command("SET", f"{{failures-{next(_numbers) - 1}}}:layout", "99")
    assert "newer version" in await fail_to_open(store)


async def test_a_record_that_another_program_has_written(new_store: NewStore, server: RedisServer) -> None:
    async with opened(new_store()) as store:
        record = await held(store, make_record())
        key = f"{{failures-{next(_numbers) - 1}}}:t:{record.id}"
        assert server.command("HSET", key, "r", "{}") == ":0"
        with pytest.raises(TaskStoreError, match="another program"):
            await store.get(record.id, NOW)
        with pytest.raises(TaskStoreError, match="another program"):
            async with store.subscribe(record.id):
                pass


async def test_a_server_without_memory_says_so_and_still_lets_go(
    new_store: NewStore, server: RedisServer
) -> None:
    async with opened(new_store()) as store:
        record, other = await held(store, make_record()), await held(store, make_record())
        try:
            server.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(TaskStoreError, match="no memory left"):
                await store.create(make_record())
            with pytest.raises(TaskStoreError, match="no memory left"):
                await put(store, completed(record))
            assert await store.get(record.id, NOW) == record
            cancelled = await store.cancel(other.id, NOW)
            assert cancelled is not None
            assert cancelled.is_final
            await store.delete(other.id)
            assert "no memory left" in await fail_to_open(new_store())
        finally:
            server.command("CONFIG", "SET", "maxmemory", "0")
        assert not await put(store, completed(record)), "it is held all the time"


@pytest.mark.parametrize("policy", ["noeviction", "volatile-ttl", "allkeys-lru"])
@pytest.mark.parametrize("limit", ["0", "1gb"])
async def test_a_store_warns_of_a_server_that_evicts_tasks(
    new_store: NewStore, server: RedisServer, caplog: pytest.LogCaptureFixture, policy: str, limit: str
) -> None:
    try:
        server.command("CONFIG", "SET", "maxmemory", limit, "maxmemory-policy", policy)
        async with new_store().open():
            pass
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("trio_mcp")]
    if policy == "noeviction" or limit == "0":
        assert warnings == []
    else:
        (warning,) = warnings
        assert f"set its maxmemory-policy to noeviction, not {policy}" in warning


async def test_a_store_asks_nothing_of_a_user_who_may_not_know_of_the_memory(
    new_store: NewStore, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        server.command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "&*", "+@all", "-info")
        async with new_store(server.url.replace("//", "//plain:secret@")).open():
            pass
    finally:
        server.command("ACL", "DELUSER", "plain")
    assert [record for record in caplog.records if record.name.startswith("trio_mcp")] == []


async def test_a_store_is_open_once(new_store: NewStore) -> None:
    store = new_store()
    with pytest.raises(LocalProtocolError, match="opened before"):
        await store.get("id", NOW)
    async with store.open():
        assert "is open already" in await fail_to_open(store)
        await store.create(make_record())


async def test_a_forked_process_opens_its_own(new_store: NewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(new_store()) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(TaskStoreError, match="forked"):
                await store.create(make_record())


def test_without_coredis_the_store_says_what_is_missing() -> None:
    code = "import sys; sys.modules['coredis'] = None\nimport trio_mcp; trio_mcp.RedisTaskStore"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: RedisTaskStore needs coredis: pip install 'trio-mcp[redis]'" in done.stderr
    assert trio_mcp.RedisTaskStore is RedisTaskStore


# a server that goes away


@asynccontextmanager
async def opened(store: RedisTaskStore) -> AsyncIterator[RedisTaskStore]:
    async with store.open():
        yield store


@contextmanager
def impatient(store: RedisTaskStore) -> Iterator[None]:
    """Let calls fail soon for as long as the block lasts: the server is known to be away."""
    link = store._session.link
    before, link.seconds = link.seconds, 0.3
    try:
        yield
    finally:
        link.seconds = before


async def create_soon(store: RedisTaskStore, record: TaskRecord) -> None:
    """Create a task once the server is back."""
    with trio.fail_after(HANG_SECONDS):
        while True:
            try:
                await store.create(record)
            except TaskStoreError:
                await trio.sleep(0.05)
            else:
                return


async def recover_soon(store: RedisTaskStore, task_id: str) -> None:
    """Recover a task once its lease has ended."""
    with trio.fail_after(HANG_SECONDS):
        while True:
            if task_id in [record.id for record in await store.recover(utc_now())]:
                return
            await trio.sleep(0.05)


async def test_a_restart_of_the_server_loses_nothing(new_store: NewStore, server: RedisServer) -> None:
    async with opened(new_store(lease=300)) as store, opened(new_store(lease=300)) as other:
        records = [await held(store, make_record()) for _ in range(50)]
        await put(store, completed(records[0]))
        waiting = trio.Event()

        async def work(task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            while not waiting.is_set():
                with suppress(TaskStoreError):  # a call that was under way when the server was killed
                    await other.wait_claimable(TOOLS, utc_now())
                    if await other.claim(TOOLS, 1, utc_now()):
                        waiting.set()

        async with other.subscribe(records[1].id) as changes, trio.open_nursery() as nursery:
            await nursery.start(work)
            await trio.testing.wait_all_tasks_blocked()
            server.stop(signal.SIGKILL)
            for call in (store.get(records[0].id, NOW), put(store, completed(records[1]))):
                with impatient(store), pytest.raises(TaskStoreError, match=f"127.0.0.1:{server.port}/0 "):
                    await call
            server.start()
            await create_soon(store, make_record())
            newer = records[1].changed(NOW)
            await put(store, newer)
            assert await read_until(changes, newer.version) == newer
            assert await store.get(records[0].id, NOW) == completed(records[0])
            for record in records[2:]:
                assert not await put(store, completed(record)), "all are still held"
            await store.create(make_record(), is_queued=True)
            with trio.fail_after(HANG_SECONDS):
                await waiting.wait()


async def test_whatever_may_have_been_missed_is_named(new_store: NewStore, server: RedisServer) -> None:
    async with opened(new_store(lease=300)) as store:
        records = [await held(store, make_record()) for _ in range(3)]
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        with trio.fail_after(HANG_SECONDS):
            named = []
            while len(named) < len(records):
                named.append(await store.wait_changed())
        assert sorted(named) == sorted(record.id for record in records)


async def test_a_subscription_begins_when_the_server_is_back(
    new_store: NewStore, server: RedisServer
) -> None:
    async with opened(new_store(lease=300)) as store:
        record = await held(store, make_record())
        server.stop()
        async with trio.open_nursery() as nursery:
            subscribed = trio.Event()

            async def watch() -> None:
                async with store.subscribe(record.id) as changes:
                    subscribed.set()
                    await read_until(changes, 1)

            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            assert not subscribed.is_set()
            server.start()
            with trio.fail_after(HANG_SECONDS):
                await subscribed.wait()
            assert not await put(store, record.changed(NOW))


async def test_a_server_that_stands_still_for_a_while_loses_nothing(
    new_store: NewStore, server: RedisServer
) -> None:
    """Calls wait until it goes on, and each is carried out once."""
    async with opened(new_store(timeout=HANG_SECONDS)) as store:
        records = [await held(store, make_record()) for _ in range(20)]
        created = [make_record() for _ in range(20)]
        server.freeze()
        async with trio.open_nursery() as nursery:
            for record, new in zip(records, created, strict=True):
                nursery.start_soon(put, store, completed(record))
                nursery.start_soon(store.create, new)
            await trio.sleep(5)
            server.thaw()
        for record, new in zip(records, created, strict=True):
            assert await store.get(record.id, NOW) == completed(record)
            assert not await put(store, completed(new))


async def test_what_was_created_without_an_answer_is_removed(
    new_store: NewStore, server: RedisServer
) -> None:
    """Its caller was told of a failure, so nobody would run it."""
    async with opened(new_store(lease=300)) as store:
        record, queued = make_record(), make_record()
        server.freeze()
        for is_queued, new in ((False, record), (True, queued)):
            with impatient(store), trio.fail_after(HANG_SECONDS), pytest.raises(ServerAwayError):
                await store.create(new, is_queued=is_queued)
        server.thaw()
        await create_soon(store, make_record())
        assert await store.get(record.id, NOW) is None
        assert await store.get(queued.id, NOW) is None
        assert await store.claim(TOOLS, 9, utc_now()) == []
        await store.create(record)


async def test_what_was_claimed_without_an_answer_is_queued_again(
    new_store: NewStore, server: RedisServer
) -> None:
    async with opened(new_store(lease=300)) as store, opened(new_store(lease=300)) as other:
        await store.create(make_record(), is_queued=True)
        server.freeze()
        with impatient(store), trio.fail_after(HANG_SECONDS), pytest.raises(ServerAwayError):
            await store.claim(TOOLS, 9, utc_now())
        server.thaw()
        await create_soon(store, make_record(tool="other"))
        (task,) = await other.claim(TOOLS, 9, utc_now())
        assert not await put(other, completed(task.record), claim=task.claim)


async def test_a_task_that_could_not_be_released_is_queued_when_the_server_is_back(
    new_store: NewStore, server: RedisServer
) -> None:
    async with opened(new_store(lease=300)) as store:
        record = await held(store, make_record())
        server.freeze()
        with impatient(store), trio.fail_after(HANG_SECONDS), pytest.raises(ServerAwayError):
            await store.release(record.changed(NOW), 1)
        server.thaw()
        await create_soon(store, make_record(tool="other"))
        (task,) = await store.claim(TOOLS, 9, utc_now())
        assert (task.record.id, task.claim) == (record.id, 2)


async def test_a_server_that_is_away_for_longer_than_the_lease(
    new_store: NewStore, server: RedisServer
) -> None:
    work = TaskWork(recover="restart", attempts=3)
    async with opened(new_store(lease=1.0)) as store:
        record = await held(store, make_record(), work)
        server.stop()
        with trio.fail_after(HANG_SECONDS):
            await store.wait_lost()
        server.start()
        again = make_record()
        await create_soon(store, again)
        assert list(await put(store, completed(record))) == [record.id]
        await recover_soon(store, record.id)
        assert (await store.claim(TOOLS, 1, utc_now()))[0].record.id == record.id


async def test_a_server_that_has_forgotten_its_scripts(new_store: NewStore, server: RedisServer) -> None:
    async with opened(new_store()) as store:
        server.command("SCRIPT", "FLUSH")
        record = await held(store, make_record())
        assert not await put(store, completed(record))


async def test_a_server_that_has_forgotten_everything(new_store: NewStore, server: RedisServer) -> None:
    """The lease is gone as well, so that all that was held is lost."""
    async with opened(new_store()) as store:
        record = await held(store, make_record())
        server.flush()
        again = make_record()
        await store.create(again)
        with trio.fail_after(HANG_SECONDS):
            await store.wait_lost()
        assert list(await put(store, completed(record))) == [record.id]
        assert not await put(store, completed(again))


# cancellation, and more than a reader takes


async def test_cancelled_calls_leave_the_answers_in_step(new_store: NewStore) -> None:
    chance = random.Random(1)
    async with opened(new_store(lease=300)) as store:
        records = [await held(store, make_record(status_message=f"message {i}")) for i in range(10)]

        async def call_and_cancel(number: int) -> None:
            record = records[number % 10]
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    match number % 4:
                        case 0:
                            nursery.start_soon(store.get, record.id, NOW)
                        case 1:
                            nursery.start_soon(put, store, record.changed(NOW))
                        case 2:
                            nursery.start_soon(store.create, make_record(tool="cancelled"))
                        case _:
                            nursery.start_soon(store.claim, TOOLS, 1, NOW)
                    for _ in range(chance.randrange(12)):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(call_and_cancel, number)

        found = await get_all(store, records)
        assert [record.status_message for record in found] == [f"message {i}" for i in range(10)]
        for record in records:
            assert not await put(store, completed(record.changed(NOW).changed(NOW))), "each is still held"


async def get_all(store: RedisTaskStore, records: list[TaskRecord]) -> list[TaskRecord]:
    found: dict[str, TaskRecord] = {}

    async def get(record: TaskRecord) -> None:
        newest = await store.get(record.id, NOW)
        assert newest is not None
        found[record.id] = newest

    async with trio.open_nursery() as nursery:
        for record in records:
            nursery.start_soon(get, record)
    return [found[record.id] for record in records]


async def test_a_task_whose_creation_is_cancelled_is_known_or_not_there(new_store: NewStore) -> None:
    """Nothing may be left "working" that nobody runs: a call that was sent is finished."""
    async with opened(new_store(lease=300)) as store:
        returned, ids = set(), [new_task_id() for _ in range(100)]

        async def create(task_id: str, turns: int) -> None:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def call() -> None:
                        returned.add((await store.create(make_record(id=task_id))).record.id)

                    nursery.start_soon(call)
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

        async with trio.open_nursery() as nursery:
            for number, task_id in enumerate(ids):
                nursery.start_soon(create, task_id, number % 10)
        for task_id in ids:
            assert (await store.get(task_id, NOW) is not None) == (task_id in returned)


async def test_a_flood_of_changes_takes_no_memory(new_store: NewStore) -> None:
    """The library keeps what the server says unasked without bound, unless somebody always takes it.

    It also keeps the bytes of a stream in which no read ends with a message.
    """
    async with opened(new_store(lease=300)) as store, opened(new_store(lease=300)) as other:
        record = await held(store, make_record())
        text = "x" * 10_000
        async with other.subscribe(record.id) as changes:
            tracemalloc.start()
            try:
                for _ in range(30):
                    batch = []
                    for _ in range(100):
                        record = record.changed(NOW, status_message=text)
                        batch.append(TaskChange(record))
                    assert not await store.put(batch)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert await read_until(changes, record.version) == record
            assert peak < 15_000_000, "of 30 MB that were published"
