"""Measures the constants of `capacity_model.py` with a Redis server that it starts itself.

What counts is the processor time of the server's main thread, as it tells it, so other work on the machine
matters little. Only the methods of a TaskStore are used. Needs trio_mcp with the extra `redis`, and the
program redis-server (or that in TRIO_MCP_REDIS_SERVER).
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime

import trio
from msgspec import Raw

from capacity_model import Costs
from cells.redis_server import find_server, run_redis
from trio_mcp import TaskRecord, TaskStatus
from trio_mcp.tasks.record import BEARER, Outcome
from trio_mcp.tasks.redis_store import RedisTaskStore
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_task import CLAIM_BITS, StoredReport, TaskWork

TASKS = 500
ROUNDS = 20
MORE_REPORTS = 10
FOLLOWERS = 3
SECONDS = 120
"""How long the measuring may take at most."""

RESULT = Raw(b'{"content":[{"type":"text","text":"240 of 240 files copied"}],"isError":false}')
WORK = TaskWork(arguments=Raw(b'{"source":"/srv/data","target":"/mnt/backup"}'), era="2026-07-28")


class Server:
    """A Redis server of our own; `spend` and `memory` are what it says of itself."""

    def __init__(self, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def info(self, section: str) -> dict[str, str]:
        """The lines of INFO as a dict."""
        self._socket.sendall(f"INFO {section}\r\n".encode())
        data = self._socket.recv(65536)
        while b"\r\n" not in data:
            data += self._socket.recv(65536)
        head, _, rest = data.partition(b"\r\n")
        while len(rest) < int(head[1:]) + 2:
            rest += self._socket.recv(65536)
        lines = rest.decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def spent(self) -> float:
        """The microseconds that its main thread has worked so far."""
        cpu = self.info("cpu")
        names = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
        return sum(float(cpu[name]) for name in names) * 1e6

    def memory(self) -> int:
        """The bytes of its data and of what it needs to run."""
        return int(self.info("memory")["used_memory"])


@contextmanager
def open_server() -> Iterator[Server]:
    """Start a server on a free port, without files, for as long as the block lasts."""
    program = find_server("redis")
    if program is None:
        raise SystemExit("nothing can be measured without redis-server")
    with run_redis(program) as port:
        yield Server(port)


def measure() -> Costs:
    """Start a server, measure, and stop it."""
    with open_server() as server:
        return trio.run(_measure, server)


async def _measure(server: Server) -> Costs:
    with trio.fail_after(SECONDS):
        store = RedisTaskStore(server.url)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(store.open())
            fleet = _Fleet(store)
            empty = server.memory()
            create = await _cost(server, fleet.create, TASKS)
            created = server.memory()
            one = await _cost(server, lambda: fleet.put(1), TASKS * ROUNDS)
            more = await _cost(server, lambda: fleet.put(1 + MORE_REPORTS), TASKS * ROUNDS)
            report = max((more - one) / MORE_REPORTS, 0)
            filled = server.memory()
            read = await _cost(server, fleet.read, TASKS * ROUNDS)
            renew = await _cost(server, fleet.claim_nothing, TASKS)
            for _ in range(FOLLOWERS):
                follower = RedisTaskStore(server.url)
                await stack.enter_async_context(follower.open())
                for task_id in fleet.ids:
                    await stack.enter_async_context(follower.subscribe(task_id))
            followed = await _cost(server, lambda: fleet.put(1), TASKS * ROUNDS)
            end = await _cost(server, fleet.end, TASKS)
            tell = max((followed - one) / FOLLOWERS, 0)
        reports = min((2 + MORE_REPORTS) * ROUNDS, 256)
        return Costs(
            put=round(one - report, 1),
            report=round(report, 1),
            tell=round(tell, 1),
            create=round(create, 1),
            end=round(end - FOLLOWERS * tell, 1),
            read=round(read, 1),
            renew=round(renew, 1),
            task_bytes=round((created - empty) / TASKS),
            report_bytes=round((filled - created) / TASKS / reports),
        )


async def _cost(server: Server, work: Callable[[], Awaitable[None]], times: int) -> float:
    before = server.spent()
    await work()
    return (server.spent() - before) / times


class _Fleet:
    """Tasks of one process, whose store holds them."""

    def __init__(self, store: RedisTaskStore) -> None:
        self.store = store
        self.records: dict[str, TaskRecord] = {}
        self._offset = 1 << CLAIM_BITS

    @property
    def ids(self) -> list[str]:
        return list(self.records)

    async def create(self) -> None:
        for number in range(TASKS):
            now = datetime.now(UTC)
            record = TaskRecord(
                id=f"{number:032}", tool="backup", owner=BEARER, created_at=now, last_updated_at=now, ttl=3600
            )
            await self.store.create(record, WORK)
            self.records[record.id] = record

    async def put(self, reports: int) -> None:
        """Put every task in one go, once in each round."""
        for _ in range(ROUNDS):
            now = datetime.now(UTC)
            news = []
            for _ in range(reports):
                self._offset += 1
                news.append(StoredReport(self._offset, 17, 240, "copied photos/2024/summer/0017.jpg", 0))
            for task_id, record in self.records.items():
                self.records[task_id] = record.reported(now, 17, 240, news[-1].message)
            changes = [TaskChange(record, 1, news) for record in self.records.values()]
            await self.store.put(changes)

    async def read(self) -> None:
        now = datetime.now(UTC)
        for _ in range(ROUNDS):
            for task_id in self.records:
                await self.store.get(task_id, now)

    async def claim_nothing(self) -> None:
        for _ in range(TASKS):
            await self.store.claim(["nothing"], 1, datetime.now(UTC))

    async def end(self) -> None:
        now = datetime.now(UTC)
        outcome = Outcome("result", RESULT)
        ended = [r.moved(TaskStatus.COMPLETED, now, outcome=outcome) for r in self.records.values()]
        await self.store.put([TaskChange(record) for record in ended])
