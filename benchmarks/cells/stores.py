"""Cells of tasks that outlive their process: what the stores cost beside memory, and beside others on Redis.

Every store is durable: SQLite commits to a file on the disk, and the Redis servers, which the run starts and
stops, write an append-only file. All contestants use the same server with the same number of tasks in flight,
and await each result. FastMCP's tasks run in its server, as ours do beside it. streaQ is a queue without
progress, so beside it our tasks report nothing, are queued by one process and run by another. Needs only the
standard library.
"""

import tempfile
from functools import cached_property, partial
from pathlib import Path

from cells.cell import OURS, Cell, Sampler
from cells.checkout import THIS, Command
from cells.peers import find_python, run_script
from cells.redis_server import PERSISTENT, find_server, run_redis
from cells.selection import Selection
from cells.worker import Worker

FASTMCP = "fastmcp"
STREAQ = "streaq"
MEMORY = "trio_mcp memory"
VALKEY = "trio_mcp Valkey"
SCRIPT = "trio_mcp_store_worker.py"
TARGETS = {FASTMCP: 5.0, STREAQ: 1.0, MEMORY: 1 / 3}


class Places:
    """Where tasks are kept during a run; a server starts when it is first asked for."""

    def __init__(self, selection: Selection) -> None:
        self._at_end = selection.at_end

    @cached_property
    def redis(self) -> str | None:
        return self._start("redis")

    @cached_property
    def valkey(self) -> str | None:
        return self._start("valkey")

    @cached_property
    def sqlite(self) -> str:
        # Beside the checkout, because directories for temporary files often are in memory.
        build = THIS.root / "build"
        build.mkdir(exist_ok=True)
        directory = self._at_end.enter_context(tempfile.TemporaryDirectory(dir=build, prefix="tasks-"))
        return f"sqlite:{Path(directory, 'tasks.db')}"

    def _start(self, kind: str) -> str | None:
        program = find_server(kind)
        if program is None:
            return None
        return f"redis://127.0.0.1:{self._at_end.enter_context(run_redis(program, *PERSISTENT))}/0"


class StoreCells:
    """Collects the selected cells, and starts the servers and workers that they need."""

    def __init__(self, selection: Selection) -> None:
        self.cells: list[Cell] = []
        self.workers: dict[str, Worker] = {}
        self._selection = selection
        self._places = Places(selection)

    def add_sqlite(self, what: str, name: str, amount: int, targets: dict[str, float]) -> None:
        """Add a cell of tasks in SQLite beside those in memory."""
        title = f"{name} in SQLite, stdio"
        if self._selection.only in title:
            runs = {OURS: self._ours(what, amount, self._places.sqlite)}
            if self._selection.has_rivals:
                runs[MEMORY] = self._ours(what, amount, "memory:")
            self.cells.append(Cell(title, runs, targets, amount))

    def add_redis(self, what: str, name: str, amount: int, *rivals: str) -> None:
        """Add a cell of tasks in Redis beside those in memory and Valkey, and rivals on that Redis."""
        title = f"{name} in Redis, stdio"
        if self._selection.only not in title or (redis := self._places.redis) is None:
            return
        runs = {OURS: self._ours(what, amount, redis)}
        if self._selection.has_rivals:
            runs[MEMORY] = self._ours(what, amount, "memory:")
            if self._places.valkey is not None:
                runs[VALKEY] = self._ours(what, amount, self._places.valkey)
        for rival in filter(self._selection.admits, rivals):
            command = run_script(find_python(rival), "fastmcp_task_worker.py", "stdio", redis)
            runs[rival] = self._sampler(f"{rival} {redis}", command, what, amount)
        self.cells.append(Cell(title, runs, {name: TARGETS[name] for name in rivals}, amount))

    def add_queue(self, amount: int) -> None:
        """Add a cell of tasks that one process queues in Redis and another runs, beside streaQ."""
        title = f"{amount:,} queued tasks in Redis"
        if self._selection.only not in title or (redis := self._places.redis) is None:
            return
        runs = {OURS: self._ours("queued", amount, redis, "queue")}
        if self._selection.admits(STREAQ):
            command = run_script(find_python(STREAQ), "streaq_worker.py", redis)
            runs[STREAQ] = self._sampler(STREAQ, command, "queued", amount)
        self.cells.append(Cell(title, runs, {STREAQ: TARGETS[STREAQ]}, amount))

    def _ours(self, what: str, amount: int, url: str, transport: str = "stdio") -> Sampler:
        command = self._selection.checkout.run_script(SCRIPT, transport, url)
        return self._sampler(f"{OURS} {transport} {url}", command, what, amount)

    def _sampler(self, key: str, command: Command, what: str, amount: int) -> Sampler:
        if key not in self.workers:
            # As many as later, because streaQ opens a connection for each task that is awaited at once.
            warm_up = ("queued", amount) if what == "queued" else ("results", 30)
            # The others write to standard error what is no failure of theirs.
            self.workers[key] = Worker(key, command, quiet=not key.startswith(OURS), warm_up=warm_up)
        return partial(self.workers[key].measure, what, amount)


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    store_cells = StoreCells(selection)
    if not selection.checkout.has_script(SCRIPT):
        return [], {}  # a version that has no such stores
    is_full = selection.is_full and not selection.is_quick
    # Fewer than in memory: FastMCP takes a minute for a thousand tasks in Redis.
    tasks = 200 if is_full else 50
    updates = selection.updates // (1 if is_full else 5)
    updates -= updates % 10
    names = f"{tasks:,} tasks of 20", f"{updates:,} updates of 10 tasks"
    store_cells.add_sqlite("results", names[0], tasks, {MEMORY: TARGETS[MEMORY]})
    store_cells.add_sqlite("updates", names[1], updates, {})
    store_cells.add_redis("results", names[0], tasks, FASTMCP)
    store_cells.add_redis("updates", names[1], updates, FASTMCP)
    store_cells.add_queue(tasks)
    if is_full:
        store_cells.add_sqlite("followed", f"{names[0]} followed", tasks, {})
        store_cells.add_redis("followed", f"{names[0]} followed", tasks)
    return store_cells.cells, store_cells.workers
