"""Cells of background tasks, many at once through one client, beside FastMCP with its tasks extra.

Only like work is compared: a task is created, reports twenty updates in a tight loop, and its result is
awaited and checked. FastMCP's tasks run in its memory backend, which needs no service. They carry no progress
over the wire, so only trio_mcp takes part in the cells with a progress handler. Needs only the standard
library.
"""

from functools import partial

from cells.cell import OURS, Cell, Sampler
from cells.checkout import Checkout, Command
from cells.peers import find_python, run_script
from cells.selection import Selection
from cells.worker import Worker

RIVAL = "fastmcp"
TRANSPORTS = ("stdio", "memory")
PROTOCOLS = ("2026-07-28", "2025-11-25")
WARM_UP = ("results", 30)
TARGETS = {RIVAL: 10.0}


def key_of(contestant: str, transport: str, protocol: str) -> str:
    return f"{contestant} {transport} {protocol}"


def command_of(contestant: str, transport: str, protocol: str, checkout: Checkout) -> Command:
    if contestant == OURS:
        return checkout.run_script("trio_mcp_task_worker.py", transport, protocol)
    return run_script(find_python(RIVAL), "fastmcp_task_worker.py", transport)


class TaskCells:
    """Collects the selected cells, and starts the workers that they need."""

    def __init__(self, tasks: int, selection: Selection) -> None:
        self.cells: list[Cell] = []
        self.workers: dict[str, Worker] = {}
        self._tasks = tasks
        self._only = selection.only
        self._checkout = selection.checkout

    def add_runs(self, what: str, name: str, transport: str, protocol: str, *contestants: str) -> None:
        """Add a cell of the rate, and one of the CPU time in the same runs."""
        place = transport if protocol == PROTOCOLS[0] else f"{transport} {protocol}"
        titles = f"{name}, {place}", f"{name}, CPU of one, {place}"
        if not any(self._only in title for title in titles):
            return
        workers = {name: self._start(name, transport, protocol) for name in contestants}
        runs: dict[str, Sampler] = {
            name: partial(worker.measure, what, self._tasks) for name, worker in workers.items()
        }
        cpu: dict[str, Sampler] = {name: partial(self._cpu_of, worker) for name, worker in workers.items()}
        self.cells.append(Cell(titles[0], runs, TARGETS, self._tasks))
        self.cells.append(Cell(titles[1], cpu, {}, unit="us"))

    def add_record(self, protocol: str) -> None:
        title = f"a finished task's record, {protocol}"
        if self._only in title:
            worker = self._start(OURS, "memory", protocol)
            self.cells.append(Cell(title, {OURS: partial(self._record, worker)}, {}, unit="bytes"))

    def _start(self, contestant: str, transport: str, protocol: str) -> Worker:
        key = key_of(contestant, transport, protocol)
        if key not in self.workers:
            # FastMCP's backend writes to standard error whenever it drops one of its own messages.
            quiet = contestant == RIVAL
            command = command_of(contestant, transport, protocol, self._checkout)
            self.workers[key] = Worker(key, command, quiet=quiet, warm_up=WARM_UP)
        return self.workers[key]

    def _cpu_of(self, worker: Worker) -> float:
        return float(worker.last["cpu"]) / self._tasks

    def _record(self, worker: Worker) -> float:
        worker.measure("records", self._tasks)
        return float(worker.last["bytes"])


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    is_full = selection.is_full and not selection.is_quick
    tasks = 1000 if is_full else 50
    task_cells = TaskCells(tasks, selection)
    both = (OURS, RIVAL) if selection.admits(RIVAL) else (OURS,)
    name = f"{tasks:,} tasks of 20"
    for transport in TRANSPORTS if is_full else TRANSPORTS[:1]:
        task_cells.add_runs("results", name, transport, PROTOCOLS[0], *both)
    if is_full:
        for transport in TRANSPORTS:
            for protocol in PROTOCOLS:
                task_cells.add_runs("followed", f"{name} followed", transport, protocol, OURS)
        for protocol in PROTOCOLS:
            task_cells.add_record(protocol)
    return task_cells.cells, task_cells.workers
